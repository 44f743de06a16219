//! A stand-in for the service manager: it speaks sd_notify(3)'s protocol, keeps what it is given, and
//! starts a service's next process with it.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use nix::cmsg_space;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, Shutdown, recvmsg, shutdown};
use sortie_lab::{Host, Process, Result, eventually};

use crate::stage::{LIMIT, sortie};

/// What is kept has numbers from here on, so that none is in the way where a service wants it.
const KEPT: RawFd = 512;

/// What systemd would be.
pub(crate) struct Manager {
    socket: Arc<UnixDatagram>,
    heard: Arc<Mutex<Heard>>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Heard {
    said: Vec<String>,
    kept: Vec<(String, OwnedFd)>,
}

impl Heard {
    /// One message, with what came with it.
    fn message(&mut self, text: &str, descriptors: Vec<OwnedFd>) {
        let name = text.lines().find_map(|line| line.strip_prefix("FDNAME="));
        let name = name.unwrap_or("stored");
        if text.lines().any(|line| line == "FDSTOREREMOVE=1") {
            self.kept.retain(|(its, _)| its != name);
        }
        let named = descriptors.into_iter().map(|it| (name.to_owned(), it));
        self.kept.extend(named);
        self.said.extend(text.lines().map(str::to_owned));
    }
}

impl Manager {
    /// Listens in the host's folder.
    pub(crate) fn new(host: &Host) -> Self {
        let socket = UnixDatagram::bind(host.folder().join("notify.sock")).expect("a socket");
        let socket = Arc::new(socket);
        let heard = Arc::<Mutex<Heard>>::default();
        let reader = {
            let (socket, heard) = (Arc::clone(&socket), Arc::clone(&heard));
            thread::spawn(move || {
                while let Some((text, descriptors)) = receive(&socket) {
                    lock(&heard).message(&text, descriptors);
                }
            })
        };
        Self {
            socket,
            heard,
            reader: Some(reader),
        }
    }

    /// Waits until something was said so many times since it was last forgotten.
    pub(crate) fn heard(&self, what: &str, times: usize) -> Result<()> {
        eventually(LIMIT, &format!("{what} is said"), || {
            let heard = lock(&self.heard);
            let said = heard.said.iter().filter(|said| *said == what).count();
            if said >= times {
                Ok(())
            } else {
                Err(format!("{:?}", heard.said))
            }
        })
    }

    pub(crate) fn forgets_what_was_said(&self) {
        lock(&self.heard).said.clear();
    }

    /// The names of what is kept.
    pub(crate) fn kept(&self) -> Vec<String> {
        let heard = lock(&self.heard);
        heard.kept.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Starts `sortie` with these arguments as systemd starts a service: with what is kept, from
    /// descriptor 3 on. The shell's process becomes the service's, so it knows its id; and it puts what
    /// is kept where it must be, which may have another use before the lab has entered the host.
    pub(crate) fn start(
        &self,
        host: &Host,
        name: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Process> {
        const LINE: &str = "next=3
            for kept in $KEPT; do eval \"exec $next<&$kept-\"; next=$((next + 1)); done
            unset KEPT next kept; export LISTEN_PID=$$ WATCHDOG_PID=$$; exec \"$@\"";
        // Open until it has started.
        let kept: Vec<(String, OwnedFd)> = {
            let heard = lock(&self.heard);
            let copy = |(name, it): &(String, OwnedFd)| (name.clone(), above(it));
            heard.kept.iter().map(copy).collect()
        };
        let mut command = Command::new("bash");
        command.args(["-c", LINE, "bash"]);
        command.arg(sortie().get_program()).args(arguments);
        command.envs(environment.iter().copied());
        command.env("NOTIFY_SOCKET", host.folder().join("notify.sock"));
        let (names, descriptors): (Vec<_>, Vec<_>) = kept
            .iter()
            .map(|(name, it)| (name.as_str(), it.as_raw_fd()))
            .unzip();
        let numbers: Vec<_> = descriptors.iter().map(ToString::to_string).collect();
        command.env("LISTEN_FDS", numbers.len().to_string());
        command.env("LISTEN_FDNAMES", names.join(":"));
        command.env("KEPT", numbers.join(" "));
        // SAFETY: between fork and exec only fcntl(2) is called, which is async-signal-safe; the
        // descriptors are open as long as `kept` is.
        unsafe {
            command.pre_exec(move || {
                for descriptor in &descriptors {
                    let kept = BorrowedFd::borrow_raw(*descriptor);
                    fcntl(kept, FcntlArg::F_SETFD(FdFlag::empty()))?;
                }
                Ok(())
            });
        }
        host.spawn(name, command)
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // It then reads an end.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A copy whose number is none of those that a service gets.
fn above(descriptor: &OwnedFd) -> OwnedFd {
    let copy = fcntl(descriptor, FcntlArg::F_DUPFD_CLOEXEC(KEPT)).expect("a copy");
    // SAFETY: it has just been made.
    unsafe { OwnedFd::from_raw_fd(copy) }
}

/// The next message; none at the end.
fn receive(socket: &UnixDatagram) -> Option<(String, Vec<OwnedFd>)> {
    let mut bytes = [0; 1024];
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let mut space = cmsg_space!([RawFd; 4]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags);
    let message = message.map_err(io::Error::from).expect("a message");
    let mut descriptors = Vec::new();
    for control in message.cmsgs().expect("whole control messages") {
        if let ControlMessageOwned::ScmRights(received) = control {
            // SAFETY: they have just been received.
            let owned = |descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) };
            descriptors.extend(received.into_iter().map(owned));
        }
    }
    let length = message.bytes;
    let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
    (length > 0).then_some((text, descriptors))
}
