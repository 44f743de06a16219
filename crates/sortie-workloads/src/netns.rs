//! Network namespaces: naming them, and doing something inside one on a thread of its own.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::fstatfs;
use tokio::sync::oneshot;

use crate::Error;

/// A namespace answers at once; this bounds a kernel that is out of breath.
const LIMIT: Duration = Duration::from_secs(10);

/// Which namespace: device and inode of its file, equal as long as the namespace lives
/// (namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NamespaceId(u64, u64);

impl NamespaceId {
    /// Equal to no namespace's: for one that was not looked at yet.
    pub(crate) const UNKNOWN: Self = Self(0, 0);
}

/// An open network namespace; it stays alive while this does.
#[derive(Debug, Clone)]
pub(crate) struct Namespace {
    path: Arc<str>,
    file: Arc<File>,
    id: NamespaceId,
}

impl Namespace {
    /// The calling thread's own.
    pub(crate) fn own() -> Result<Self, Error> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// That of process `pid`; [`Error::Vanished`] when there is no such process any more.
    pub(crate) fn of_process(pid: u32) -> Result<Self, Error> {
        match Self::open(&format!("/proc/{pid}/ns/net")) {
            Err(Error::Namespace { source, .. })
                if source.kind() == io::ErrorKind::NotFound
                    || source.raw_os_error() == Some(nix::libc::ESRCH) =>
            {
                Err(Error::Vanished { pid })
            }
            other => other,
        }
    }

    /// That which is mounted at `path`; none if something else is there, or nothing that this
    /// mount namespace can see.
    pub(crate) fn mounted_at(path: &Path) -> Option<Self> {
        let namespace = Self::open(path.to_str()?).ok()?;
        let filesystem = fstatfs(namespace.file.as_fd()).ok()?.filesystem_type();
        (filesystem == nix::sys::statfs::NSFS_MAGIC).then_some(namespace)
    }

    fn open(path: &str) -> Result<Self, Error> {
        let failed = |source| Error::Namespace {
            operation: "open a network namespace",
            namespace: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        Ok(Self {
            path: path.into(),
            id: NamespaceId(metadata.dev(), metadata.ino()),
            file: Arc::new(file),
        })
    }

    /// Its identity.
    pub(crate) fn id(&self) -> NamespaceId {
        self.id
    }

    /// Its file, for messages that name a namespace by descriptor.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// An error of this namespace.
    pub(crate) fn failed(&self, operation: &'static str, source: io::Error) -> Error {
        Error::Namespace {
            operation,
            namespace: self.path.to_string(),
            source,
        }
    }

    /// Makes the calling thread a member. Only for threads made by [`on_thread`].
    pub(crate) fn enter(&self) -> Result<(), Error> {
        setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)
            .map_err(|errno| self.failed("enter a network namespace", errno.into()))
    }
}

/// Runs `work`, which may enter namespaces, on a thread that ends with it: a runtime's worker
/// would carry the namespace into whatever it runs next.
pub(crate) async fn on_thread<T: Send + 'static>(
    subject: &Namespace,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let (done, result) = oneshot::channel();
    std::thread::Builder::new()
        .name("netns".to_owned())
        .spawn(move || {
            // Nobody waits any more when the source was stopped meanwhile.
            let _ = done.send(work());
        })
        .map_err(|error| subject.failed("start a thread for a network namespace", error))?;
    match tokio::time::timeout(LIMIT, result).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(subject.failed(
            "look into a network namespace",
            io::Error::other("its thread ended early"),
        )),
        Err(_) => Err(subject.failed(
            "look into a network namespace",
            io::ErrorKind::TimedOut.into(),
        )),
    }
}
