//! The lock that makes one process the only writer of its network namespace: an agent with its
//! holder, or a `sortie run` without an agent.

use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use crate::Error;
use crate::policies::write_whole;
use crate::process::started;

/// An abstract socket's name (unix(7)): one per network namespace, gone with its last holder.
const LOCK: &str = "sortie-agent";
/// Where a `sortie run` that has the lock is noted: its process and the time that it started.
const RUN: &str = "run.pid.json";

/// Takes the lock of the calling thread's network namespace.
///
/// # Errors
/// Who has it; the folder of notes tells an agent from a `sortie run`.
pub(crate) fn take(notes: &Path) -> Result<UnixListener, Error> {
    let address = SocketAddr::from_abstract_name(LOCK).map_err(Error::system("name the lock"))?;
    UnixListener::bind_addr(&address).map_err(|error| match (error.kind(), run(notes)) {
        (io::ErrorKind::AddrInUse, Some(pid)) => Error::RunHolds { pid },
        (io::ErrorKind::AddrInUse, None) => Error::SecondAgent,
        _ => Error::system("take the lock")(error),
    })
}

/// Notes that this process has the lock, as `sortie run`.
pub(crate) fn note_run(notes: &Path) -> Result<(), Error> {
    let pid = std::process::id();
    let this = (pid, started(pid).unwrap_or_default());
    let text = serde_json::to_string(&this).unwrap_or_default();
    write_whole(&notes.join(RUN), &text)
}

/// Takes the note back; one that stays names a process that is gone, and says nothing.
pub(crate) fn forget_run(notes: &Path) {
    let _ = fs::remove_file(notes.join(RUN));
}

/// The `sortie run` that is noted, while it lives.
pub(crate) fn run(notes: &Path) -> Option<u32> {
    let text = fs::read_to_string(notes.join(RUN)).ok()?;
    let (pid, since): (u32, u64) = serde_json::from_str(&text).ok()?;
    (started(pid) == Some(since)).then_some(pid)
}
