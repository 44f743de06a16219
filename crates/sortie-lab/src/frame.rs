//! An Ethernet frame's headers, read from bytes. Pure: any bytes give an answer.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

/// The headers of one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Who sent it on this link.
    pub source_mac: Mac,
    /// Whom it was sent to on this link.
    pub destination_mac: Mac,
    /// The VLAN id, where the frame has a tag (IEEE 802.1Q).
    pub vlan: Option<u16>,
    /// What it carries.
    pub payload: Payload,
}

/// What a frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// An ARP message for IPv4 (RFC 826).
    Arp(Arp),
    /// An IPv4 or IPv6 packet.
    Ip(Packet),
    /// Another `EtherType`.
    Other(u16),
    /// Too short or inconsistent for what it claims to be.
    Malformed,
}

/// An ARP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arp {
    /// 1 asks, 2 answers.
    pub operation: u16,
    /// The MAC that the sender claims.
    pub sender_mac: Mac,
    /// The address that the sender claims.
    pub sender: Ipv4Addr,
    /// The address that is asked for.
    pub target: Ipv4Addr,
}

/// An IP packet's headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The source address.
    pub source: IpAddr,
    /// The destination address.
    pub destination: IpAddr,
    /// The protocol number (IANA), behind IPv6 extension headers.
    pub protocol: u8,
    /// Whether this is a fragment.
    pub fragment: bool,
    /// The protocol's own header.
    pub transport: Transport,
}

/// The header behind the IP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP (RFC 9293).
    Tcp {
        /// The source port.
        source_port: u16,
        /// The destination port.
        destination_port: u16,
        /// The flag bits: 1 FIN, 2 SYN, 4 RST, 8 PSH, 16 ACK.
        flags: u8,
    },
    /// UDP (RFC 768).
    Udp {
        /// The source port.
        source_port: u16,
        /// The destination port.
        destination_port: u16,
    },
    /// `ICMPv4` (RFC 792) or `ICMPv6` (RFC 4443).
    Icmp {
        /// The message's type.
        kind: u8,
        /// The message's code.
        code: u8,
        /// The identifier, for echo requests and replies.
        identifier: u16,
    },
    /// Another protocol, a later fragment, or a header cut short.
    Opaque,
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// IPv6 extension headers that are looked behind: more than a real packet has, few enough to end.
const MAX_EXTENSIONS: usize = 8;

impl Headers {
    /// Reads the headers of an Ethernet frame; `None` when it is shorter than an Ethernet header.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let destination_mac = Mac(*frame.first_chunk()?);
        let source_mac = Mac(*frame.get(6..)?.first_chunk()?);
        let mut ethertype = be16(frame, 12)?;
        let mut rest = frame.get(14..)?;
        let mut vlan = None;
        while matches!(ethertype, ETHERTYPE_VLAN | ETHERTYPE_SERVICE_VLAN) {
            let (Some(tag), Some(inner), Some(behind)) =
                (be16(rest, 0), be16(rest, 2), rest.get(4..))
            else {
                break;
            };
            vlan = Some(tag & 0x0fff);
            ethertype = inner;
            rest = behind;
        }
        let payload = match ethertype {
            ETHERTYPE_ARP => arp(rest).map(Payload::Arp),
            ETHERTYPE_IPV4 => ipv4(rest).map(Payload::Ip),
            ETHERTYPE_IPV6 => ipv6(rest).map(Payload::Ip),
            other => Some(Payload::Other(other)),
        };
        Some(Self {
            source_mac,
            destination_mac,
            vlan,
            payload: payload.unwrap_or(Payload::Malformed),
        })
    }

    /// The IP packet it carries, if it is one.
    pub fn packet(&self) -> Option<&Packet> {
        match &self.payload {
            Payload::Ip(packet) => Some(packet),
            _ => None,
        }
    }
}

impl Packet {
    /// Whether this is an ICMP echo request.
    pub fn is_echo_request(&self) -> bool {
        let request = if self.source.is_ipv4() { 8 } else { 128 };
        matches!(self.transport, Transport::Icmp { kind, .. } if kind == request)
    }

    /// Whether it is an ICMP or ICMPv6 error (RFC 792, RFC 4443): somebody's answer to a packet that
    /// came the other way.
    pub fn is_icmp_error(&self) -> bool {
        match self.transport {
            Transport::Icmp { kind, .. } if self.source.is_ipv4() => {
                matches!(kind, 3..=5 | 11 | 12)
            }
            Transport::Icmp { kind, .. } => kind < 128,
            _ => false,
        }
    }
}

fn arp(bytes: &[u8]) -> Option<Arp> {
    // Hardware Ethernet, protocol IPv4, lengths 6 and 4: all else is not for this reader.
    if bytes.get(..6)? != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    Some(Arp {
        operation: be16(bytes, 6)?,
        sender_mac: Mac(*bytes.get(8..)?.first_chunk()?),
        sender: v4(bytes, 14)?,
        target: v4(bytes, 24)?,
    })
}

fn ipv4(bytes: &[u8]) -> Option<Packet> {
    let first = *bytes.first()?;
    let header = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header < 20 {
        return None;
    }
    let fragmentation = be16(bytes, 6)?;
    let later_fragment = fragmentation & 0x1fff != 0;
    let protocol = *bytes.get(9)?;
    Some(Packet {
        source: v4(bytes, 12)?.into(),
        destination: v4(bytes, 16)?.into(),
        protocol,
        fragment: later_fragment || fragmentation & 0x2000 != 0,
        transport: transport(protocol, later_fragment, bytes.get(header..)),
    })
}

fn ipv6(bytes: &[u8]) -> Option<Packet> {
    if bytes.first()? >> 4 != 6 {
        return None;
    }
    let source = v6(bytes, 8)?;
    let destination = v6(bytes, 24)?;
    let mut protocol = *bytes.get(6)?;
    let mut rest = bytes.get(40..);
    let mut fragment = false;
    let mut later_fragment = false;
    for _ in 0..MAX_EXTENSIONS {
        let Some(header) = rest.filter(|_| !later_fragment) else {
            break;
        };
        let length = match protocol {
            // Hop-by-hop, routing, destination options (RFC 8200): length in 8 octets, less the first.
            0 | 43 | 60 => header.get(1).map(|units| (usize::from(*units) + 1) * 8),
            44 => {
                fragment = true;
                later_fragment = be16(header, 2).is_some_and(|offset| offset & 0xfff8 != 0);
                Some(8)
            }
            _ => break,
        };
        let (Some(next), Some(length)) = (header.first(), length) else {
            rest = None;
            break;
        };
        protocol = *next;
        rest = header.get(length..);
    }
    Some(Packet {
        source: source.into(),
        destination: destination.into(),
        protocol,
        fragment,
        transport: transport(protocol, later_fragment, rest),
    })
}

fn transport(protocol: u8, later_fragment: bool, bytes: Option<&[u8]>) -> Transport {
    let read = |bytes: &[u8]| match i32::from(protocol) {
        libc::IPPROTO_TCP => Some(Transport::Tcp {
            source_port: be16(bytes, 0)?,
            destination_port: be16(bytes, 2)?,
            flags: *bytes.get(13)?,
        }),
        libc::IPPROTO_UDP => Some(Transport::Udp {
            source_port: be16(bytes, 0)?,
            destination_port: be16(bytes, 2)?,
        }),
        libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6 => Some(Transport::Icmp {
            kind: *bytes.first()?,
            code: *bytes.get(1)?,
            identifier: be16(bytes, 4)?,
        }),
        _ => None,
    };
    bytes
        .filter(|_| !later_fragment)
        .and_then(read)
        .unwrap_or(Transport::Opaque)
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn v4(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(*bytes.get(at..)?.first_chunk::<4>()?))
}

fn v6(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    Some(Ipv6Addr::from(*bytes.get(at..)?.first_chunk::<16>()?))
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.0;
        write!(f, "{first:02x}")?;
        rest.iter().try_for_each(|octet| write!(f, ":{octet:02x}"))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Mac {
    type Err = crate::LabError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut octets = text.split(':').map(|octet| u8::from_str_radix(octet, 16));
        let mut mac = [0; 6];
        for octet in &mut mac {
            *octet = octets
                .next()
                .and_then(Result::ok)
                .ok_or_else(|| not_a_mac(text))?;
        }
        octets
            .next()
            .is_none()
            .then_some(Self(mac))
            .ok_or_else(|| not_a_mac(text))
    }
}

fn not_a_mac(text: &str) -> crate::LabError {
    crate::LabError::Address {
        text: text.to_owned(),
        expected: "an Ethernet address",
        example: "02:42:ac:11:00:02",
    }
}

impl fmt::Display for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {} ", self.source_mac, self.destination_mac)?;
        if let Some(vlan) = self.vlan {
            write!(f, "vlan {vlan} ")?;
        }
        match &self.payload {
            Payload::Arp(arp) if arp.operation == 1 => {
                write!(f, "ARP who-has {} tell {}", arp.target, arp.sender)
            }
            Payload::Arp(arp) => write!(f, "ARP {} is-at {}", arp.sender, arp.sender_mac),
            Payload::Ip(packet) => packet.fmt(f),
            Payload::Other(ethertype) => write!(f, "ethertype {ethertype:#06x}"),
            Payload::Malformed => f.write_str("malformed"),
        }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (source, destination) = (self.source, self.destination);
        match &self.transport {
            Transport::Tcp {
                source_port,
                destination_port,
                flags,
            } => write!(
                f,
                "TCP {source}.{source_port} > {destination}.{destination_port} flags {flags:#04x}"
            ),
            Transport::Udp {
                source_port,
                destination_port,
            } => write!(
                f,
                "UDP {source}.{source_port} > {destination}.{destination_port}"
            ),
            Transport::Icmp {
                kind,
                code,
                identifier,
            } => {
                write!(
                    f,
                    "ICMP {source} > {destination} type {kind} code {code} id {identifier}"
                )
            }
            Transport::Opaque => write!(f, "protocol {} {source} > {destination}", self.protocol),
        }?;
        f.write_str(if self.fragment { " fragment" } else { "" })
    }
}

#[cfg(test)]
mod tests;
