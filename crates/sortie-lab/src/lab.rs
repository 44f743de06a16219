//! A lab: one internet, its hosts, a folder for their files, and their end.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::unistd::geteuid;
use tokio::runtime::Runtime;

use crate::error::{Doing, LabError, Result};
use crate::host::{Host, HostSpec, Uplink};
use crate::internet::Internet;

mod folder;

pub(crate) use folder::{Folder, RECORD};

/// Hosts around an internet, in namespaces of their own. Nothing of the machine is changed.
///
/// Dropping it ends every process in it and removes its files. When the thread panics, the last
/// lines of the engines' and programs' logs are printed before.
pub struct Lab {
    folder: Arc<Folder>,
    runtime: Arc<Runtime>,
    internet: Internet,
    hosts: Mutex<Vec<Host>>,
    destinations: AtomicU8,
}

/// An IPv4 and an IPv6 address of the internet that nobody else in the lab was given.
///
/// With one for each workload, every frame on an uplink tells by its destination whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The address in 198.51.100.0/24.
    pub v4: IpAddr,
    /// The address in `2001:db8:51::/64`.
    pub v6: IpAddr,
}

impl Lab {
    /// Makes the internet of a lab, after removing what labs of dead processes left. The
    /// name is for the reader of files and messages; it need not be unique.
    ///
    /// # Errors
    /// [`LabError::NotRoot`]; what the kernel refuses.
    pub fn new(name: &str) -> Result<Self> {
        if !geteuid().is_root() {
            return Err(LabError::NotRoot);
        }
        let folder = Arc::new(Folder::create(name)?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .doing("start the runtime of", "the lab")?;
        let runtime = Arc::new(runtime);
        Ok(Self {
            internet: Internet::create(Arc::clone(&runtime))?,
            folder,
            runtime,
            hosts: Mutex::new(Vec::new()),
            destinations: AtomicU8::new(0),
        })
    }

    /// The outside of all hosts.
    pub fn internet(&self) -> &Internet {
        &self.internet
    }

    /// Makes a host.
    ///
    /// # Errors
    /// When an address cannot be read, or the kernel refuses something.
    pub fn host(&self, spec: &HostSpec) -> Result<Host> {
        let host = Host::create(spec, &self.folder, &self.internet, &self.runtime)?;
        self.hosts().push(host.clone());
        Ok(host)
    }

    /// A pair of destination addresses that was not given before.
    ///
    /// # Errors
    /// After 250 of them.
    pub fn destination(&self) -> Result<Destination> {
        const LAST: u8 = 250;
        let step = |given: u8| (given < LAST).then_some(given + 1);
        let given = self
            .destinations
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, step)
            .map_err(|_| LabError::Missing {
                object: "the lab".into(),
                what: format!("more than {LAST} destinations"),
            })?;
        let number = given + 1;
        Ok(Destination {
            v4: [198, 51, 100, number].into(),
            v6: [0x2001, 0xdb8, 0x51, 0, 0, 0, 0, u16::from(number)].into(),
        })
    }

    /// The folder of the lab's files; it goes with the lab.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// All uplinks of all hosts.
    pub(crate) fn uplinks(&self) -> Vec<Uplink> {
        self.hosts()
            .iter()
            .flat_map(|host| host.uplinks().to_vec())
            .collect()
    }

    fn hosts(&self) -> MutexGuard<'_, Vec<Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            print_logs(self.folder.path());
        }
        for host in self.hosts().drain(..) {
            if let Err(error) = host.end() {
                eprintln!("lab: {error}");
            }
        }
    }
}

fn print_logs(folder: &Path) {
    for path in logs(folder) {
        let tail = crate::process::tail(&path);
        if !tail.is_empty() {
            eprintln!("--- the end of {}\n{tail}", path.display());
        }
    }
}

/// The outputs of all programs: `HOST/NAME.out` and `HOST/NAME.err`.
fn logs(folder: &Path) -> Vec<PathBuf> {
    let hosts = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = hosts.flat_map(|host| {
        std::fs::read_dir(host.path())
            .into_iter()
            .flatten()
            .flatten()
    });
    let mut logs: Vec<PathBuf> = files
        .map(|file| file.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|ending| ending == "out" || ending == "err")
        })
        .collect();
    logs.sort();
    logs
}
