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

    /// Gives the manager a copy of a descriptor, which it passes to the next process that it starts
    /// for this service. It keeps it even when there is an error on it, as after a burst of events.
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

/// The descriptor of this name that a former process of the service left with the manager. To be
/// called once, before other threads open files.
pub(crate) fn stored(name: &str) -> Option<OwnedFd> {
    let variable = |name| env::var(name).ok();
    let own = variable("LISTEN_PID")? == std::process::id().to_string();
    let count: RawFd = variable("LISTEN_FDS")?.parse().ok()?;
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let mut found = None;
    for (descriptor, its_name) in (FIRST_FD..FIRST_FD.checked_add(count)?).zip(names.split(':')) {
        if own && its_name == name && found.is_none() {
            // SAFETY: the manager passed it to this process, and nobody else here knows it.
            let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
            fcntl(&descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok()?;
            found = Some(descriptor);
        }
    }
    found
}
