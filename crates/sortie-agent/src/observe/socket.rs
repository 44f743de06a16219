//! Listening sockets, each of one IP family.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo, Ipv6V6Only, ReuseAddr};
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage};
use tokio::net::{TcpListener, UdpSocket};

pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = open(address, SockType::Stream)?;
    // Else a restart waits for the old connections' TIME-WAIT.
    socket::setsockopt(&socket, ReuseAddr, &true)?;
    socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    socket::listen(&socket, Backlog::MAXCONN)?;
    TcpListener::from_std(socket.into())
}

/// Tells with each datagram which address of the host it came to.
pub(super) fn datagrams(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = open(address, SockType::Datagram)?;
    if address.is_ipv4() {
        socket::setsockopt(&socket, Ipv4PacketInfo, &true)?;
    } else {
        socket::setsockopt(&socket, Ipv6RecvPacketInfo, &true)?;
    }
    socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    UdpSocket::from_std(socket.into())
}

fn open(address: SocketAddr, kind: SockType) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(family, kind, flags, None)?;
    if address.is_ipv6() {
        socket::setsockopt(&socket, Ipv6V6Only, &true)?;
    }
    Ok(socket)
}
