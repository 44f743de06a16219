//! With which source a connection to an origin is really seen: the flow's own word, because another
//! program's translation does not show in what the socket says.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use nfnetlink::conntrack::Tuple;
use sortie_gateway::SeenSource;

const IPPROTO_TCP: u8 = 6;

/// Asks conntrack of the namespace that it was made in. The kernel answers within the system call.
pub(super) struct ByFlow(Mutex<nfnetlink::Socket>);

impl ByFlow {
    pub(super) fn open() -> Result<Self, nfnetlink::Error> {
        nfnetlink::Socket::open().map(|socket| Self(Mutex::new(socket)))
    }
}

impl SeenSource for ByFlow {
    fn source(&self, local: SocketAddr, peer: SocketAddr) -> Option<IpAddr> {
        let (local, peer) = ((local.ip(), local.port()), (peer.ip(), peer.port()));
        let original = Tuple::ports(IPPROTO_TCP, local, peer);
        let mut socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match socket.conntrack(&original) {
            Ok(flow) => Some(flow?.reply.dst),
            Err(error) => {
                tracing::debug!(%error, "the flow of a connection cannot be looked at");
                None
            }
        }
    }
}
