//! The server's end of a connection of HTTP/1: it answers nobody who comes from a wrong source.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::Failure;
use crate::rig::source;

/// Bytes of a response's body.
pub(crate) const BODY: usize = 128;

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 128\r\n\r\n";

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

/// A connection.
pub(crate) struct Server {
    stream: Stream,
    peer: IpAddr,
    buffer: Vec<u8>,
}

impl Server {
    /// Of a stream that does not block.
    pub(crate) fn new(stream: TcpStream, tls: Option<&Arc<ServerConfig>>) -> Result<Self, Failure> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let peer = stream.peer_addr()?.ip();
        let stream = match tls {
            None => Stream::Plain(stream),
            Some(config) => {
                let tls = ServerConnection::new(Arc::clone(config))?;
                Stream::Tls(Box::new(StreamOwned::new(tls, stream)))
            }
        };
        Ok(Self {
            stream,
            peer,
            buffer: Vec::new(),
        })
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_ref(),
        }
    }

    /// Answers what has come. Says whether the connection goes on.
    ///
    /// # Errors
    /// When a request has come from a source that is not its own.
    pub(crate) fn serve(&mut self) -> Result<bool, Failure> {
        let mut part = [0; 4096];
        loop {
            let (length, is_whole) = match &mut self.stream {
                Stream::Plain(stream) => (stream.read(&mut part), true),
                // What TLS holds back already wakes nobody.
                Stream::Tls(stream) => (stream.read(&mut part), false),
            };
            match length {
                Ok(0) => return Ok(false),
                Ok(length) => {
                    self.buffer.extend_from_slice(&part[..length]);
                    if !self.answer()? {
                        return Ok(false);
                    }
                    if is_whole && length < part.len() {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                // The proxy has gone.
                Err(_) => return Ok(false),
            }
        }
    }

    fn answer(&mut self) -> Result<bool, Failure> {
        let mut answer = [b'x'; HEAD.len() + BODY];
        answer[..HEAD.len()].copy_from_slice(HEAD);
        while let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
            right_source(&self.buffer[..end], self.peer)?;
            self.buffer.drain(..end + 4);
            let written = match &mut self.stream {
                Stream::Plain(stream) => stream.write_all(&answer),
                Stream::Tls(stream) => stream.write_all(&answer),
            };
            if written.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Compares the source that a request's host stands for with the one it came from.
///
/// # Errors
/// When they are not the same.
pub(crate) fn right_source(head: &[u8], peer: IpAddr) -> Result<(), Failure> {
    let wanted = memchr::memmem::find(head, b"ost: s").and_then(|at| number(&head[at + 6..]));
    is_source(wanted, peer)
}

/// The same, where the host is a text such as `s17.bench.example`.
///
/// # Errors
/// When they are not the same.
pub(crate) fn right_source_of(host: &str, peer: IpAddr) -> Result<(), Failure> {
    is_source(
        host.strip_prefix('s')
            .and_then(|rest| number(rest.as_bytes())),
        peer,
    )
}

fn is_source(wanted: Option<Ipv4Addr>, peer: IpAddr) -> Result<(), Failure> {
    match wanted {
        Some(wanted) if wanted == peer => Ok(()),
        Some(wanted) => Err(format!("a wrong source: {peer} instead of {wanted}").into()),
        None => Err("a request whose host stands for no source".into()),
    }
}

fn number(text: &[u8]) -> Option<Ipv4Addr> {
    let digits = text.split(|byte| !byte.is_ascii_digit()).next()?;
    let number: u32 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(source(number))
}
