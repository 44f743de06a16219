//! Servers that are asked over TLS (RFC 7858), whichever way the workload asked them.

use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;

use sortie_api::workload::WorkloadId;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection's bytes, encrypted or not.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// How questions reach such a server. Those that go the same way share connections, and no others do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Way {
    /// The server, with its port for TLS.
    pub server: SocketAddr,
    /// The address that it sees; none means the host's.
    pub source: Option<IpAddr>,
    /// The mark of the sockets.
    pub mark: u32,
}

/// A connection that is being opened.
pub type Opening<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Connection>>> + Send + 'a>>;

/// Knows which servers are asked over TLS, and opens connections to them from the host, with the
/// source that the workload's question would have had.
pub trait Secure: Debug + Send + Sync {
    /// The way of a workload's questions; none where the server is asked as the workload asks it.
    ///
    /// # Errors
    /// Why no question may go there.
    fn way(&self, workload: &WorkloadId, server: SocketAddr) -> Result<Option<Way>, String>;

    /// Opens a connection, on which the server has proved who it is.
    fn open<'a>(&'a self, way: &'a Way) -> Opening<'a>;
}
