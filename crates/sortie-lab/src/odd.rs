//! Odd packets: those that connection tracking does not follow, or that claim another source.
//!
//! A container with `CAP_NET_RAW`, which Docker gives, can send each of them.

use std::io;
use std::net::{IpAddr, SocketAddr};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, socket,
};
use nix::unistd::write;
use serde_json::Value;

use crate::capture::sending;
use crate::checksum::internet_checksum;
use crate::error::{Doing, LabError, Result};
use crate::frame::Mac;
use crate::netns::Netns;
use crate::place::Place;
use crate::wait::{SOON, eventually};

use std::os::fd::AsRawFd;

/// Odd packets from one source address to one destination of the same family.
#[derive(Clone, Debug)]
pub struct OddPackets {
    source: IpAddr,
    destination: IpAddr,
    packets: Vec<(&'static str, Vec<u8>)>,
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const FRAGMENT_HEADER: u8 = 44;
const GRE: u8 = 47;
const SCTP: u8 = 132;
/// For experiments (RFC 3692).
const EXPERIMENT: u8 = 253;

/// The port they are sent to.
const PORT: u16 = 7777;

impl OddPackets {
    /// Makes them; the source need not be the sender's own.
    ///
    /// # Errors
    /// When the addresses are of two families.
    pub fn new(source: IpAddr, destination: IpAddr) -> Result<Self> {
        if source.is_ipv4() != destination.is_ipv4() {
            return Err(LabError::Address {
                text: source.to_string(),
                expected: "of the destination's family",
                example: "198.51.100.7 with 203.0.113.5",
            });
        }
        let ends = Ends {
            source,
            destination,
        };
        Ok(Self {
            source,
            destination,
            packets: ends.packets(),
        })
    }

    /// The same packets from another source of the same family too.
    ///
    /// # Errors
    /// When the address is of the other family.
    pub fn and_from(mut self, source: IpAddr) -> Result<Self> {
        self.packets
            .extend(Self::new(source, self.destination)?.packets);
        Ok(self)
    }

    /// What each of them is called, and its bytes from the IP header on.
    pub fn packets(&self) -> &[(&'static str, Vec<u8>)] {
        &self.packets
    }

    /// Sends them from a place through its routes, with its own MAC.
    ///
    /// # Errors
    /// When the place's kernel refuses one of them, which keeps no other back, or it has no namespace.
    pub fn send(&self, place: &dyn Place) -> Result<()> {
        place.place()?.run(|| self.send_here())?
    }

    /// The same from the calling process, whatever its namespace and cgroup.
    ///
    /// # Errors
    /// The first one's, when the kernel refuses some of them.
    pub fn send_here(&self) -> Result<()> {
        let mut sent = Ok(());
        for (name, packet) in &self.packets {
            let result = send_packet(packet, self.destination).doing("send odd packet", name);
            sent = sent.and(result);
        }
        sent
    }

    /// Sends them from a place as frames with a MAC of the caller's choice, to the place's router.
    ///
    /// # Errors
    /// When the place has no route, or its router does not answer.
    pub fn send_as(&self, place: &dyn Place, mac: Mac) -> Result<()> {
        let netns = place.place()?;
        let (device, router) = next_hop(&netns, self.destination)?;
        let ethertype: [u8; 2] = if self.source.is_ipv4() {
            [0x08, 0x00]
        } else {
            [0x86, 0xdd]
        };
        netns.run(|| {
            let socket = sending(&device).doing("send odd packets on", &device)?;
            for (name, packet) in &self.packets {
                let frame = [&router.0[..], &mac.0, &ethertype, packet].concat();
                write(&socket, &frame)
                    .map_err(io::Error::from)
                    .doing("send odd packet", name)?;
            }
            Ok(())
        })?
    }
}

/// Sends a packet that has its IP header already (raw(7), `IPPROTO_RAW`).
fn send_packet(packet: &[u8], destination: IpAddr) -> io::Result<()> {
    let family = if destination.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let socket = socket(
        family,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::Raw,
    )?;
    let to = SockaddrStorage::from(SocketAddr::new(destination, 0));
    sendto(socket.as_raw_fd(), packet, &to, MsgFlags::empty())?;
    Ok(())
}

/// The interface and the router's MAC for a destination, asked for as the kernel would.
fn next_hop(netns: &Netns, destination: IpAddr) -> Result<(String, Mac)> {
    let route = json(&netns.ip(&format!("-j route get {destination}"))?);
    let text = |name: &str| route[0][name].as_str().unwrap_or_default().to_owned();
    let (device, gateway) = (text("dev"), text("gateway"));
    let missing = || LabError::Missing {
        object: netns.name().to_owned(),
        what: format!("router for {destination}"),
    };
    let router: IpAddr = gateway.parse().map_err(|_| missing())?;
    let mac = eventually(SOON, &format!("{router} tells its MAC"), || {
        // Any datagram makes the kernel ask; port 9 discards.
        let asked = netns.run(|| {
            let any = if router.is_ipv4() {
                "0.0.0.0:0"
            } else {
                "[::]:0"
            };
            std::net::UdpSocket::bind(any)?.send_to(b"?", (router, 9))
        })?;
        asked.doing("ask", router)?;
        let known = json(&netns.ip(&format!("-j neigh show to {router} dev {device}"))?);
        known[0]["lladdr"].as_str().unwrap_or_default().parse()
    })?;
    Ok((device, mac))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

#[derive(Clone, Copy)]
struct Ends {
    source: IpAddr,
    destination: IpAddr,
}

impl Ends {
    fn packets(self) -> Vec<(&'static str, Vec<u8>)> {
        const FIN: u8 = 1;
        const SYN: u8 = 2;
        const RST: u8 = 4;
        const ACK: u8 = 16;
        let mut bad_checksum = self.tcp(1005, SYN);
        bad_checksum[16] ^= 0x12;
        let echo_reply = if self.source.is_ipv4() { 0 } else { 129 };
        let unreachable = if self.source.is_ipv4() { 3 } else { 1 };
        // An ICMP error holds the start of a packet that the other side is said to have sent.
        let quoted = Self {
            source: self.destination,
            destination: self.source,
        }
        .packet(UDP, &udp(53, 5353, &[]));
        vec![
            ("RST", self.packet(TCP, &self.tcp(1001, RST))),
            ("SYN-ACK", self.packet(TCP, &self.tcp(1002, SYN | ACK))),
            ("FIN", self.packet(TCP, &self.tcp(1003, FIN))),
            ("null flags", self.packet(TCP, &self.tcp(1004, 0))),
            ("bad checksum", self.packet(TCP, &bad_checksum)),
            ("ACK", self.packet(TCP, &self.tcp(1006, ACK))),
            ("SYN", self.packet(TCP, &self.tcp(1007, SYN))),
            ("echo reply", self.icmp(echo_reply, 0, &[0, 77, 0, 1])),
            (
                "ICMP error",
                self.icmp(unreachable, 1, &[&[0; 4], &quoted[..]].concat()),
            ),
            ("SCTP", self.packet(SCTP, &[0; 12])),
            ("GRE", self.packet(GRE, &[0; 8])),
            (
                "first fragment",
                self.fragment(0, true, &udp(1111, 2222, b"12345678")),
            ),
            ("later fragment", self.fragment(2, false, b"12345678")),
            ("unknown protocol", self.packet(EXPERIMENT, b"zz")),
        ]
    }

    fn tcp(self, source_port: u16, flags: u8) -> Vec<u8> {
        let mut segment = [source_port.to_be_bytes(), PORT.to_be_bytes()].concat();
        segment.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 3, 0xe8, 0, 0, 0, 0]);
        let checksum = self.checksum(TCP, &segment);
        segment[16..18].copy_from_slice(&checksum);
        segment
    }

    fn icmp(self, kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
        let mut message = [&[kind, code, 0, 0], rest].concat();
        let (protocol, checksum) = if self.source.is_ipv4() {
            (1, internet_checksum(&[&message]).to_be_bytes())
        } else {
            (58, self.checksum(58, &message))
        };
        message[2..4].copy_from_slice(&checksum);
        self.packet(protocol, &message)
    }

    /// The checksum over the pseudo-header and a segment (RFC 9293 3.1, RFC 8200 8.1).
    fn checksum(self, protocol: u8, segment: &[u8]) -> [u8; 2] {
        let length = u16::try_from(segment.len())
            .unwrap_or(u16::MAX)
            .to_be_bytes();
        let ends = [octets(self.source), octets(self.destination)].concat();
        internet_checksum(&[&ends, &[0, protocol], &length, segment]).to_be_bytes()
    }

    fn packet(self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        match self.source {
            IpAddr::V4(_) => self.ipv4(protocol, 0, payload),
            IpAddr::V6(_) => self.ipv6(protocol, payload),
        }
    }

    /// A UDP fragment; `offset` counts 8 octets.
    fn fragment(self, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
        match self.source {
            IpAddr::V4(_) => self.ipv4(UDP, offset | if more { 0x2000 } else { 0 }, payload),
            IpAddr::V6(_) => {
                let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
                let header = [UDP, 0, high, low, 0, 0, 0, 9];
                self.ipv6(FRAGMENT_HEADER, &[&header, payload].concat())
            }
        }
    }

    fn ipv4(self, protocol: u8, fragmentation: u16, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(20 + payload.len()).unwrap_or(u16::MAX);
        let mut header = [
            [0x45, 0],
            length.to_be_bytes(),
            [0, 9],
            fragmentation.to_be_bytes(),
        ]
        .concat();
        header.extend([64, protocol, 0, 0]);
        header.extend(octets(self.source));
        header.extend(octets(self.destination));
        let checksum = internet_checksum(&[&header]).to_be_bytes();
        header[10..12].copy_from_slice(&checksum);
        [&header, payload].concat()
    }

    fn ipv6(self, next: u8, payload: &[u8]) -> Vec<u8> {
        let [high, low] = u16::try_from(payload.len())
            .unwrap_or(u16::MAX)
            .to_be_bytes();
        let header = [0x60, 0, 0, 0, high, low, next, 64];
        [
            &header,
            &octets(self.source)[..],
            &octets(self.destination),
            payload,
        ]
        .concat()
    }
}

/// A UDP datagram without a checksum: IPv4 allows that, and nobody here opens it.
fn udp(source_port: u16, destination_port: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
    let header = [source_port, destination_port, length, 0]
        .map(u16::to_be_bytes)
        .concat();
    [&header, payload].concat()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests;
