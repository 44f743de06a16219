//! The active side of `verify`: asks an observer, from inside a network namespace or a cgroup, which
//! address it sees.

mod answer;
mod process;
mod url;

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

pub(crate) use process::probe_as;
pub use process::{is_called_as, told};
pub use url::ObserverUrl;
use url::Scheme;

/// How long an observer may take to answer.
pub(crate) const LIMIT: Duration = Duration::from_secs(5);
/// Longest answer that is read, in bytes.
const LONGEST: usize = 64 << 10;
/// A datagram that nobody answered in this time is sent again.
const AGAIN: Duration = Duration::from_millis(500);

/// Why the observer's view is not known.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Not an observer's URL.
    #[error("`{url}` is no observer: {detail}")]
    Url {
        /// As written.
        url: String,
        /// What is wrong, and what to write.
        detail: String,
    },
    /// The network namespace cannot be entered.
    #[error("cannot enter the network namespace {}: {source}", .path.display())]
    Namespace {
        /// Such as `/proc/PID/ns/net`.
        path: PathBuf,
        /// From open(2), setns(2) or clone(2).
        source: io::Error,
    },
    /// The cgroup of a process cannot be entered.
    #[error("cannot connect as the process {pid} does: {detail}")]
    Cgroup {
        /// Whose cgroup.
        pid: u32,
        /// What stood in the way.
        detail: String,
    },
    /// What came of a connection from inside a cgroup, as another process tells it.
    #[error("{0}")]
    Told(String),
    /// The observer's host says that nobody listens.
    #[error("{observer} refused the connection: is `sortie observe` running there?")]
    Refused {
        /// The observer.
        observer: String,
    },
    /// Nothing came back.
    #[error("{observer} did not answer within {} s", .limit.as_secs_f32())]
    TimedOut {
        /// The observer.
        observer: String,
        /// The whole probe's limit.
        limit: Duration,
    },
    /// There is no way to it.
    #[error("{observer} cannot be reached: {source}")]
    Unreachable {
        /// The observer.
        observer: String,
        /// Such as ENETUNREACH or EHOSTUNREACH.
        source: io::Error,
    },
    /// Any other failure of the exchange.
    #[error("the exchange with {observer} failed: {source}")]
    Exchange {
        /// The observer.
        observer: String,
        /// From the socket.
        source: io::Error,
    },
    /// It answered, but not with an address.
    #[error("{observer} answered without an address: {detail}")]
    NoAddress {
        /// The observer.
        observer: String,
        /// What it answered.
        detail: String,
    },
}

impl ProbeError {
    /// Whether nothing was tried, so that it says nothing about the workload.
    pub fn is_untried(&self) -> bool {
        matches!(self, Self::Namespace { .. } | Self::Cgroup { .. })
    }
}

/// Connects from inside `namespace` (such as `/proc/PID/ns/net`) and returns the source address
/// that the observer saw.
///
/// Blocks for at most `limit`, on a thread of its own that enters the namespace; within a
/// runtime, call it from `spawn_blocking`.
pub fn probe(
    namespace: &Path,
    observer: &ObserverUrl,
    limit: Duration,
) -> Result<IpAddr, ProbeError> {
    let failed = |source: io::Error| ProbeError::Namespace {
        path: namespace.to_owned(),
        source,
    };
    let namespace = File::open(namespace).map_err(failed)?;
    thread::scope(|scope| {
        let inside = thread::Builder::new()
            .name("probe".to_owned())
            .spawn_scoped(scope, || {
                setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(|e| failed(e.into()))?;
                Exchange::new(observer, limit).ask()
            })
            .map_err(failed)?;
        inside.join().unwrap_or_else(|_| {
            Err(failed(io::Error::other(
                "the thread that entered it panicked",
            )))
        })
    })
}

/// One question to one observer, with a time by which all must be done.
struct Exchange<'u> {
    observer: &'u ObserverUrl,
    limit: Duration,
    until: Instant,
}

impl<'u> Exchange<'u> {
    fn new(observer: &'u ObserverUrl, limit: Duration) -> Self {
        Self {
            observer,
            limit,
            until: Instant::now() + limit,
        }
    }

    fn ask(&self) -> Result<IpAddr, ProbeError> {
        let bytes = match &self.observer.scheme {
            Scheme::Http { path } => self.ask_http(path),
            Scheme::Tcp => self.ask_tcp(),
            Scheme::Udp => self.ask_udp(),
        };
        let bytes = bytes.map_err(|source| self.failed(source))?;
        let found = match &self.observer.scheme {
            Scheme::Http { .. } => answer::of_http(&bytes),
            Scheme::Tcp | Scheme::Udp => answer::address(&bytes),
        };
        found.map_err(|detail| ProbeError::NoAddress {
            observer: self.observer.to_string(),
            detail,
        })
    }

    /// HTTP/1.0, so that the answer is not chunked and ends with the connection (RFC 9112, C.2).
    fn ask_http(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut stream = self.connect()?;
        let host = self.observer.address;
        let request = format!(
            "GET {path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: sortie\r\nAccept: text/plain, application/json;q=0.5\r\n\r\n"
        );
        stream.set_write_timeout(Some(self.left()?))?;
        stream.write_all(request.as_bytes())?;
        self.read(&stream, answer::http_is_whole)
    }

    /// Says nothing, and says at once that it will not, so that the observer need not wait.
    fn ask_tcp(&self) -> io::Result<Vec<u8>> {
        let stream = self.connect()?;
        stream.shutdown(Shutdown::Write)?;
        self.read(&stream, |bytes| bytes.contains(&b'\n'))
    }

    /// Datagrams may be lost, the first one often, while neighbours are looked up.
    fn ask_udp(&self) -> io::Result<Vec<u8>> {
        let observer = self.observer.address;
        let any: SocketAddr = if observer.is_ipv4() {
            ([0, 0, 0, 0], 0).into()
        } else {
            ([0_u16; 8], 0).into()
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(observer)?;
        let mut answer = [0; 1500];
        loop {
            let left = self.left()?;
            socket.send(b"sortie\n")?;
            socket.set_read_timeout(Some(left.min(AGAIN)))?;
            match socket.recv(&mut answer) {
                Ok(length) => return Ok(answer[..length].to_vec()),
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        TcpStream::connect_timeout(&self.observer.address, self.left()?)
    }

    /// Up to the end, or to where `whole` says so.
    fn read(&self, mut stream: &TcpStream, whole: impl Fn(&[u8]) -> bool) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut part = [0; 4096];
        while bytes.len() < LONGEST && !whole(&bytes) {
            stream.set_read_timeout(Some(self.left()?))?;
            match stream.read(&mut part)? {
                0 => break,
                length => bytes.extend_from_slice(&part[..length]),
            }
        }
        Ok(bytes)
    }

    /// What is left of the limit; never zero, which sockets take for “no limit”.
    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(left)
    }

    fn failed(&self, source: io::Error) -> ProbeError {
        let observer = self.observer.to_string();
        match source.kind() {
            io::ErrorKind::ConnectionRefused => ProbeError::Refused { observer },
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                ProbeError::Unreachable { observer, source }
            }
            _ if is_timeout(&source) => ProbeError::TimedOut {
                observer,
                limit: self.limit,
            },
            _ => ProbeError::Exchange { observer, source },
        }
    }
}

/// A socket's own time limit shows as EAGAIN.
fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
    )
}

#[cfg(test)]
mod tests;
