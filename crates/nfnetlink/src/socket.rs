//! The netlink socket: opened or inherited, blocking with a time limit.

mod ack;
mod reply;
mod sys;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, SystemTime};

pub(crate) use ack::Ack;
pub(crate) use reply::{Reply, Request, Visit};

use crate::Error;

/// How long an answer may take. The kernel works while `sendmsg` runs, so that answers
/// are there at once; only a lost one is waited for.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Receive buffer asked for at opening, in bytes. Enough for the refusals of thousands of
/// operations; event listeners ask for more.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Room for one datagram. Dumps come in at most 32 KiB, a logged packet in at most 64 KiB
/// plus its attributes.
const DATAGRAM: usize = 128 << 10;

/// A `NETLINK_NETFILTER` socket.
///
/// It belongs to the network namespace of the thread that opened it, for ever, wherever
/// its descriptor goes. A table made with [`table::Flags::OWNER`](crate::table::Flags)
/// belongs to the socket, not to the process: hand the descriptor over
/// (`OwnedFd::from(socket)`, then [`Socket::from_fd`]) and the right to edit goes with it.
/// Use one descriptor in one place at a time: answers go to whoever reads first.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        let fd = sys::open().map_err(|source| Error::Socket {
            operation: "socket",
            source,
        })?;
        Self::configure(fd)
    }

    /// Takes over a socket that another process or thread opened.
    ///
    /// Answers that its former user never read are thrown away, and a dump it left
    /// unfinished is read to its end, since the kernel refuses a second one (`EBUSY`).
    pub fn from_fd(fd: OwnedFd) -> Result<Self, Error> {
        let mut socket = Self::configure(fd)?;
        socket.drain()?;
        Ok(socket)
    }

    fn configure(fd: OwnedFd) -> Result<Self, Error> {
        let failed = |operation| move |source| Error::Socket { operation, source };
        sys::enable(&fd, libc::NETLINK_EXT_ACK).map_err(failed("NETLINK_EXT_ACK"))?;
        sys::enable(&fd, libc::NETLINK_CAP_ACK).map_err(failed("NETLINK_CAP_ACK"))?;
        sys::grow_receive_buffer(&fd, RECEIVE_BUFFER).map_err(failed("SO_RCVBUF"))?;
        Ok(Self {
            fd,
            sequence: first_sequence(),
            buffer: vec![0; DATAGRAM],
        })
    }

    /// Enlarges the receive buffer to `bytes`, past the system's limit where the process
    /// may (`SO_RCVBUFFORCE`, `CAP_NET_ADMIN`).
    pub fn set_receive_buffer(&self, bytes: usize) -> Result<(), Error> {
        sys::grow_receive_buffer(&self.fd, bytes).map_err(|source| Error::Socket {
            operation: "SO_RCVBUF",
            source,
        })
    }

    /// The socket's netlink address: how the kernel names it to others, as the owner of a table or
    /// the maker of a change.
    pub fn port(&self) -> Result<u32, Error> {
        sys::port(&self.fd).map_err(|source| Error::Socket {
            operation: "getsockname",
            source,
        })
    }

    /// Reserves `count` sequence numbers and returns the first.
    pub(crate) fn reserve(&mut self, count: u32) -> u32 {
        let first = self.sequence;
        self.sequence = self.sequence.wrapping_add(count);
        first
    }

    /// Joins a multicast group (`enum nfnetlink_groups`).
    pub(crate) fn join(&self, group: u32) -> Result<(), Error> {
        sys::join(&self.fd, group).map_err(|source| Error::Socket {
            operation: "NETLINK_ADD_MEMBERSHIP",
            source,
        })
    }

    /// Sends messages as one datagram, enlarging the send buffer when they need it.
    pub(crate) fn send(&mut self, messages: &[u8]) -> Result<(), Error> {
        let sent = match sys::send(&self.fd, messages) {
            // The kernel takes a datagram whole: EMSGSIZE is about the send buffer.
            Err(error) if too_small(&error) => sys::grow_send_buffer(&self.fd, messages.len())
                .and_then(|()| sys::send(&self.fd, messages)),
            other => other,
        };
        sent.map_err(|source| Error::Socket {
            operation: "send",
            source,
        })
    }

    /// Receives one datagram of the kernel's within `limit`.
    pub(crate) fn receive(&mut self, limit: Duration) -> Result<Received, Error> {
        loop {
            match sys::receive(&self.fd, &mut self.buffer) {
                Ok(Some(length)) => return Ok(Received::Datagram(length)),
                // Somebody else than the kernel wrote to us: not ours to answer.
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Asked not to wait: spare the system call.
                    if limit.is_zero() {
                        return Ok(Received::Nothing);
                    }
                    match sys::wait_readable(&self.fd, limit) {
                        Ok(true) => {}
                        Ok(false) => return Ok(Received::Nothing),
                        Err(source) => {
                            return Err(Error::Socket {
                                operation: "poll",
                                source,
                            });
                        }
                    }
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Ok(Received::Overrun);
                }
                Err(source) => {
                    return Err(Error::Socket {
                        operation: "receive",
                        source,
                    });
                }
            }
        }
    }

    /// The first `length` bytes of the last datagram.
    pub(crate) fn datagram(&self, length: usize) -> &[u8] {
        self.buffer.get(..length).unwrap_or(&[])
    }

    /// Throws away everything that waits in the receive queue.
    fn drain(&mut self) -> Result<(), Error> {
        while !matches!(self.receive(Duration::ZERO)?, Received::Nothing) {}
        Ok(())
    }
}

/// What one read of the socket gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// A datagram of this many bytes.
    Datagram(usize),
    /// The receive queue overflowed and messages were lost.
    Overrun,
    /// Nothing came in time.
    Nothing,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> Self {
        socket.fd
    }
}

/// Where sequence numbers start: a passed-on socket must not take an old answer for its own,
/// so each user starts elsewhere.
fn first_sequence() -> u32 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    // Microseconds, cut to 32 bits: two users are never within one another's numbers.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low bits are what is wanted"
    )]
    let start = now.as_micros() as u32;
    start
}

fn too_small(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMSGSIZE | libc::ENOBUFS))
}

#[cfg(test)]
mod tests;
