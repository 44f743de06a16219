//! A connection over TLS that the gateway needs for itself, with a source that was decided.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::serve::SeenSource;
use crate::tls::Origination;
use crate::upstream::{Failed, Upstream};

/// Where such a connection goes, and how it leaves.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing {
    /// The server.
    pub to: SocketAddr,
    /// The address that it sees; none means the host's.
    pub source: Option<IpAddr>,
    /// The socket's mark.
    pub mark: u32,
}

impl Outgoing {
    /// Connects, and has the server prove to be `name` by what `trust` says. No protocol is named
    /// (ALPN). What the kernel gives another source is closed before anything is sent. There is no
    /// time limit.
    ///
    /// # Errors
    /// When the source is not on this host, or seen as another one; when the server cannot be
    /// reached, or does not prove its name; when `name` is none.
    pub async fn connect(
        self,
        name: &str,
        trust: &Origination,
        seen: &dyn SeenSource,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>> {
        let Self { to, source, mark } = self;
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let connection = Upstream::connect(to, (source, mark), Some(seen)).await;
        let connection = connection.map_err(|failed| match failed {
            Failed::Source(source, error) => {
                let why = format!("the source {source} is not on this host: {error}");
                io::Error::new(error.kind(), why)
            }
            Failed::Seen { wanted, seen } => {
                io::Error::other(format!("it would be seen as {seen}, not {wanted}"))
            }
            Failed::NoPorts(_, error) | Failed::Other(error) => error,
        })?;
        let mut config = ClientConfig::clone(&trust.config);
        config.alpn_protocols.clear();
        connection.with_tls(name, Arc::new(config)).await
    }
}
