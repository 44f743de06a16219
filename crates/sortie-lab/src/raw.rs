//! A raw socket of any IP protocol (raw(7)): for those that the kernel has no other sockets for.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::sys::socket::{SockaddrStorage, bind};

use crate::error::{Doing, Result};
use crate::place::Place;
use crate::wait::SOON;

/// Sends and receives the payloads of one IP protocol from one address of a place.
#[derive(Debug)]
pub struct RawSocket {
    socket: UdpSocket,
    own: IpAddr,
}

impl RawSocket {
    /// Opens it in a place, which has this address.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn open(place: &dyn Place, protocol: u8, own: IpAddr) -> Result<Self> {
        let socket = place.place()?.run(|| open(protocol, own))?;
        Ok(Self {
            socket: socket.doing("open a raw socket at", own)?,
            own,
        })
    }

    /// Sends a payload; the kernel puts the IP header before it.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn send(&self, to: IpAddr, payload: &[u8]) -> Result<()> {
        let sent = self.socket.send_to(payload, (to, 0));
        sent.map(drop).doing("send a packet to", to)
    }

    /// Waits for a packet: its source, and what is behind its IP header.
    ///
    /// # Errors
    /// When none comes within [`SOON`].
    pub fn receive(&self) -> Result<(IpAddr, Vec<u8>)> {
        let mut packet = vec![0; 2048];
        let received = self.socket.recv_from(&mut packet);
        let (length, from) = received.doing("wait for a packet at", self.own)?;
        packet.truncate(length);
        if self.own.is_ipv4() {
            // Raw IPv4 sockets give the IP header too.
            let header = packet.first().map_or(0, |first| usize::from(first & 0x0f));
            packet.drain(..length.min(header * 4));
        }
        Ok((from.ip(), packet))
    }
}

fn open(protocol: u8, own: IpAddr) -> io::Result<UdpSocket> {
    let family = if own.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: the call takes numbers only.
    let fd = unsafe { libc::socket(family, kind, protocol.into()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given this descriptor to us alone.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let address = SockaddrStorage::from(std::net::SocketAddr::new(own, 0));
    bind(socket.as_raw_fd(), &address)?;
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(SOON))?;
    Ok(socket)
}
