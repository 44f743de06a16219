//! The five-tuple of a packet as NFLOG hands it over, as far as it can be read.

use std::net::IpAddr;

use etherparse::{ArpPacketSlice, EtherType, NetSlice, SlicedPacket, TransportSlice};
use nfnetlink::Family;
use nfnetlink::conntrack::{Ports, Tuple};
use nfnetlink::log::Packet;
use sortie_api::policy::Protocol;
use sortie_plan::precedence::Target;

/// What `drops` shows of a packet.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// A name, or the number of an unknown protocol.
    pub(super) protocol: String,
    /// Source address.
    pub(super) from: Option<IpAddr>,
    /// Source port.
    pub(super) from_port: Option<u16>,
    /// Destination address.
    pub(super) to: Option<IpAddr>,
    /// Destination port.
    pub(super) to_port: Option<u16>,
}

impl Summary {
    /// Where to, as policies see it.
    pub(super) fn target(&self) -> Option<Target<'static>> {
        let protocol = match self.protocol.as_str() {
            "tcp" => Some(Protocol::Tcp),
            "udp" => Some(Protocol::Udp),
            _ => None,
        };
        Some(Target::address(self.to?, protocol.zip(self.to_port)))
    }
}

/// Reads what there is; a packet that is cut or malformed tells what came before.
pub(super) fn summary(packet: &Packet) -> Summary {
    // At a device's egress the link layer's header is part of the packet (net/core/dev.c).
    if packet.family == Family::Netdev
        && let Ok(sliced) = SlicedPacket::from_ethernet(&packet.payload)
        && sliced.net.is_some()
    {
        return sliced_summary(&sliced);
    }
    let ethertype = EtherType(packet.hook.map_or(0, |hook| hook.protocol));
    match SlicedPacket::from_ether_type(ethertype, &packet.payload) {
        Ok(sliced) => sliced_summary(&sliced),
        Err(_) => Summary {
            protocol: format!("ethertype {:#06x}", ethertype.0),
            ..Summary::default()
        },
    }
}

/// The original tuple of the flow that a packet of the host's own began, where it is a protocol whose
/// flows can be told apart.
pub(super) fn tuple(packet: &Packet) -> Option<Tuple> {
    let ethertype = EtherType(packet.hook.map_or(0, |hook| hook.protocol));
    let sliced = SlicedPacket::from_ether_type(ethertype, &packet.payload).ok()?;
    let summary = sliced_summary(&sliced);
    let ports = |src, dst| Ports::Ports { src, dst };
    let (protocol, ports) = match sliced.transport? {
        TransportSlice::Tcp(tcp) => (6, ports(tcp.source_port(), tcp.destination_port())),
        TransportSlice::Udp(udp) => (17, ports(udp.source_port(), udp.destination_port())),
        TransportSlice::Icmpv4(icmp) => (1, echo(icmp.type_u8(), icmp.code_u8(), icmp.bytes5to8())),
        TransportSlice::Icmpv6(icmp) => {
            (58, echo(icmp.type_u8(), icmp.code_u8(), icmp.bytes5to8()))
        }
        TransportSlice::Igmp(_) => return None,
    };
    Some(Tuple {
        src: summary.from?,
        dst: summary.to?,
        protocol,
        ports,
    })
}

/// What a query of ICMP is known by: its identifier is in the fifth and sixth byte (RFC 792, RFC 4443).
fn echo(kind: u8, code: u8, [high, low, ..]: [u8; 4]) -> Ports {
    let id = u16::from_be_bytes([high, low]);
    Ports::Icmp { id, kind, code }
}

fn sliced_summary(sliced: &SlicedPacket<'_>) -> Summary {
    let mut summary = Summary::default();
    match &sliced.net {
        Some(NetSlice::Ipv4(v4)) => {
            summary.from = Some(v4.header().source_addr().into());
            summary.to = Some(v4.header().destination_addr().into());
            summary.protocol = protocol_name(v4.payload().ip_number.0);
        }
        Some(NetSlice::Ipv6(v6)) => {
            summary.from = Some(v6.header().source_addr().into());
            summary.to = Some(v6.header().destination_addr().into());
            summary.protocol = protocol_name(v6.payload().ip_number.0);
        }
        Some(NetSlice::Arp(arp)) => {
            summary.protocol = "arp".to_owned();
            summary.from = arp_address(ArpPacketSlice::sender_protocol_addr(arp));
            summary.to = arp_address(ArpPacketSlice::target_protocol_addr(arp));
        }
        None => summary.protocol = "unknown".to_owned(),
    }
    let ports = match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => Some((tcp.source_port(), tcp.destination_port())),
        Some(TransportSlice::Udp(udp)) => Some((udp.source_port(), udp.destination_port())),
        _ => None,
    };
    summary.from_port = ports.map(|ports| ports.0);
    summary.to_port = ports.map(|ports| ports.1);
    summary
}

fn arp_address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from)
}

/// The name of an IP protocol that people know, or its number (IANA, protocol-numbers).
pub(super) fn protocol_name(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        47 => "gre".to_owned(),
        58 => "icmpv6".to_owned(),
        132 => "sctp".to_owned(),
        other => other.to_string(),
    }
}
