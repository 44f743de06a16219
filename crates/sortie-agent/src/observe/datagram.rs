//! Datagrams that are answered from the address they came to, on hosts with several.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use nix::cmsg_space;
use nix::libc::{in_pktinfo, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Where a datagram came from, and to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) peer: SocketAddr,
    local: Local,
}

#[derive(Debug, Clone, Copy)]
enum Local {
    V4(in_pktinfo),
    V6(in6_pktinfo),
}

/// None for a datagram that cannot be answered.
pub(super) async fn receive(socket: &UdpSocket) -> io::Result<Option<Arrival>> {
    socket
        .async_io(Interest::READABLE, || {
            let mut byte = [0; 1];
            let mut parts = [IoSliceMut::new(&mut byte)];
            let mut space = cmsg_space!(in_pktinfo, in6_pktinfo);
            let received = recvmsg::<SockaddrStorage>(
                socket.as_raw_fd(),
                &mut parts,
                Some(&mut space),
                MsgFlags::empty(),
            )?;
            let peer = received.address.as_ref().and_then(peer);
            let local = received.cmsgs()?.find_map(|message| match message {
                ControlMessageOwned::Ipv4PacketInfo(info) => Some(Local::V4(in_pktinfo {
                    // The route decides the interface; `ipi_spec_dst` is the source.
                    ipi_ifindex: 0,
                    ..info
                })),
                // The interface is part of a link-local source.
                ControlMessageOwned::Ipv6PacketInfo(info) => Some(Local::V6(info)),
                _ => None,
            });
            Ok(peer.zip(local).map(|(peer, local)| Arrival { peer, local }))
        })
        .await
}

pub(super) async fn send(socket: &UdpSocket, to: &Arrival, answer: &[u8]) -> io::Result<()> {
    let peer = SockaddrStorage::from(to.peer);
    let parts = [IoSlice::new(answer)];
    let from = match &to.local {
        Local::V4(info) => ControlMessage::Ipv4PacketInfo(info),
        Local::V6(info) => ControlMessage::Ipv6PacketInfo(info),
    };
    socket
        .async_io(Interest::WRITABLE, || {
            sendmsg(
                socket.as_raw_fd(),
                &parts,
                &[from],
                MsgFlags::empty(),
                Some(&peer),
            )?;
            Ok(())
        })
        .await
}

fn peer(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address
        .as_sockaddr_in()
        .map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| {
        address
            .as_sockaddr_in6()
            .map(|v6| SocketAddr::V6((*v6).into()))
    })
}
