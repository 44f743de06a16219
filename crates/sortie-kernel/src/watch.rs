//! Changes of links, addresses, routes and rules, as the kernel tells them.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use netlink_packet_core::{NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkAttribute;
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use sortie_api::workload::IfIndex;

use crate::error::Error;
use crate::rtnl::DATAGRAM;

/// The groups of `linux/rtnetlink.h`: `RTNLGRP_LINK`, `IPV4_IFADDR`, `IPV4_ROUTE`, `IPV4_RULE`,
/// `IPV6_IFADDR`, `IPV6_ROUTE`, `IPV6_RULE`.
const GROUPS: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];
/// Bytes; a thousand containers starting at once then lose nothing.
const RECEIVE_BUFFER: usize = 4 << 20;

/// What changed. Coarse on purpose: whoever is told reads the facts again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An interface was made, changed, renamed or (`gone`) deleted.
    Link {
        /// Which.
        index: IfIndex,
        /// Its name now, or the last it had.
        name: String,
        /// It is no more.
        gone: bool,
    },
    /// An interface's address came, went or changed its flags.
    Address(IfIndex),
    /// A route came or went, in any table.
    Route,
    /// A policy routing rule came or went.
    Rule,
    /// Changes came faster than they were read, and some were dropped: anything may have changed.
    Lost,
}

/// Yields changes until it is stopped. Each `next` waits for one.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
    stop: Arc<EventFd>,
    buffer: Vec<u8>,
    pending: VecDeque<Change>,
}

/// Ends a [`Watch`] from another thread.
#[derive(Debug, Clone)]
pub struct Stop(Arc<EventFd>);

impl Stop {
    /// The watch yields nothing more.
    pub fn stop(&self) {
        // Writing to a counter that nobody ever resets fails only when it is full, and then it is set.
        let _ = self.0.write(1);
    }
}

impl Watch {
    /// Subscribes in the calling thread's network namespace. Changes from now on are told.
    pub fn open() -> Result<Self, Error> {
        let failed = |source| Error::Socket {
            operation: "open",
            protocol: "rtnetlink monitor",
            source,
        };
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed)?;
        socket.bind_auto().map_err(failed)?;
        // Best effort: the system's limit may be lower, and Lost tells when it was too little.
        let _ = socket.set_rx_buf_sz(RECEIVE_BUFFER);
        socket.set_non_blocking(true).map_err(failed)?;
        for group in GROUPS {
            socket.add_membership(group).map_err(failed)?;
        }
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|errno| failed(errno.into()))?;
        Ok(Self {
            socket,
            stop: Arc::new(stop),
            buffer: vec![0; DATAGRAM],
            pending: VecDeque::new(),
        })
    }

    /// A handle that ends it.
    pub fn stop_handle(&self) -> Stop {
        Stop(Arc::clone(&self.stop))
    }

    /// Waits until the socket is readable; false when it was stopped.
    fn wait(&self) -> Result<bool, Errno> {
        loop {
            let mut fds = [
                PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => return Ok(!fds[0].any().unwrap_or(true)),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// After an overrun the kernel drops everything, silently, until the queue is empty: what
    /// changed after the facts were read again would be missed.
    fn drain(&mut self) {
        loop {
            match self.socket.recv(&mut self.buffer.as_mut_slice(), 0) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(_) => return,
            }
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        let length = self.socket.recv(&mut self.buffer.as_mut_slice(), 0)?;
        let mut rest = self.buffer.get(..length).unwrap_or_default();
        while let Ok(buffer) = NetlinkBuffer::new_checked(rest) {
            let length = (buffer.length() as usize).next_multiple_of(4);
            match NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest) {
                Ok(message) => self.pending.extend(change(message.payload)),
                // What cannot be read may have been anything.
                Err(_) => self.pending.push_back(Change::Lost),
            }
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(())
    }
}

impl Iterator for Watch {
    type Item = Result<Change, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let failed = |source| {
            Some(Err(Error::Socket {
                operation: "receive from",
                protocol: "rtnetlink monitor",
                source,
            }))
        };
        loop {
            if let Some(change) = self.pending.pop_front() {
                return Some(Ok(change));
            }
            match self.wait() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(errno) => return failed(errno.into()),
            }
            match self.receive() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.drain();
                    return Some(Ok(Change::Lost));
                }
                Err(error) => return failed(error),
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn change(payload: NetlinkPayload<RouteNetlinkMessage>) -> Option<Change> {
    let NetlinkPayload::InnerMessage(message) = payload else {
        return None;
    };
    let gone = matches!(message, RouteNetlinkMessage::DelLink(_));
    match message {
        RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => {
            Some(Change::Link {
                index: IfIndex(link.header.index),
                name: link
                    .attributes
                    .into_iter()
                    .find_map(|attribute| match attribute {
                        LinkAttribute::IfName(name) => Some(name),
                        _ => None,
                    })
                    .unwrap_or_default(),
                gone,
            })
        }
        RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => {
            Some(Change::Address(IfIndex(address.header.index)))
        }
        RouteNetlinkMessage::NewRoute(_) | RouteNetlinkMessage::DelRoute(_) => Some(Change::Route),
        RouteNetlinkMessage::NewRule(_) | RouteNetlinkMessage::DelRule(_) => Some(Change::Rule),
        _ => None,
    }
}
