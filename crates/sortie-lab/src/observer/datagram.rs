//! UDP of observers and name servers: they answer from the address that was called, which may be any of a range.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::cmsg_space;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
    SockaddrStorage, bind as bind_to, recvmsg, sendmsg, setsockopt, socket, sockopt,
};
use tokio::io::Interest;

/// A socket that tells for each datagram which address it was sent to (`ip(7)`, `IP_PKTINFO`).
pub(super) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Datagram, flags, None)?;
    if address.is_ipv4() {
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
    } else {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    }
    bind_to(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket.into())
}

/// Answers each datagram as `to` says, given who sent it and which address it was sent to.
pub(super) async fn answer(
    socket: UdpSocket,
    to: impl Fn(&[u8], SocketAddr, SocketAddr) -> Option<Vec<u8>>,
) {
    let Ok(socket) = tokio::net::UdpSocket::from_std(socket) else {
        return;
    };
    let mut payload = [0_u8; 2048];
    loop {
        // An error here is an ICMP error that an earlier answer met.
        let received = socket
            .async_io(Interest::READABLE, || receive(&socket, &mut payload))
            .await;
        let Ok(Some((length, source, destination))) = received else {
            continue;
        };
        if let Some(answer) = to(&payload[..length], source, destination) {
            // A caller whose source cannot be answered was seen all the same.
            let _ = send(&socket, &answer, source, destination.ip());
        }
    }
}

/// Takes one datagram: its length, who sent it, and to which of our addresses.
fn receive(
    socket: &tokio::net::UdpSocket,
    payload: &mut [u8],
) -> io::Result<Option<(usize, SocketAddr, SocketAddr)>> {
    let mut control = cmsg_space!(libc::in6_pktinfo);
    let mut parts = [IoSliceMut::new(payload)];
    let fd = socket.as_raw_fd();
    let message =
        recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut control), MsgFlags::empty())?;
    let called = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(IpAddr::V4(Ipv4Addr::from(
            u32::from_be(info.ipi_addr.s_addr),
        ))),
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)))
        }
        _ => None,
    });
    let port = socket.local_addr()?.port();
    let source = message.address.as_ref().and_then(socket_address);
    let length = message.bytes;
    let called = called.map(|called| SocketAddr::new(called, port));
    Ok(source
        .zip(called)
        .map(|(source, called)| (length, source, called)))
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address
        .as_sockaddr_in()
        .map(|v4| SocketAddr::new(v4.ip().into(), v4.port()));
    v4.or_else(|| {
        address
            .as_sockaddr_in6()
            .map(|v6| SocketAddr::new(v6.ip().into(), v6.port()))
    })
}

fn send(
    socket: &tokio::net::UdpSocket,
    answer: &[u8],
    to: SocketAddr,
    from: IpAddr,
) -> io::Result<usize> {
    let parts = [IoSlice::new(answer)];
    let address = SockaddrStorage::from(to);
    let (v4, v6);
    let control = match from {
        IpAddr::V4(from) => {
            v4 = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from(from).to_be(),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            ControlMessage::Ipv4PacketInfo(&v4)
        }
        IpAddr::V6(from) => {
            v6 = libc::in6_pktinfo {
                ipi6_ifindex: 0,
                ipi6_addr: libc::in6_addr {
                    s6_addr: from.octets(),
                },
            };
            ControlMessage::Ipv6PacketInfo(&v6)
        }
    };
    Ok(sendmsg(
        socket.as_raw_fd(),
        &parts,
        &[control],
        MsgFlags::empty(),
        Some(&address),
    )?)
}
