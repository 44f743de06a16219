//! A connection to an origin.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::serve::SeenSource;
use crate::socket::{self, Unbound};
use crate::stream::Stream;
use crate::tls::{H2, TlsStream};

/// A connection to an origin, whose requests are those of one workload.
pub(crate) struct Upstream {
    stream: Stream,
    /// Whom it calls.
    pub(crate) peer: SocketAddr,
    /// The source it is seen with, as the kernel's flow has it.
    pub(crate) source: Option<IpAddr>,
}

/// Why there is no connection.
pub(crate) enum Failed {
    /// This source is not on the host.
    Source(IpAddr, io::Error),
    /// This source has no port left towards the peer.
    NoPorts(IpAddr, io::Error),
    /// The kernel gives it another source than the one that is wanted.
    Seen { wanted: IpAddr, seen: IpAddr },
    /// Anything else.
    Other(io::Error),
}

impl Upstream {
    /// Connects from a source, if one is wanted, with a mark. One that the kernel gives another source is
    /// closed, and nothing was sent on it.
    pub(crate) async fn connect(
        to: SocketAddr,
        (wanted, mark): (Option<IpAddr>, u32),
        seen: Option<&dyn SeenSource>,
    ) -> Result<Self, Failed> {
        let socket = match (socket::outgoing(to, wanted, mark), wanted) {
            (Ok(socket), _) => socket,
            (Err(Unbound::Source(error)), Some(wanted)) => {
                return Err(Failed::Source(wanted, error));
            }
            (Err(Unbound::Source(error) | Unbound::Other(error)), _) => {
                return Err(Failed::Other(error));
            }
        };
        let stream = match (socket.connect(to).await, wanted) {
            (Ok(stream), _) => stream,
            (Err(error), Some(wanted)) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                return Err(Failed::NoPorts(wanted, error));
            }
            (Err(error), _) => return Err(Failed::Other(error)),
        };
        let source = seen
            .zip(stream.local_addr().ok())
            .and_then(|(seen, local)| seen.source(local, to));
        match (wanted, source) {
            (Some(wanted), Some(seen)) if wanted != seen => Err(Failed::Seen { wanted, seen }),
            _ => Ok(Self {
                stream: Stream::Plain(stream),
                peer: to,
                source,
            }),
        }
    }

    /// Whom it calls, and the source it is seen with.
    pub(crate) fn seen(&self) -> (SocketAddr, Option<IpAddr>) {
        (self.peer, self.source)
    }

    /// Begins TLS with a server that proves to have this name.
    ///
    /// # Errors
    /// When it does not prove it, or does not speak TLS.
    pub(crate) async fn with_tls(
        mut self,
        name: ServerName<'static>,
        config: Arc<ClientConfig>,
    ) -> io::Result<Self> {
        let session = ClientConnection::new(config, name).map_err(io::Error::other)?;
        if let Stream::Plain(stream) = self.stream {
            let mut tls = Box::new(TlsStream::new(stream, session));
            poll_fn(|cx| tls.poll_handshake(cx)).await?;
            self.stream = Stream::Tls(tls);
        }
        Ok(self)
    }

    /// Whether HTTP/2 can be spoken: TLS has agreed on it, or nobody is asked.
    pub(crate) fn takes_http2(&self) -> bool {
        match &self.stream {
            Stream::Plain(_) => true,
            Stream::Tls(stream) => stream.protocol() == Some(H2),
        }
    }

    /// Whether nothing has come on it. Nobody asked, so what has come is an end, or an answer that
    /// would be taken for the next request's.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        let mut room = ReadBuf::new(&mut byte);
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(self).poll_read(&mut cx, &mut room).is_pending()
    }
}

impl AsyncRead for Upstream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, room)
    }
}

impl AsyncWrite for Upstream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
