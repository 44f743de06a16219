//! Ordinary traffic from a place: a TCP connection, a UDP datagram, an ICMP echo request.
//!
//! The sockets are made inside the place's network namespace, so that its images need no tools.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::checksum::internet_checksum;
use crate::error::{LabError, Result};
use crate::place::Place;

/// What is sent to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// A TCP connection to a port where an observer speaks [`crate::Protocol::Tcp`].
    Tcp(u16),
    /// A UDP datagram to a port with an observer.
    Udp(u16),
    /// An ICMP or `ICMPv6` echo request.
    Ping,
}

/// TCP, UDP and ICMP echo, to the port where observers are from the beginning.
pub const ALL_TRAFFIC: [Traffic; 3] = [Traffic::Tcp(7), Traffic::Udp(7), Traffic::Ping];

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "TCP port {port}"),
            Self::Udp(port) => write!(f, "UDP port {port}"),
            Self::Ping => f.write_str("ICMP echo"),
        }
    }
}

/// One attempt to reach a destination.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    traffic: Traffic,
    destination: IpAddr,
    source: Option<IpAddr>,
    limit: Duration,
}

impl Call {
    /// An attempt that waits for its answer for ten seconds.
    pub fn new(traffic: Traffic, destination: IpAddr) -> Self {
        Self {
            traffic,
            destination,
            source: None,
            limit: Duration::from_secs(10),
        }
    }

    /// Binds the socket to one of the place's own addresses before.
    #[must_use]
    pub fn from(mut self, source: IpAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// Waits this long for the answer.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Makes the attempt: the address that the other side said it saw. `None` for an echo reply,
    /// which cannot say it.
    ///
    /// # Errors
    /// When there is no answer: which is the kernel's answer, not a failure of the lab.
    pub fn make(&self, place: &dyn Place) -> Result<Option<SocketAddr>> {
        let answered = place.place()?.run(|| match self.traffic {
            Traffic::Tcp(port) => self.tcp(port).map(Some),
            Traffic::Udp(port) => self.udp(port).map(Some),
            Traffic::Ping => self.ping().map(|()| None),
        })?;
        answered.map_err(|source| LabError::Io {
            operation: "reach",
            object: format!(
                "{} with {} from {}",
                self.destination,
                self.traffic,
                place.name()
            ),
            source,
        })
    }

    /// Opens a TCP connection that stays open; the observer's greeting is still to be read.
    ///
    /// # Errors
    /// When it is not accepted.
    pub fn connect(&self, place: &dyn Place, port: u16) -> Result<TcpStream> {
        let connected = place.place()?.run(|| self.stream(port))?;
        connected.map_err(|source| LabError::Io {
            operation: "connect to",
            object: format!("{} port {port} from {}", self.destination, place.name()),
            source,
        })
    }

    fn stream(&self, port: u16) -> io::Result<TcpStream> {
        let socket = self.socket(SockType::Stream, None)?;
        let address = SockaddrStorage::from(SocketAddr::new(self.destination, port));
        connect(socket.as_raw_fd(), &address).map_err(|error| match error {
            // A connect() that meets SO_SNDTIMEO answers so (socket(7)).
            nix::Error::EINPROGRESS => io::ErrorKind::TimedOut.into(),
            other => io::Error::from(other),
        })?;
        Ok(socket.into())
    }

    fn tcp(&self, port: u16) -> io::Result<SocketAddr> {
        greeted(&self.stream(port)?)
    }

    fn udp(&self, port: u16) -> io::Result<SocketAddr> {
        let socket: UdpSocket = self.socket(SockType::Datagram, None)?.into();
        socket.connect((self.destination, port))?;
        socket.send(b"?")?;
        let mut answer = [0; 128];
        let length = socket.recv(&mut answer)?;
        address_in(&String::from_utf8_lossy(&answer[..length]))
    }

    fn ping(&self) -> io::Result<()> {
        static IDENTIFIER: AtomicU16 = AtomicU16::new(1);
        let v4 = self.destination.is_ipv4();
        let (protocol, request, reply) = if v4 {
            (SockProtocol::Icmp, 8, 0)
        } else {
            (SockProtocol::IcmpV6, 128, 129)
        };
        let socket: UdpSocket = self.socket(SockType::Raw, Some(protocol))?.into();
        socket.connect((self.destination, 0))?;
        let [high, low] = IDENTIFIER.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut message = [request, 0, 0, 0, high, low, 0, 1];
        if v4 {
            // Raw IPv6 sockets get the checksum from the kernel (raw(7), RFC 3542 3.1).
            let [first, second] = internet_checksum(&[&message]).to_be_bytes();
            message[2] = first;
            message[3] = second;
        }
        socket.send(&message)?;
        let deadline = Instant::now() + self.limit;
        let mut buffer = [0; 256];
        while Instant::now() < deadline {
            let length = socket.recv(&mut buffer)?;
            // Raw IPv4 sockets give the IP header too.
            let header = if v4 {
                usize::from(buffer[0] & 0x0f) * 4
            } else {
                0
            };
            let answer = buffer.get(header..length).unwrap_or_default();
            if answer.first() == Some(&reply) && answer.get(4..6) == Some(&[high, low]) {
                return Ok(());
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    fn socket(&self, kind: SockType, protocol: Option<SockProtocol>) -> io::Result<OwnedFd> {
        let family = if self.destination.is_ipv4() {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        };
        let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol)?;
        let micros = i64::try_from(self.limit.as_micros()).unwrap_or(i64::MAX);
        let limit = TimeVal::new(micros / 1_000_000, micros % 1_000_000);
        setsockopt(&socket, sockopt::SendTimeout, &limit)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &limit)?;
        if let Some(source) = self.source {
            bind(
                socket.as_raw_fd(),
                &SockaddrStorage::from(SocketAddr::new(source, 0)),
            )?;
        }
        Ok(socket)
    }
}

/// From the observer's greeting on a TCP connection to its end by both sides, so that no late segment
/// of it is taken for a later one's: the address that the other side saw.
///
/// # Errors
/// When nothing comes in the socket's time, or something else than a greeting.
pub fn greeted(stream: &TcpStream) -> io::Result<SocketAddr> {
    let mut answers = BufReader::new(stream);
    let mut greeting = String::new();
    answers.read_line(&mut greeting)?;
    stream.shutdown(Shutdown::Write)?;
    answers.read_to_end(&mut Vec::new())?;
    address_in(&greeting)
}

fn address_in(answer: &str) -> io::Result<SocketAddr> {
    let unreadable = |_| io::Error::other(format!("the observer answered {answer:?}"));
    answer.trim().parse().map_err(unreadable)
}
