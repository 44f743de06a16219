//! All socket options in one place: where a connection was meant to go, and where one comes from.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::TcpSocket;

/// Connections that wait to be accepted; the kernel's `somaxconn` may allow fewer.
const BACKLOG: i32 = 1024;

/// Where the client of an accepted connection meant to go, before the kernel's NAT led it here
/// (`SO_ORIGINAL_DST`, `IP6T_SO_ORIGINAL_DST`). `None` for one that was made to the listener itself.
pub(crate) fn original_destination(stream: &tokio::net::TcpStream) -> Option<SocketAddr> {
    let local = canonical(stream.local_addr().ok()?);
    let socket = SockRef::from(stream);
    let original = if local.is_ipv4() {
        socket.original_dst_v4()
    } else {
        socket.original_dst_v6()
    };
    let original = canonical(original.ok()?.as_socket()?);
    (original != local).then_some(original)
}

/// An address as its own family writes it, not as IPv4 inside IPv6.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A listener that shares its address with those of other cores.
pub(crate) fn listener(at: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(at),
        Type::STREAM.cloexec(),
        Some(Protocol::TCP),
    )?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // After a restart, connections of before may still have the address.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Why no socket was made.
#[derive(Debug)]
pub(crate) enum Unbound {
    /// The source is not on this host.
    Source(io::Error),
    /// Anything else.
    Other(io::Error),
}

/// A socket that will leave with `source` and `mark`, or not at all.
///
/// The port is left to `connect` (`IP_BIND_ADDRESS_NO_PORT`): chosen at the bind it would be used up
/// by one destination for all others, after some 28,000 connections.
pub(crate) fn outgoing(
    to: SocketAddr,
    source: Option<IpAddr>,
    mark: u32,
) -> Result<TcpSocket, Unbound> {
    let socket = Socket::new(
        Domain::for_address(to),
        Type::STREAM.nonblocking().cloexec(),
        Some(Protocol::TCP),
    )
    .map_err(Unbound::Other)?;
    socket.set_tcp_nodelay(true).map_err(Unbound::Other)?;
    if mark != 0 {
        socket.set_mark(mark).map_err(Unbound::Other)?;
    }
    if let Some(source) = source {
        setsockopt(&socket.as_fd(), sockopt::IpBindAddressNoPort, &true)
            .map_err(|errno| Unbound::Other(errno.into()))?;
        socket
            .bind(&SocketAddr::new(source, 0).into())
            .map_err(Unbound::Source)?;
    }
    Ok(TcpSocket::from_std_stream(TcpStream::from(socket)))
}
