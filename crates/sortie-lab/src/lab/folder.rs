//! A lab's folder, and the sweep of the folders, processes and cgroups of labs that were killed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Doing, Result};
use crate::space::{recorded, start_time};
use crate::wait::{SOON, eventually, eventually_true};

/// A folder that belongs to this process: it holds the lock in it for as long as the lab lives.
pub(crate) struct Folder {
    path: PathBuf,
    id: String,
    _lock: Flock<File>,
}

/// The name of the file in a host's folder that names its first process.
pub(crate) const RECORD: &str = "init";

const LOCK: &str = "lock";

impl Folder {
    /// Removes what dead labs left, then makes a folder.
    pub(crate) fn create(name: &str) -> Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let labs = std::env::temp_dir().join("sortie-lab");
        fs::create_dir_all(&labs).doing("make", labs.display())?;
        // Held while a folder has no lock of its own yet, so that no sweep takes it for a dead one.
        let _sweeping = lock(&labs.join(LOCK), FlockArg::LockExclusive)?;
        sweep(&labs)?;
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let id = format!("{name}-{}-{number}", std::process::id());
        let path = labs.join(&id);
        fs::create_dir(&path).doing("make", path.display())?;
        Ok(Self {
            _lock: lock(&path.join(LOCK), FlockArg::LockExclusiveNonblock)?,
            path,
            id,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The cgroup below which all containers of the lab are, in every hierarchy.
    pub(crate) fn cgroup(&self) -> String {
        cgroup(&self.id)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path, &self.id) {
            eprintln!("lab: {error}");
        }
    }
}

fn cgroup(id: &str) -> String {
    format!("sortie-lab-{id}")
}

fn lock(path: &Path, how: FlockArg) -> Result<Flock<File>> {
    let file = File::create(path).doing("create", path.display())?;
    Flock::lock(file, how)
        .map_err(|(_, error)| error)
        .doing("lock", path.display())
}

/// Removes the labs whose owner is dead: the kernel let go of its lock.
fn sweep(labs: &Path) -> Result<()> {
    for entry in fs::read_dir(labs).doing("list", labs.display())?.flatten() {
        let path = entry.path();
        if !path.is_dir() {
            continue;
        }
        let Ok(_owned) = lock(&path.join(LOCK), FlockArg::LockExclusiveNonblock) else {
            continue;
        };
        end_hosts(&path)?;
        remove(&path, &entry.file_name().to_string_lossy())?;
    }
    Ok(())
}

/// Ends the first process of each host in a dead lab, if it has not ended by itself yet.
fn end_hosts(lab: &Path) -> Result<()> {
    for host in fs::read_dir(lab).doing("list", lab.display())?.flatten() {
        let Some((pid, start)) = recorded(&host.path().join(RECORD)) else {
            continue;
        };
        let alive = || start_time(pid) == Some(start);
        if alive() {
            // It may end between the look and the signal; its id is not used again that fast.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        eventually_true(SOON, &format!("process {pid} of a killed lab ends"), || {
            !alive()
        })?;
    }
    Ok(())
}

fn remove(folder: &Path, id: &str) -> Result<()> {
    for cgroup in cgroups(&cgroup(id)) {
        // The kernel says EBUSY for a moment after the last process in it has ended.
        eventually(
            SOON,
            &format!("{} can be removed", cgroup.display()),
            || remove_cgroup(&cgroup),
        )?;
    }
    eventually(
        SOON,
        &format!("{} can be removed", folder.display()),
        || match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    )
}

/// The folders of a cgroup in all mounted hierarchies, version 1 and 2.
fn cgroups(name: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| {
            let (mount, kind) = line.split_once(" - ")?;
            let point = mount
                .split(' ')
                .nth(4)
                .filter(|_| kind.starts_with("cgroup"))?;
            Some(Path::new(point).join(name))
        })
        .filter(|path| path.is_dir())
        .collect();
    found.dedup();
    found
}

/// Removes a cgroup and those below it; only folders count, its files are the kernel's.
fn remove_cgroup(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
        remove_cgroup(&entry.path())?;
    }
    fs::remove_dir(path)
}
