//! Tuples: one direction of a connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::uapi::ct::{
    CTA_IP_V4_DST, CTA_IP_V4_SRC, CTA_IP_V6_DST, CTA_IP_V6_SRC, CTA_PROTO_DST_PORT,
    CTA_PROTO_ICMP_CODE, CTA_PROTO_ICMP_ID, CTA_PROTO_ICMP_TYPE, CTA_PROTO_ICMPV6_CODE,
    CTA_PROTO_ICMPV6_ID, CTA_PROTO_ICMPV6_TYPE, CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_TUPLE_IP,
    CTA_TUPLE_PROTO, CTA_TUPLE_ZONE,
};
use crate::wire::{Malformed, Writer, attrs};

const IPPROTO_ICMPV6: u8 = 58;

/// Who sends to whom, in one direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Transport protocol (IANA's number).
    pub protocol: u8,
    /// What tells connections of the same addresses and protocol apart.
    pub ports: Ports,
}

/// What a protocol tells connections apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ports {
    /// Ports (TCP, UDP, SCTP, DCCP; GRE keys).
    Ports {
        /// Source port.
        src: u16,
        /// Destination port.
        dst: u16,
    },
    /// An ICMP or `ICMPv6` query.
    Icmp {
        /// Identifier.
        id: u16,
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// Nothing.
    None,
}

impl Tuple {
    /// A TCP or UDP tuple.
    pub fn ports(protocol: u8, src: (IpAddr, u16), dst: (IpAddr, u16)) -> Self {
        Self {
            src: src.0,
            dst: dst.0,
            protocol,
            ports: Ports::Ports {
                src: src.1,
                dst: dst.1,
            },
        }
    }

    /// The tuple of the answers, without translation. An ICMP query keeps its type here,
    /// since only the kernel pairs query and answer.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            ports: match self.ports {
                Ports::Ports { src, dst } => Ports::Ports { src: dst, dst: src },
                other => other,
            },
            ..self
        }
    }

    pub(super) fn encode(&self, w: &mut Writer, kind: u16) {
        w.nest(kind, |w| {
            w.nest(CTA_TUPLE_IP, |w| {
                put_address(w, self.src, CTA_IP_V4_SRC, CTA_IP_V6_SRC);
                put_address(w, self.dst, CTA_IP_V4_DST, CTA_IP_V6_DST);
            });
            w.nest(CTA_TUPLE_PROTO, |w| {
                w.u8(CTA_PROTO_NUM, self.protocol);
                match self.ports {
                    Ports::Ports { src, dst } => {
                        w.be16(CTA_PROTO_SRC_PORT, src);
                        w.be16(CTA_PROTO_DST_PORT, dst);
                    }
                    Ports::Icmp { id, kind, code } if self.protocol == IPPROTO_ICMPV6 => {
                        w.be16(CTA_PROTO_ICMPV6_ID, id);
                        w.u8(CTA_PROTO_ICMPV6_TYPE, kind);
                        w.u8(CTA_PROTO_ICMPV6_CODE, code);
                    }
                    Ports::Icmp { id, kind, code } => {
                        w.be16(CTA_PROTO_ICMP_ID, id);
                        w.u8(CTA_PROTO_ICMP_TYPE, kind);
                        w.u8(CTA_PROTO_ICMP_CODE, code);
                    }
                    Ports::None => {}
                }
            });
        });
    }

    /// Decodes a tuple, and its zone where it has one of its own.
    pub(super) fn decode(nested: &[u8]) -> Result<(Self, Option<u16>), Malformed> {
        let (mut addresses, mut protocol, mut zone) = ((None, None), (None, Ports::None), None);
        for attr in attrs(nested) {
            let attr = attr?;
            match attr.kind {
                CTA_TUPLE_IP => addresses = decode_addresses(attr.data)?,
                CTA_TUPLE_PROTO => protocol = decode_protocol(attr.data)?,
                CTA_TUPLE_ZONE => zone = Some(attr.be16()?),
                _ => {}
            }
        }
        match (addresses, protocol) {
            ((Some(src), Some(dst)), (Some(protocol), ports)) => {
                let tuple = Self {
                    src,
                    dst,
                    protocol,
                    ports,
                };
                Ok((tuple, zone))
            }
            _ => Err(Malformed("a tuple without addresses or protocol")),
        }
    }
}

/// Writes an address under its family's attribute.
pub(super) fn put_address(w: &mut Writer, address: IpAddr, v4: u16, v6: u16) {
    match address {
        IpAddr::V4(address) => w.bytes(v4, &address.octets()),
        IpAddr::V6(address) => w.bytes(v6, &address.octets()),
    }
}

fn decode_addresses(nested: &[u8]) -> Result<(Option<IpAddr>, Option<IpAddr>), Malformed> {
    let (mut src, mut dst) = (None, None);
    for attr in attrs(nested) {
        let attr = attr?;
        match attr.kind {
            CTA_IP_V4_SRC => src = Some(Ipv4Addr::from(attr.array::<4>()?).into()),
            CTA_IP_V4_DST => dst = Some(Ipv4Addr::from(attr.array::<4>()?).into()),
            CTA_IP_V6_SRC => src = Some(Ipv6Addr::from(attr.array::<16>()?).into()),
            CTA_IP_V6_DST => dst = Some(Ipv6Addr::from(attr.array::<16>()?).into()),
            _ => {}
        }
    }
    Ok((src, dst))
}

fn decode_protocol(nested: &[u8]) -> Result<(Option<u8>, Ports), Malformed> {
    let (mut protocol, mut src, mut dst) = (None, None, None);
    let (mut id, mut kind, mut code) = (None, 0, 0);
    for attr in attrs(nested) {
        let attr = attr?;
        match attr.kind {
            CTA_PROTO_NUM => protocol = Some(attr.u8()?),
            CTA_PROTO_SRC_PORT => src = Some(attr.be16()?),
            CTA_PROTO_DST_PORT => dst = Some(attr.be16()?),
            CTA_PROTO_ICMP_ID | CTA_PROTO_ICMPV6_ID => id = Some(attr.be16()?),
            CTA_PROTO_ICMP_TYPE | CTA_PROTO_ICMPV6_TYPE => kind = attr.u8()?,
            CTA_PROTO_ICMP_CODE | CTA_PROTO_ICMPV6_CODE => code = attr.u8()?,
            _ => {}
        }
    }
    let ports = match (src, dst, id) {
        (Some(src), Some(dst), _) => Ports::Ports { src, dst },
        (_, _, Some(id)) => Ports::Icmp { id, kind, code },
        _ => Ports::None,
    };
    Ok((protocol, ports))
}
