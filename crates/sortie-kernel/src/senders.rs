//! Which cgroup made the socket that the host itself sent a packet from.
//!
//! A report of a dropped packet does not say it. Its socket is still there where somebody waits for an
//! answer with it: of a TCP connection always, of datagrams where the sender keeps it.

#[cfg(test)]
mod tests;

use std::io;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload, Nla as _};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};
use nfnetlink::conntrack::{Ports, Tuple};
use sortie_api::workload::CgroupId;

use crate::error::Error;
use crate::rtnl::DATAGRAM;

/// `INET_DIAG_CGROUP_ID`, since Linux 5.8 (include/uapi/linux/inet_diag.h).
const INET_DIAG_CGROUP_ID: u16 = 21;
/// `INET_DIAG_NOCOOKIE`: whichever socket it is.
const ANY: [u8; 8] = [0xff; 8];

/// A socket to `sock_diag(7)` of the network namespace that it was opened in.
pub struct Senders {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Senders {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        let failed = failed("open");
        let mut socket = Socket::new(NETLINK_SOCK_DIAG).map_err(failed)?;
        socket.bind_auto().map_err(failed)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(failed)?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: vec![0; DATAGRAM],
        })
    }

    /// The cgroup of the TCP or UDP socket that sends by this tuple, before any translation. None for
    /// other protocols, where the socket is gone, and where the kernel does not tell.
    pub fn cgroup(&mut self, sent: &Tuple) -> Result<Option<CgroupId>, Error> {
        let Some(request) = request(sent) else {
            return Ok(None);
        };
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(SockDiagMessage::InetRequest(request));
        message.header.flags = NLM_F_REQUEST;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map_err(failed("send to"))?;
        let answer = loop {
            let received = self.socket.recv(&mut self.buffer.as_mut_slice(), 0);
            let length = received.map_err(failed("receive from"))?;
            let answer = self.buffer.get(..length).unwrap_or_default();
            let answer = NetlinkMessage::<SockDiagMessage>::deserialize(answer);
            let answer = answer.map_err(|source| Error::Decode {
                operation: "find",
                object: format!("the socket of {sent:?}"),
                source,
            })?;
            // Or it is to a request whose answer could not be read.
            if answer.header.sequence_number == self.sequence {
                break answer;
            }
        };
        // Else `ENOENT`: there is no such socket, or no such protocol in this kernel.
        Ok(match answer.payload {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(found)) => cgroup(&found),
            _ => None,
        })
    }
}

fn request(sent: &Tuple) -> Option<InetRequest> {
    let Ports::Ports { src, dst } = sent.ports else {
        return None;
    };
    let (here, there) = ((sent.src, src), (sent.dst, dst));
    // UDP's are looked up as for a packet that comes in (`udp_dump_one` in net/ipv4/udp_diag.c).
    let (source, destination) = match sent.protocol {
        IPPROTO_TCP => (here, there),
        IPPROTO_UDP => (there, here),
        _ => return None,
    };
    Some(InetRequest {
        family: if sent.src.is_ipv4() {
            AF_INET
        } else {
            AF_INET6
        },
        protocol: sent.protocol,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id: SocketId {
            source_address: source.0,
            source_port: source.1,
            destination_address: destination.0,
            destination_port: destination.1,
            interface_id: 0,
            cookie: ANY,
        },
    })
}

fn cgroup(found: &InetResponse) -> Option<CgroupId> {
    let mut attributes = found.nlas.iter();
    attributes.find_map(|attribute| match attribute {
        Nla::Other(other) if other.kind() == INET_DIAG_CGROUP_ID => {
            let mut id = [0; 8];
            (other.value_len() == id.len()).then(|| other.emit_value(&mut id))?;
            Some(CgroupId(u64::from_ne_bytes(id)))
        }
        _ => None,
    })
}

fn failed(operation: &'static str) -> impl Fn(io::Error) -> Error + Copy {
    move |source| Error::Socket {
        operation,
        protocol: "sock_diag",
        source,
    }
}
