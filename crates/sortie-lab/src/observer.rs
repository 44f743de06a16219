//! Observers: they tell each caller the address it was seen with, and remember it.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::error::{Doing, LabError, Result};
use crate::netns::Netns;
use crate::wait::eventually;

mod datagram;
mod http;
mod names;

pub use http::Requested;
pub use names::{Lookup, Names};

/// What an observer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// A line with the caller's address and port, then everything the caller sends, sent back.
    Tcp,
    /// Each datagram is answered with the caller's address and port.
    Udp,
    /// HTTP/1.1, on connections that stay; each answer's body is the caller's address.
    Http,
}

/// A caller that an observer saw: a connection, or one datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// When.
    pub at: Instant,
    /// How.
    pub protocol: Protocol,
    /// The caller, as seen from outside.
    pub source: SocketAddr,
    /// Whom it called.
    pub destination: SocketAddr,
}

impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} {} > {}",
            self.protocol, self.source, self.destination
        )
    }
}

/// Listens on all addresses of a namespace.
pub struct Observer {
    netns: Netns,
    runtime: Arc<Runtime>,
    seen: Record,
    names: Names,
}

#[derive(Clone, Default)]
struct Record(Arc<Mutex<Vec<Observation>>>, http::Requests);

impl Record {
    fn add(&self, protocol: Protocol, source: SocketAddr, destination: SocketAddr) {
        let observation = Observation {
            at: Instant::now(),
            protocol,
            source,
            destination,
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(observation);
    }
}

impl Observer {
    pub(crate) fn new(netns: Netns, runtime: Arc<Runtime>) -> Self {
        Self {
            netns,
            runtime,
            seen: Record::default(),
            names: Names::default(),
        }
    }

    /// Listens on one more port, on every address, with IPv4 and IPv6.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn listen(&self, protocol: Protocol, port: u16) -> Result<()> {
        for any in [
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ] {
            let address = SocketAddr::new(any, port);
            self.listen_at(protocol, address)
                .doing("observe at", address)?;
        }
        Ok(())
    }

    fn listen_at(&self, protocol: Protocol, address: SocketAddr) -> io::Result<()> {
        let _context = self.runtime.enter();
        let seen = self.seen.clone();
        if protocol == Protocol::Udp {
            let socket = self
                .netns
                .run(|| datagram::bind(address))
                .map_err(io::Error::other)??;
            let observe = move |_: &[u8], source, destination| {
                seen.add(Protocol::Udp, source, destination);
                Some(format!("{source}\n").into_bytes())
            };
            self.runtime.spawn(datagram::answer(socket, observe));
        } else {
            let listener = self
                .netns
                .run(|| listen(address))
                .map_err(io::Error::other)??;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            self.runtime.spawn(async move {
                loop {
                    // An error is one caller's, such as a reset before it was accepted.
                    if let Ok((stream, source)) = listener.accept().await {
                        tokio::spawn(serve(protocol, stream, source, seen.clone()));
                    }
                }
            });
        }
        Ok(())
    }

    /// The names that are answered for.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// All callers so far.
    pub fn seen(&self) -> Vec<Observation> {
        self.seen
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// All HTTP requests so far.
    pub fn requested(&self) -> Vec<Requested> {
        self.seen.1.all()
    }

    /// All HTTP requests so far, which are then forgotten: for tests that ask without end.
    pub fn take_requested(&self) -> Vec<Requested> {
        self.seen.1.take()
    }

    /// All callers of one address so far.
    pub fn seen_at(&self, destination: IpAddr) -> Vec<Observation> {
        let mut seen = self.seen();
        seen.retain(|observation| observation.destination.ip() == destination);
        seen
    }

    /// Waits for a caller that `wanted` accepts.
    ///
    /// # Errors
    /// [`LabError::Deadline`], with all callers.
    pub fn wait_for(
        &self,
        limit: Duration,
        what: &str,
        wanted: impl Fn(&Observation) -> bool,
    ) -> Result<Observation> {
        eventually(limit, what, || {
            let seen = self.seen();
            seen.iter()
                .find(|observation| wanted(observation))
                .cloned()
                .ok_or_else(|| {
                    let lines: Vec<String> = seen.iter().map(ToString::to_string).collect();
                    LabError::unexpected(format!("callers seen so far: {}", lines.join("; ")))
                })
        })
    }
}

/// A listener of one family only, so that IPv4 callers are not shown as mapped IPv6 addresses.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage};
    use nix::sys::socket::{bind, listen, setsockopt, socket, sockopt};
    use std::os::fd::AsRawFd;

    let family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&socket, Backlog::MAXCONN)?;
    Ok(socket.into())
}

async fn serve(protocol: Protocol, stream: TcpStream, source: SocketAddr, seen: Record) {
    let Ok(destination) = stream.local_addr() else {
        return;
    };
    seen.add(protocol, source, destination);
    // The caller may go at any time; what it was seen with is already noted.
    let _ = match protocol {
        Protocol::Http => http::answer(stream, source, &seen.1).await,
        Protocol::Tcp | Protocol::Udp => echo(stream, source).await,
    };
}

async fn echo(mut stream: TcpStream, source: SocketAddr) -> io::Result<()> {
    stream.write_all(format!("{source}\n").as_bytes()).await?;
    let (mut from, mut to) = stream.split();
    tokio::io::copy(&mut from, &mut to).await?;
    Ok(())
}
