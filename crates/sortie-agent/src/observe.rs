//! Tells callers the address they are seen with: HTTP, TCP and UDP on one port.
//!
//! | Caller | Answer |
//! |---|---|
//! | HTTP `/` | `ADDRESS`, as text |
//! | HTTP `/json`, or `Accept: application/json` | `{"address": …, "port": …}` |
//! | TCP, anything else or nothing | `ADDRESS PORT`, then closed |
//! | UDP, any datagram | `ADDRESS PORT` |

mod datagram;
mod http;
mod socket;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use http::First;

/// Connections that are served at once; further ones wait in the listener's backlog.
const CONNECTIONS: usize = 1024;
/// How long a TCP caller may be silent before it is no HTTP client: longer than one lost
/// segment takes to come again (RFC 6298, 2.1).
const SILENCE: Duration = Duration::from_millis(1500);
/// How long a whole connection may take.
const CONNECTION: Duration = Duration::from_secs(10);
/// How long listeners rest when the system has no more file descriptors.
const REST: Duration = Duration::from_millis(100);

/// Why observing is impossible.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// A socket could not be had.
    #[error("cannot listen on {address} ({protocol}): {source}{}", advice(source, *address))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// `tcp` or `udp`.
        protocol: &'static str,
        /// From the system.
        source: io::Error,
    },
    /// Nothing to listen on.
    #[error("no address to listen on: name one, such as 0.0.0.0:8080")]
    Nowhere,
}

fn advice(source: &io::Error, address: SocketAddr) -> String {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            let port = address.port();
            format!(": choose another port, or end what `ss -lntup 'sport = :{port}'` shows")
        }
        io::ErrorKind::AddrNotAvailable => ": `ip addr` shows this host's addresses".to_owned(),
        io::ErrorKind::PermissionDenied => ": choose a port above 1023, or run as root".to_owned(),
        _ => String::new(),
    }
}

/// Somebody who called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Caller {
    /// When.
    pub time: Timestamp,
    /// `http`, `tcp` or `udp`.
    pub protocol: String,
    /// What it was seen with; an IPv4-mapped IPv6 address as IPv4.
    pub address: IpAddr,
    /// Its source port.
    pub port: u16,
}

/// Bound sockets, not yet served.
#[derive(Debug)]
pub struct Observer {
    addresses: Vec<SocketAddr>,
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
}

impl Observer {
    /// Binds TCP and UDP at each address; an IPv6 address takes IPv6 only. Port 0 is any free
    /// one. Call it within a tokio runtime.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, ObserveError> {
        let mut observer = Self {
            addresses: Vec::new(),
            tcp: Vec::new(),
            udp: Vec::new(),
        };
        for address in addresses {
            observer.add(*address)?;
        }
        if observer.addresses.is_empty() {
            return Err(ObserveError::Nowhere);
        }
        Ok(observer)
    }

    /// Binds every address of this host at a port, for the IP families that the kernel has.
    pub fn bind_all(port: u16) -> Result<Self, ObserveError> {
        let v4 = SocketAddr::from(([0, 0, 0, 0], port));
        let v6 = SocketAddr::from(([0_u16; 8], port));
        match Self::bind(&[v4, v6]) {
            Err(ObserveError::Listen {
                address, source, ..
            }) if source.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) => {
                Self::bind(&[if address == v4 { v6 } else { v4 }])
            }
            other => other,
        }
    }

    fn add(&mut self, address: SocketAddr) -> Result<(), ObserveError> {
        let failed = |protocol| {
            move |source| ObserveError::Listen {
                address,
                protocol,
                source,
            }
        };
        let tcp = socket::listen(address).map_err(failed("tcp"))?;
        let bound = tcp.local_addr().map_err(failed("tcp"))?;
        let udp = socket::datagrams(bound).map_err(failed("udp"))?;
        self.addresses.push(bound);
        self.tcp.push(tcp);
        self.udp.push(udp);
        Ok(())
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Answers callers, and tells of each behind its answer, until it is dropped. When `callers`
    /// is full a caller is answered all the same and not told of.
    pub async fn serve(self, callers: mpsc::Sender<Caller>) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        let mut tasks = JoinSet::new();
        for listener in self.tcp {
            tasks.spawn(accept(listener, permits.clone(), callers.clone()));
        }
        for socket in self.udp {
            tasks.spawn(answer_datagrams(socket, callers.clone()));
        }
        while tasks.join_next().await.is_some() {}
    }
}

async fn accept(listener: TcpListener, permits: Arc<Semaphore>, callers: mpsc::Sender<Caller>) {
    let mut connections = JoinSet::new();
    while let Ok(permit) = permits.clone().acquire_owned().await {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, peer)) => {
                let callers = callers.clone();
                connections.spawn(async move {
                    // A caller that goes away early, or that is too slow, is let go.
                    let _ = timeout(CONNECTION, answer_stream(stream, peer, &callers)).await;
                    drop(permit);
                });
            }
            // One caller's error, such as a reset before it was accepted, or no more descriptors.
            Err(_) => tokio::time::sleep(REST).await,
        }
    }
}

async fn answer_stream(
    mut stream: TcpStream,
    peer: SocketAddr,
    callers: &mpsc::Sender<Caller>,
) -> io::Result<()> {
    let (protocol, answer) = match first(&mut stream).await? {
        First::Request(request) => ("http", http::answer(&request, peer)),
        First::Unknown | First::Incomplete => ("tcp", line(peer)),
    };
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    tell(callers, protocol, peer);
    // Closing with unread bytes is a reset, which could overtake the answer (RFC 9112, 9.6).
    let mut unread = [0; 4096];
    let until = Instant::now() + SILENCE;
    while let Ok(Ok(1..)) = timeout_at(until, stream.read(&mut unread)).await {}
    Ok(())
}

/// Reads until it is clear what the caller speaks.
async fn first(stream: &mut TcpStream) -> io::Result<First> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        let mut part = [0; 1024];
        let Ok(read) = timeout(SILENCE, stream.read(&mut part)).await else {
            return Ok(First::Unknown);
        };
        let read = read?;
        if read == 0 {
            return Ok(First::Unknown);
        }
        bytes.extend_from_slice(&part[..read]);
        match http::read(&bytes) {
            First::Incomplete => {}
            decided => return Ok(decided),
        }
    }
}

async fn answer_datagrams(socket: UdpSocket, callers: mpsc::Sender<Caller>) {
    loop {
        match datagram::receive(&socket).await {
            Ok(Some(arrival)) => {
                let answer = line(arrival.peer);
                if datagram::send(&socket, &arrival, answer.as_bytes())
                    .await
                    .is_ok()
                {
                    tell(&callers, "udp", arrival.peer);
                }
            }
            Ok(None) => {}
            // The socket's pending error, such as an ICMP error to an earlier answer.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

fn tell(callers: &mpsc::Sender<Caller>, protocol: &str, peer: SocketAddr) {
    // Answering goes on when the log cannot keep up, or nobody reads it.
    let _ = callers.try_send(Caller {
        time: Timestamp::now(),
        protocol: protocol.to_owned(),
        address: peer.ip().to_canonical(),
        port: peer.port(),
    });
}

fn line(peer: SocketAddr) -> String {
    format!("{} {}\n", peer.ip().to_canonical(), peer.port())
}

#[cfg(test)]
mod tests;
