//! TLS over a TCP connection, on either side of it.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::{Connection, ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes that are encrypted before the other side must take them.
const UNSENT: usize = 64 * 1024;

/// A TLS connection.
pub(crate) struct TlsStream {
    stream: TcpStream,
    session: Connection,
}

/// The TCP connection as `rustls` wants it: what would wait is `WouldBlock`, and the task is woken.
struct Wire<'a, 'c, 'w> {
    stream: &'a mut TcpStream,
    cx: &'c mut Context<'w>,
}

impl Read for Wire<'_, '_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut room = ReadBuf::new(bytes);
        match Pin::new(&mut *self.stream).poll_read(self.cx, &mut room) {
            Poll::Ready(read) => read.map(|()| room.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Wire<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut *self.stream).poll_write(self.cx, bytes) {
            Poll::Ready(written) => written,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `Pending` for `WouldBlock`.
fn poll<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

impl TlsStream {
    pub(crate) fn new(stream: TcpStream, session: impl Into<Connection>) -> Self {
        let mut session = session.into();
        session.set_buffer_limit(Some(UNSENT));
        Self { stream, session }
    }

    /// Answers a client whose first bytes were read already, until both sides have proved what they
    /// must. An error has the reason in it.
    pub(crate) async fn accept(
        stream: TcpStream,
        config: Arc<ServerConfig>,
        mut first: &[u8],
    ) -> io::Result<Self> {
        let session = ServerConnection::new(config).map_err(io::Error::other)?;
        let mut tls = Self::new(stream, session);
        while !first.is_empty() {
            tls.session.read_tls(&mut first)?;
            if let Err(error) = tls.session.process_new_packets() {
                // The client is told why; it may have gone.
                let _ = poll_fn(|cx| tls.poll_send(cx)).await;
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
        poll_fn(|cx| tls.poll_handshake(cx)).await?;
        Ok(tls)
    }

    /// The protocol that both sides have agreed on (RFC 7301), once the handshake is over.
    pub(crate) fn protocol(&self) -> Option<&[u8]> {
        self.session.alpn_protocol()
    }

    /// The subject of the certificate that the other side has shown.
    pub(crate) fn subject(&self) -> Option<String> {
        super::subject::of(self.session.peer_certificates()?.first()?)
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }

    /// Waits until something can be read.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        // Else there is something decrypted, or the end.
        if self.session.wants_read() {
            self.stream.readable().await?;
        }
        Ok(())
    }

    /// Until both sides have proved what they must. An error has the reason in it.
    pub(crate) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.is_handshaking() {
            ready!(self.poll_send(cx))?;
            if self.session.is_handshaking() {
                ready!(self.poll_receive(cx))?;
            }
        }
        self.poll_send(cx)
    }

    /// Sends what is encrypted.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            let stream = &mut self.stream;
            let sent = self.session.write_tls(&mut Wire { stream, cx });
            if ready!(poll(sent))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads and decrypts what has come.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = &mut self.stream;
        let read = self.session.read_tls(&mut Wire { stream, cx });
        let is_end = ready!(poll(read))? == 0;
        if let Err(error) = self.session.process_new_packets() {
            // The other side is told why; it may have gone.
            let _ = self.poll_send(cx);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        if is_end && self.session.is_handshaking() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for TlsStream {
    /// An end without `close_notify` is an error: somebody on the way may have cut it.
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let read = this.session.reader().read(room.initialize_unfilled());
            if let Poll::Ready(read) = poll(read) {
                return Poll::Ready(read.map(|length| room.advance(length)));
            }
            ready!(this.poll_receive(cx))?;
            // Answers of TLS itself, such as to a change of keys; they can wait.
            if let Poll::Ready(sent) = this.poll_send(cx) {
                sent?;
            }
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        loop {
            let taken = this.session.writer().write(bytes)?;
            let sent = this.poll_send(cx);
            if let Poll::Ready(Err(error)) = sent {
                return Poll::Ready(Err(error));
            }
            if taken > 0 || bytes.is_empty() {
                return Poll::Ready(Ok(taken));
            }
            ready!(sent)?;
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.session.send_close_notify();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}
