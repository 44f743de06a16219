//! Datagrams that are sent whole or not at all.

use std::io;
use std::net::UdpSocket;

use nix::sys::socket::setsockopt;
use nix::{setsockopt_impl, sockopt_impl};

sockopt_impl!(
    /// `IP_MTU_DISCOVER` of ip(7).
    V4Discover,
    SetOnly,
    libc::IPPROTO_IP,
    libc::IP_MTU_DISCOVER,
    libc::c_int
);
sockopt_impl!(
    /// The same of ipv6(7).
    V6Discover,
    SetOnly,
    libc::IPPROTO_IPV6,
    libc::IPV6_MTU_DISCOVER,
    libc::c_int
);

/// Lets a socket fragment nothing, and refuse with `EMSGSIZE` what the path is known not to take.
///
/// # Errors
/// When the kernel refuses it.
pub fn send_whole(socket: &UdpSocket) -> io::Result<()> {
    if socket.local_addr()?.is_ipv4() {
        setsockopt(socket, V4Discover, &libc::IP_PMTUDISC_DO)?;
    } else {
        setsockopt(socket, V6Discover, &libc::IPV6_PMTUDISC_DO)?;
    }
    Ok(())
}
