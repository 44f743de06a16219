//! The server that a client asked, before its lookup was redirected here.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use nfnetlink::conntrack::{Ports, Tuple};
use socket2::SockRef;
use tokio::net::TcpStream;

const IPPROTO_UDP: u8 = 17;

/// Tells it for datagrams. A redirected datagram looks as if it had been sent here; only conntrack
/// knows more, and it is asked by what our answer looks like. (IP_RECVORIGDSTADDR tells the address
/// after the redirect.) The kernel answers within the system call, in about ten microseconds.
#[derive(Debug)]
pub(super) struct Tracking(Mutex<nfnetlink::Socket>);

impl Tracking {
    /// With a socket of the workload's namespace.
    pub(super) fn new(socket: nfnetlink::Socket) -> Self {
        Self(Mutex::new(socket))
    }

    /// Where a datagram from `client` went that came to `here`; none when it was sent to `here`
    /// itself, or is no longer tracked.
    pub(super) fn of_datagram(
        &self,
        client: SocketAddr,
        here: SocketAddr,
    ) -> Result<Option<SocketAddr>, nfnetlink::Error> {
        let answers = Tuple::ports(
            IPPROTO_UDP,
            (here.ip(), here.port()),
            (client.ip(), client.port()),
        );
        let mut socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tracked = socket.conntrack_answered(&answers)?;
        Ok(tracked.and_then(|tracked| other_than(here, server_of(&tracked.original)?)))
    }
}

/// The same for a connection (SO_ORIGINAL_DST).
pub(super) fn of_connection(
    stream: &TcpStream,
    here: SocketAddr,
) -> io::Result<Option<SocketAddr>> {
    let socket = SockRef::from(stream);
    let original = match here.ip() {
        IpAddr::V4(_) => socket.original_dst_v4(),
        IpAddr::V6(_) => socket.original_dst_v6(),
    };
    match original {
        Ok(original) => Ok(original
            .as_socket()
            .and_then(|server| other_than(here, server))),
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENOENT as i32) => Ok(None),
        Err(error) => Err(error),
    }
}

fn server_of(original: &Tuple) -> Option<SocketAddr> {
    match original.ports {
        Ports::Ports { dst, .. } => Some(SocketAddr::new(original.dst, dst)),
        Ports::Icmp { .. } | Ports::None => None,
    }
}

/// Whoever calls us ourselves asks nobody, and must not make us ask ourselves.
fn other_than(here: SocketAddr, server: SocketAddr) -> Option<SocketAddr> {
    (server.port() != here.port() || !server.ip().is_loopback()).then_some(server)
}
