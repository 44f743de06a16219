//! Listening for what the kernel says unasked.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crate::socket::Received;
use crate::wire::{Malformed, Message, messages};
use crate::{Error, Socket};

/// Receive buffer asked for, in bytes: bursts of thousands of events fit.
const RECEIVE_BUFFER: usize = 16 << 20;

/// Something heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice<T> {
    /// An event.
    Event(T),
    /// The receive buffer overflowed (`ENOBUFS`): an unknown number of events was lost.
    /// Read the whole state again.
    Lost,
}

/// A socket of its own that receives events of type `T`.
///
/// It may be polled ([`AsFd`]); when it is readable, call [`Listener::next`] with no time
/// to wait until it returns `None`, since several events come at once.
#[derive(Debug)]
pub struct Listener<T> {
    socket: Socket,
    pending: VecDeque<Notice<T>>,
    decode: fn(&Message<'_>) -> Result<Option<T>, Malformed>,
    what: &'static str,
}

impl<T> Listener<T> {
    /// Listens to multicast groups (`enum nfnetlink_groups`).
    pub(crate) fn new(
        what: &'static str,
        groups: &[u32],
        decode: fn(&Message<'_>) -> Result<Option<T>, Malformed>,
    ) -> Result<Self, Error> {
        let listener = Self {
            socket: Socket::open()?,
            pending: VecDeque::new(),
            decode,
            what,
        };
        listener.socket.set_receive_buffer(RECEIVE_BUFFER)?;
        for &group in groups {
            listener.socket.join(group)?;
        }
        Ok(listener)
    }

    /// The socket, to configure what it receives.
    pub(crate) fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// The next event, waiting up to `limit` for one; `None` when none came.
    ///
    /// After a [`Error::Malformed`] the listener goes on behind the message.
    pub fn next(&mut self, limit: Duration) -> Result<Option<Notice<T>>, Error> {
        loop {
            if let Some(notice) = self.pending.pop_front() {
                return Ok(Some(notice));
            }
            let length = match self.socket.receive(limit)? {
                Received::Nothing => return Ok(None),
                Received::Overrun => return Ok(Some(Notice::Lost)),
                Received::Datagram(length) => length,
            };
            for message in messages(self.socket.datagram(length)) {
                let event = message.and_then(|message| (self.decode)(&message));
                match event {
                    Ok(Some(event)) => self.pending.push_back(Notice::Event(event)),
                    Ok(None) => {}
                    Err(error) => return Err(Error::malformed(self.what, error)),
                }
            }
        }
    }

    /// Enlarges the receive buffer to `bytes`, or shrinks it.
    pub fn set_receive_buffer(&self, bytes: usize) -> Result<(), Error> {
        self.socket.set_receive_buffer(bytes)
    }
}

impl<T> AsFd for Listener<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
