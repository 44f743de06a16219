//! What tests assert about sources: from the observers' answers and from the frames.

use std::collections::HashSet;
use std::fmt::Write;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::capture::{Direction, Frame};
use crate::error::{Doing, LabError, Result};
use crate::frame::{Packet, Transport};
use crate::lab::Lab;
use crate::place::Place;
use crate::traffic::{Call, Traffic};

/// A moment in the frames of every uplink of a lab; the default is the beginning.
#[derive(Clone, Debug, Default)]
pub struct Mark(Vec<(String, usize)>);

/// How long an attempt is given that must not succeed: a SYN and its first repetition.
const REFUSED: Duration = Duration::from_millis(1200);

/// Frames of one message, at most.
const SHOWN: usize = 40;

impl Lab {
    /// Where the frame readers of all uplinks are now.
    ///
    /// # Errors
    /// [`LabError::FramesLost`].
    pub fn mark(&self) -> Result<Mark> {
        let mut positions = Vec::new();
        for uplink in self.uplinks() {
            positions.push((uplink.label().to_owned(), uplink.capture().position()?));
        }
        Ok(Mark(positions))
    }

    /// All frames that crossed an uplink since a mark, with the uplink's label, as `h1 up0`.
    ///
    /// # Errors
    /// [`LabError::FramesLost`].
    pub fn frames_since(&self, mark: &Mark) -> Result<Vec<(String, Frame)>> {
        let mut frames = Vec::new();
        for uplink in self.uplinks() {
            let start = mark.0.iter().find(|(label, _)| label == uplink.label());
            let position = start.map_or(0, |(_, position)| *position);
            let since = uplink.capture().since(position)?;
            frames.extend(
                since
                    .into_iter()
                    .map(|frame| (uplink.label().to_owned(), frame)),
            );
        }
        Ok(frames)
    }

    /// Checks one attempt from a place, from both sides: it is answered, the observer names
    /// `expected` as its source, and no frame for this destination left with another source.
    ///
    /// # Errors
    /// What was seen instead, with the frames.
    #[track_caller]
    pub fn expect_source(
        &self,
        place: &dyn Place,
        traffic: Traffic,
        destination: IpAddr,
        expected: IpAddr,
    ) -> Result<()> {
        let mark = self.mark()?;
        let answered = Call::new(traffic, destination).make(place);
        let frames = self.frames_since(&mark)?;
        let told = match &answered {
            Ok(seen) => seen.is_none_or(|seen| seen.ip() == expected),
            Err(_) => false,
        };
        let requests = frames.iter().filter_map(|(_, frame)| frame.left());
        let mut requests =
            requests.filter(|packet| packet.destination == destination && carries(packet, traffic));
        let left = requests
            .next()
            .is_some_and(|first| first.source == expected);
        if told && left && requests.all(|packet| packet.source == expected) {
            return self.expect_only_sources(&mark, destination, &[expected]);
        }
        let said = match answered {
            Ok(Some(seen)) => format!("the observer saw {seen}"),
            Ok(None) => "it was answered".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(LabError::unexpected(format!(
            "{} to {destination} with {traffic} must have the source {expected}: {said}{}",
            place.name(),
            list(&frames)
        )))
    }

    /// Checks that an attempt from a place is not answered, and that no frame for this
    /// destination leaves any host.
    ///
    /// # Errors
    /// What was seen, with the frames.
    #[track_caller]
    pub fn expect_nothing(
        &self,
        place: &dyn Place,
        traffic: Traffic,
        destination: IpAddr,
    ) -> Result<()> {
        let mark = self.mark()?;
        let answered = Call::new(traffic, destination).within(REFUSED).make(place);
        self.fence()?;
        if let Ok(seen) = answered {
            return Err(LabError::unexpected(format!(
                "{} must not reach {destination} with {traffic}, and was answered (source {seen:?}){}",
                place.name(),
                list(&self.frames_since(&mark)?)
            )));
        }
        self.expect_only_sources(&mark, destination, &[])
    }

    /// Checks that since a mark every packet that left a host for a destination had one of these
    /// sources. Call [`Lab::fence`] before when nothing says that the packets have gone through.
    ///
    /// A reset that answers a segment from outside is the host's own: the other side repeats what
    /// belongs to a connection of before, which nobody knows any more (RFC 9293, section 3.5.2). So is
    /// what only routers say: that whom such a packet is for is not there (RFC 792, RFC 4443).
    ///
    /// # Errors
    /// Every frame with another source.
    #[track_caller]
    pub fn expect_only_sources(
        &self,
        mark: &Mark,
        destination: IpAddr,
        allowed: &[IpAddr],
    ) -> Result<()> {
        let mut frames = self.frames_since(mark)?;
        let mut came = HashSet::new();
        frames.retain(|(_, frame)| {
            let Some(packet) = frame.headers.packet() else {
                return false;
            };
            if frame.direction == Direction::In {
                came.extend(connection(packet).map(Connection::reversed));
                return false;
            }
            let answers = || connection(packet).is_some_and(|it| came.contains(&it));
            let is_right = allowed.contains(&packet.source)
                || is_a_routers(packet)
                || is_reset(packet) && answers();
            packet.destination == destination && !is_right
        });
        if frames.is_empty() {
            return Ok(());
        }
        Err(LabError::unexpected(format!(
            "packets for {destination} may leave with {allowed:?} only{}",
            list(&frames)
        )))
    }

    /// Waits until every packet that was sent before has left, or was dropped.
    ///
    /// A veth or loopback device hands each packet to the queue of the CPU that sends it, and each
    /// further device on its way queues it again (`netif_rx`, net/core/dev.c). So as many rounds
    /// through that queue as a packet has devices on its way, on every CPU, are behind it.
    ///
    /// # Errors
    /// When the namespace of the internet cannot be entered.
    pub fn fence(&self) -> Result<()> {
        self.internet()
            .netns()
            .run(fence)?
            .doing("pass packets through", "the loopback device")
    }
}

/// More devices than a packet passes from a container to the internet.
const ROUNDS: usize = 16;

fn fence() -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(crate::wait::SOON))?;
    socket.connect(socket.local_addr()?)?;
    for cpu in 0..CpuSet::count() {
        let mut only = CpuSet::new();
        only.set(cpu)?;
        // A CPU that is not there, or not for us, has sent nothing of ours.
        if sched_setaffinity(Pid::from_raw(0), &only).is_err() {
            continue;
        }
        for _ in 0..ROUNDS {
            socket.send(&[])?;
            socket.recv(&mut [])?;
        }
    }
    Ok(())
}

/// Whether a packet is of this kind, and not an ICMP error about another one.
fn carries(packet: &Packet, traffic: Traffic) -> bool {
    match (traffic, &packet.transport) {
        (
            Traffic::Tcp(port),
            Transport::Tcp {
                destination_port, ..
            },
        )
        | (
            Traffic::Udp(port),
            Transport::Udp {
                destination_port, ..
            },
        ) => *destination_port == port,
        (Traffic::Ping, _) => packet.is_echo_request(),
        _ => false,
    }
}

/// Source and destination of a TCP segment.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Connection(SocketAddr, SocketAddr);

impl Connection {
    fn reversed(self) -> Self {
        Self(self.1, self.0)
    }
}

fn connection(packet: &Packet) -> Option<Connection> {
    let Transport::Tcp {
        source_port,
        destination_port,
        ..
    } = packet.transport
    else {
        return None;
    };
    let source = SocketAddr::new(packet.source, source_port);
    Some(Connection(
        source,
        SocketAddr::new(packet.destination, destination_port),
    ))
}

fn is_reset(packet: &Packet) -> bool {
    const RST: u8 = 4;
    matches!(packet.transport, Transport::Tcp { flags, .. } if flags & RST != 0)
}

/// Whether it says that a host is unreachable.
fn is_a_routers(packet: &Packet) -> bool {
    let said = match packet.source {
        IpAddr::V4(_) => (3, 1),
        IpAddr::V6(_) => (1, 3),
    };
    matches!(packet.transport, Transport::Icmp { kind, code, .. } if (kind, code) == said)
}

fn list(frames: &[(String, Frame)]) -> String {
    let mut text = format!("; {} frames:", frames.len());
    for (uplink, frame) in frames.iter().take(SHOWN) {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {uplink} {frame}");
    }
    if frames.len() > SHOWN {
        text.push_str("\n  and more");
    }
    text
}
