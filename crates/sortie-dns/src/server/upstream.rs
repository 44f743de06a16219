//! Asking the server that the workload asked: from inside the workload's namespace, or over TLS from
//! the host.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::SockRef;
use sortie_api::workload::WorkloadId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::timeout;

use super::inside::Inside;
use super::kept::Kept;
use crate::secure::{Connection, Secure, Way};
use crate::wire;

/// How long a server may take. Clients ask again after 5 seconds (resolv.conf(5), `timeout`), which
/// is a lookup of its own here; an answer that comes late still reaches those who wait longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing came in time.
    Timeout,
    /// The server, or the way to it, said no.
    Unreachable(io::Error),
}

/// Who asks, and the network namespace it asks from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker<'a> {
    pub(super) workload: &'a WorkloadId,
    pub(super) namespace: &'a Arc<File>,
}

/// A connection to a server.
pub(super) struct Open {
    pub(super) stream: Box<dyn Connection>,
    /// Over TLS: the way it goes.
    way: Option<Way>,
}

/// A server that is asked over TLS.
struct Tls<'a> {
    secure: &'a dyn Secure,
    way: Way,
}

impl Tls<'_> {
    async fn open(&self) -> Result<Box<dyn Connection>, Failure> {
        limited(self.secure.open(&self.way)).await
    }
}

/// Asks servers: from inside namespaces and with a mark that the redirect passes by, or over TLS.
#[derive(Debug)]
pub(super) struct Upstream {
    inside: Inside,
    mark: u32,
    secure: Option<Arc<dyn Secure>>,
    kept: Kept,
    ids: RandomState,
    asked: AtomicU64,
}

impl Upstream {
    pub(super) fn new(inside: Inside, mark: u32, secure: Option<Arc<dyn Secure>>) -> Self {
        Self {
            inside,
            mark,
            secure,
            kept: Kept::default(),
            ids: RandomState::new(),
            asked: AtomicU64::new(0),
        }
    }

    /// Asks over UDP, or over TLS, and waits for what `is_answer` takes for the answer, given the
    /// number that was sent. The answer has the client's number.
    pub(super) async fn ask(
        &self,
        asker: Asker<'_>,
        server: SocketAddr,
        message: &[u8],
        is_answer: impl Fn(u16, &[u8]) -> bool,
    ) -> Result<Vec<u8>, Failure> {
        if let Some(tls) = self.way(asker.workload, server)? {
            return self.ask_over_tls(tls, message, is_answer).await;
        }
        let asking = async {
            let socket = self.inside.udp(asker.namespace, self.mark, server).await?;
            let socket = UdpSocket::from_std(socket)?;
            let (sent, id) = self.renumbered(message);
            socket.send(&sent).await?;
            loop {
                let answer = receive(&socket).await?;
                if is_answer(id, &answer) {
                    return Ok(numbered_as(answer, message));
                }
            }
        };
        limited(asking).await
    }

    /// Over a connection that is there already, or else over a new one. A server may close one at any
    /// time.
    async fn ask_over_tls(
        &self,
        tls: Tls<'_>,
        message: &[u8],
        is_answer: impl Fn(u16, &[u8]) -> bool,
    ) -> Result<Vec<u8>, Failure> {
        let mut kept = self.kept.take(&tls.way);
        loop {
            let is_new = kept.is_none();
            let mut stream = match kept.take() {
                Some(stream) => stream,
                None => tls.open().await?,
            };
            match self.ask_over(&mut stream, message, &is_answer).await {
                Err(Failure::Unreachable(_)) if !is_new => {}
                Err(failure) => return Err(failure),
                Ok(answer) => {
                    self.kept.keep(tls.way, stream);
                    return Ok(answer);
                }
            }
        }
    }

    /// Opens a connection.
    pub(super) async fn connect(
        &self,
        asker: Asker<'_>,
        server: SocketAddr,
    ) -> Result<Open, Failure> {
        if let Some(tls) = self.way(asker.workload, server)? {
            let stream = tls.open().await?;
            let way = Some(tls.way);
            return Ok(Open { stream, way });
        }
        limited(async {
            let socket = self.inside.tcp(asker.namespace, self.mark, server).await?;
            let stream = TcpSocket::from_std_stream(socket).connect(server).await?;
            stream.set_nodelay(true)?;
            let stream = Box::new(stream);
            Ok(Open { stream, way: None })
        })
        .await
    }

    /// Whether a connection still goes the way that the workload's questions to this server do.
    pub(super) fn is_current(
        &self,
        open: &Open,
        workload: &WorkloadId,
        server: SocketAddr,
    ) -> bool {
        let now = self.way(workload, server);
        now.is_ok_and(|now| now.map(|tls| tls.way) == open.way)
    }

    /// Asks over a connection.
    pub(super) async fn ask_over(
        &self,
        stream: &mut Box<dyn Connection>,
        message: &[u8],
        is_answer: impl Fn(u16, &[u8]) -> bool,
    ) -> Result<Vec<u8>, Failure> {
        limited(async {
            let (sent, id) = self.renumbered(message);
            write_framed(stream, &sent).await?;
            loop {
                let answer = read_framed(stream)
                    .await?
                    .ok_or(io::ErrorKind::UnexpectedEof)?;
                if is_answer(id, &answer) {
                    return Ok(numbered_as(answer, message));
                }
            }
        })
        .await
    }

    /// How this server is asked, if over TLS.
    fn way(&self, workload: &WorkloadId, server: SocketAddr) -> Result<Option<Tls<'_>>, Failure> {
        let Some(secure) = self.secure.as_deref() else {
            return Ok(None);
        };
        let way = secure.way(workload, server);
        let way = way.map_err(|why| Failure::Unreachable(io::Error::other(why)))?;
        Ok(way.map(|way| Tls { secure, way }))
    }

    /// The message with a number that nobody outside can guess: a keyed hash of a counter, with the
    /// process' own random key.
    fn renumbered(&self, message: &[u8]) -> (Vec<u8>, u16) {
        let count = self.asked.fetch_add(1, Ordering::Relaxed);
        let [first, second, ..] = self.ids.hash_one(count).to_be_bytes();
        let mut sent = message.to_vec();
        wire::put(&mut sent, 0, &[first, second]);
        (sent, u16::from_be_bytes([first, second]))
    }
}

async fn limited<T>(asking: impl Future<Output = io::Result<T>>) -> Result<T, Failure> {
    match timeout(ANSWER_LIMIT, asking).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Failure::Unreachable(error)),
        Err(_) => Err(Failure::Timeout),
    }
}

fn numbered_as(mut answer: Vec<u8>, message: &[u8]) -> Vec<u8> {
    wire::put(&mut answer, 0, message.get(..2).unwrap_or_default());
    answer
}

/// One datagram, however large: a server may send more than it was asked for. That a server is not
/// there comes as an error without anything to read, which tokio's own calls do not wait for.
async fn receive(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    let mut answer = vec![0; 1 << 16];
    let wanted = Interest::READABLE | Interest::ERROR;
    let read = || (&*SockRef::from(socket)).read(&mut answer);
    let length = socket.async_io(wanted, read).await?;
    answer.truncate(length);
    answer.shrink_to_fit();
    Ok(answer)
}

/// One message of a connection (RFC 1035 §4.2.2); none at its end.
pub(super) async fn read_framed(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    match stream.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

/// Length and message in one write: some clients read them as one (RFC 7766 §8).
pub(super) async fn write_framed(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &[u8],
) -> io::Result<()> {
    let length = u16::try_from(message.len());
    let length = length.map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let framed = [&length.to_be_bytes(), message].concat();
    stream.write_all(&framed).await?;
    stream.flush().await
}
