//! The service manager's protocol: sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3),
//! spoken without its library. Whatever sends the same variables is a service manager here.

#[cfg(test)]
mod tests;

use std::env;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

/// The first descriptor that is passed (`SD_LISTEN_FDS_START`).
const FIRST_FD: RawFd = 3;
/// What only the process that the manager started may read.
pub(crate) const PASSED: [&str; 3] = ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"];

/// Where the manager listens.
#[derive(Debug)]
pub(crate) struct Notify {
    socket: UnixDatagram,
}

impl Notify {
    /// The manager that started this process or its parent; none without one. One that cannot be
    /// reached is told in the log: nothing depends on it here.
    pub(crate) fn from_environment() -> Option<Self> {
        let address = env::var("NOTIFY_SOCKET").ok()?;
        match Self::connect(&address) {
            Ok(notify) => Some(notify),
            Err(error) => {
                tracing::warn!(%error, address, "the service manager cannot be told anything");
                None
            }
        }
    }

    /// `@` begins a name in the abstract namespace (unix(7)).
    fn connect(address: &str) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        match address.strip_prefix('@') {
            Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
            None => socket.connect(address)?,
        }
        // A manager that does not read must not stop the agent.
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }

    /// Says lines of `VARIABLE=value`.
    pub(crate) fn say(&self, state: &str) {
        if let Err(error) = self.socket.send(state.as_bytes()) {
            tracing::debug!(%error, state, "the service manager was not told");
        }
    }

    /// From now on it is waited, for so long, until the manager has room for what it is told.
    pub(crate) fn waits(&self, limit: Duration) -> io::Result<()> {
        self.socket.set_nonblocking(false)?;
        self.socket.set_write_timeout(Some(limit))
    }

    /// Gives the manager a copy of a descriptor, which it passes to the next process that it starts
    /// for this service. It keeps it even when there is an error on it, as after a burst of events.
    /// The name is at most 255 bytes, without colons.
    pub(crate) fn store(&self, name: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        let state = format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0");
        let descriptors = [descriptor.as_raw_fd()];
        sendmsg::<()>(
            self.socket.as_raw_fd(),
            &[IoSlice::new(state.as_bytes())],
            &[ControlMessage::ScmRights(&descriptors)],
            MsgFlags::empty(),
            None,
        )?;
        Ok(())
    }

    /// The manager gives up its copies of the descriptors with this name.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        let state = format!("FDSTOREREMOVE=1\nFDNAME={name}");
        self.socket.send(state.as_bytes()).map(drop)
    }
}

/// Whether a service manager has started this process or its parent.
pub(crate) fn is_managed() -> bool {
    env::var_os("NOTIFY_SOCKET").is_some()
}

/// How often the manager wants to hear `WATCHDOG=1`; none when it does not, or asked another
/// process. The holder is asked, and the agent answers for it.
pub(crate) fn watchdog() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let asked = number("WATCHDOG_PID");
    let parent = u64::try_from(nix::unistd::getppid().as_raw()).ok();
    let micros = number("WATCHDOG_USEC")?;
    (asked.is_none() || asked == parent).then(|| Duration::from_micros(micros))
}

/// The descriptor of this name that a former process of the service left with the manager; others
/// are closed. To be called once, as [`passed`].
pub(crate) fn stored(name: &str) -> Option<OwnedFd> {
    let mut passed = passed().into_iter();
    passed.find_map(|(its_name, descriptor)| (its_name == name).then_some(descriptor))
}

/// The descriptors that the manager passes, with their names: those that a former process of the
/// service left with it. They are passed to the process that it starts, which may leave them to its
/// child. To be called once, before other threads open files.
pub(crate) fn passed() -> Vec<(String, OwnedFd)> {
    let variable = |name| env::var(name).ok();
    let number = |name| variable(name)?.parse::<u32>().ok();
    let to = number("LISTEN_PID");
    let parent = u32::try_from(nix::unistd::getppid().as_raw()).ok();
    if to.is_none() || (to != Some(std::process::id()) && to != parent) {
        return Vec::new();
    }
    let count = number("LISTEN_FDS").and_then(|count| RawFd::try_from(count).ok());
    let end = count.and_then(|count| FIRST_FD.checked_add(count));
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let mut passed = Vec::new();
    for (descriptor, name) in (FIRST_FD..end.unwrap_or(FIRST_FD)).zip(names.split(':')) {
        // SAFETY: only its flags are asked for: it may not be open.
        let open = unsafe { BorrowedFd::borrow_raw(descriptor) };
        if fcntl(open, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).is_ok() {
            // SAFETY: the manager passed it to this process, and nobody else here knows it.
            let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
            passed.push((name.to_owned(), descriptor));
        }
    }
    passed
}
