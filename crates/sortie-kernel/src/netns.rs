//! Network namespaces: finding, making, telling apart, and running code inside.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The calling thread's namespace. Not `/proc/self`, which is the main thread's.
const CURRENT: &str = "/proc/thread-self/ns/net";

/// A network namespace that is kept alive by this value.
#[derive(Debug, Clone)]
pub struct Namespace {
    file: Arc<File>,
    identity: Identity,
}

/// Tells namespaces apart while they live (`namespaces(7)`); a number may be used again afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The device of nsfs.
    pub device: u64,
    /// The inode in it.
    pub inode: u64,
}

impl Identity {
    /// Of a namespace's file.
    ///
    /// # Errors
    /// When the file cannot be looked at.
    pub fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

impl Namespace {
    /// The calling thread's.
    pub fn current() -> Result<Self, Error> {
        Self::of_path(Path::new(CURRENT))
    }

    /// That of a process. Who must be sure that the pid is still the process he means opens a
    /// pidfd first and checks it afterwards.
    pub fn of_pid(pid: u32) -> Result<Self, Error> {
        Self::of_path(Path::new(&format!("/proc/{pid}/ns/net")))
    }

    /// That of a process, unless it is the calling thread's, which is the host's, or there is no such
    /// process.
    pub fn foreign(pid: u32) -> Result<Option<Self>, Error> {
        match Self::of_pid(pid) {
            Ok(found) => {
                let host = Self::current()?;
                Ok((found.identity() != host.identity()).then_some(found))
            }
            Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ESRCH)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// That which a file such as `/run/netns/NAME` or `/run/docker/netns/KEY` stands for.
    pub fn of_path(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Namespace {
            operation: "open",
            namespace: path.display().to_string(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        Self::of_file(file).map_err(failed)
    }

    fn of_file(file: File) -> io::Result<Self> {
        let identity = Identity::of(&file)?;
        let file = Arc::new(file);
        Ok(Self { file, identity })
    }

    /// That in which a socket was made.
    pub fn of_socket(socket: BorrowedFd<'_>) -> Result<Self, Error> {
        /// `linux/sockios.h`.
        const SIOCGSKNS: libc::c_ulong = 0x894c;
        let failed = |source| Error::Namespace {
            operation: "open",
            namespace: "of a socket".to_owned(),
            source,
        };
        // SAFETY: the request takes nothing and gives a descriptor of its own.
        let descriptor = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS as _) };
        if descriptor < 0 {
            return Err(failed(io::Error::last_os_error()));
        }
        // SAFETY: the kernel has just made it for us; it closes on exec (net/core/net_namespace.c).
        let file = File::from(unsafe { OwnedFd::from_raw_fd(descriptor) });
        Self::of_file(file).map_err(failed)
    }

    /// A new one without a name, with a loopback interface that is down; it goes with its last user.
    pub fn anonymous() -> Result<Self, Error> {
        on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| Error::Namespace {
                operation: "make",
                namespace: "without a name".to_owned(),
                source: errno.into(),
            })?;
            Self::current()
        })
    }

    /// Which one it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Runs code inside, on a thread of its own, and waits for it. Sockets opened there stay there.
    /// A panic inside goes on outside.
    pub fn enter<T: Send>(&self, run: impl FnOnce() -> T + Send) -> Result<T, Error> {
        on_own_thread(|| {
            setns(&*self.file, CloneFlags::CLONE_NEWNET).map_err(|errno| Error::Namespace {
                operation: "enter",
                namespace: format!("net:[{}]", self.identity.inode),
                source: errno.into(),
            })?;
            Ok(run())
        })
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A thread's namespace is its own: whatever it changes dies with it.
fn on_own_thread<T: Send>(run: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    thread::scope(|scope| {
        let handle = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, run)
            .map_err(|source: io::Error| Error::Namespace {
                operation: "make a thread for",
                namespace: String::new(),
                source,
            })?;
        handle
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
