//! Selectors: what nft's left-hand sides (`ip saddr`, `meta oif`) load into a register.

use super::{Ct, CtKey, Direction, Expr, Fib, FibFlags, FibResult, Meta, MetaKey, Payload};
use super::{PayloadBase, Reg, SocketExpr, SocketKey};
use crate::datatype::DataType;

/// Something of the packet that can be loaded, compared and looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Selector {
    source: Source,
    data_type: DataType,
    pub(super) needs: Needs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    Payload(PayloadBase, u32),
    Meta(MetaKey),
    Ct(CtKey, Option<Direction>),
    Fib(FibResult, FibFlags),
    Socket(SocketKey, Option<u32>),
}

/// Which packets have the selected bytes: checked once a rule, before they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Needs {
    Nothing,
    /// This network-layer protocol, by its ethertype.
    Network(u16),
    /// This transport protocol.
    Transport(u8),
}

pub(super) const ETHERTYPE_IP: u16 = 0x0800;
pub(super) const ETHERTYPE_ARP: u16 = 0x0806;
pub(super) const ETHERTYPE_IP6: u16 = 0x86dd;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

impl Selector {
    /// The type of its values: what a set's key must be declared as.
    pub const fn data_type(&self) -> DataType {
        self.data_type
    }

    /// The expression that loads it into registers from `dreg` on.
    pub fn load(&self, dreg: Reg) -> Expr {
        match self.source {
            Source::Payload(base, offset) => Payload::Load {
                base,
                offset,
                len: u32::try_from(self.data_type.len()).unwrap_or_default(),
                dreg,
            }
            .into(),
            Source::Meta(key) => Meta::Load { key, dreg }.into(),
            Source::Ct(key, direction) => Ct::Load {
                key,
                direction,
                dreg,
            }
            .into(),
            Source::Fib(result, flags) => Fib {
                result,
                flags,
                dreg,
            }
            .into(),
            Source::Socket(key, level) => SocketExpr { key, level, dreg }.into(),
        }
    }

    /// Bytes of the packet; the caller makes sure that they are what is meant.
    pub const fn payload(base: PayloadBase, offset: u32, data_type: DataType) -> Self {
        Self {
            source: Source::Payload(base, offset),
            data_type,
            needs: Needs::Nothing,
        }
    }

    /// A property of the packet.
    pub const fn meta(key: MetaKey, data_type: DataType) -> Self {
        Self {
            source: Source::Meta(key),
            data_type,
            needs: Needs::Nothing,
        }
    }

    /// A property of the connection.
    pub const fn ct(key: CtKey, direction: Option<Direction>, data_type: DataType) -> Self {
        Self {
            source: Source::Ct(key, direction),
            data_type,
            needs: Needs::Nothing,
        }
    }

    /// An answer of the routing table.
    pub const fn fib(result: FibResult, flags: FibFlags, data_type: DataType) -> Self {
        Self {
            source: Source::Fib(result, flags),
            data_type,
            needs: Needs::Nothing,
        }
    }

    /// `socket cgroupv2 level N`: the id of the packet's socket's ancestor cgroup.
    pub const fn socket_cgroupv2(level: u32) -> Self {
        Self {
            source: Source::Socket(SocketKey::CGROUPV2, Some(level)),
            data_type: DataType::CGROUPV2,
            needs: Needs::Nothing,
        }
    }

    const fn of_network(self, ethertype: u16) -> Self {
        Self {
            needs: Needs::Network(ethertype),
            ..self
        }
    }

    const fn of_transport(self, protocol: u8) -> Self {
        Self {
            needs: Needs::Transport(protocol),
            ..self
        }
    }
}

/// The selectors, named as nft writes them.
pub mod selectors {
    use super::{
        CtKey, DataType, Direction, ETHERTYPE_ARP, ETHERTYPE_IP, ETHERTYPE_IP6, FibFlags,
        FibResult, ICMP, ICMPV6, MetaKey, PayloadBase, Selector, TCP, UDP,
    };

    macro_rules! selectors {
        ($($name:ident = $text:literal, $value:expr;)*) => {
            $(
                #[doc = concat!("`", $text, "`")]
                pub const $name: Selector = $value;
            )*
        };
    }

    const fn link(offset: u32, data_type: DataType) -> Selector {
        Selector::payload(PayloadBase::LINK, offset, data_type)
    }

    const fn ip(offset: u32, data_type: DataType) -> Selector {
        Selector::payload(PayloadBase::NETWORK, offset, data_type).of_network(ETHERTYPE_IP)
    }

    const fn ip6(offset: u32, data_type: DataType) -> Selector {
        Selector::payload(PayloadBase::NETWORK, offset, data_type).of_network(ETHERTYPE_IP6)
    }

    const fn arp(offset: u32, data_type: DataType) -> Selector {
        Selector::payload(PayloadBase::NETWORK, offset, data_type).of_network(ETHERTYPE_ARP)
    }

    const fn th(offset: u32, data_type: DataType) -> Selector {
        Selector::payload(PayloadBase::TRANSPORT, offset, data_type)
    }

    const fn ct_of(key: CtKey, direction: Direction, data_type: DataType) -> Selector {
        Selector::ct(key, Some(direction), data_type)
    }

    selectors! {
        ETHER_DADDR = "ether daddr", link(0, DataType::ETHER_ADDR);
        ETHER_SADDR = "ether saddr", link(6, DataType::ETHER_ADDR);
        ETHER_TYPE = "ether type", link(12, DataType::ETHER_TYPE);

        IP_PROTOCOL = "ip protocol", ip(9, DataType::INET_PROTO);
        IP_SADDR = "ip saddr", ip(12, DataType::IPV4_ADDR);
        IP_DADDR = "ip daddr", ip(16, DataType::IPV4_ADDR);
        IP6_NEXTHDR = "ip6 nexthdr", ip6(6, DataType::INET_PROTO);
        IP6_HOPLIMIT = "ip6 hoplimit", ip6(7, DataType::integer(1, false));
        IP6_SADDR = "ip6 saddr", ip6(8, DataType::IPV6_ADDR);
        IP6_DADDR = "ip6 daddr", ip6(24, DataType::IPV6_ADDR);

        ARP_OPERATION = "arp operation", arp(6, DataType::ARP_OP);
        ARP_SADDR_ETHER = "arp saddr ether", arp(8, DataType::ETHER_ADDR);
        ARP_SADDR_IP = "arp saddr ip", arp(14, DataType::IPV4_ADDR);
        ARP_DADDR_ETHER = "arp daddr ether", arp(18, DataType::ETHER_ADDR);
        ARP_DADDR_IP = "arp daddr ip", arp(24, DataType::IPV4_ADDR);

        TH_SPORT = "th sport", th(0, DataType::INET_SERVICE);
        TH_DPORT = "th dport", th(2, DataType::INET_SERVICE);
        TCP_SPORT = "tcp sport", th(0, DataType::INET_SERVICE).of_transport(TCP);
        TCP_DPORT = "tcp dport", th(2, DataType::INET_SERVICE).of_transport(TCP);
        TCP_FLAGS = "tcp flags", th(13, DataType::TCP_FLAG).of_transport(TCP);
        UDP_SPORT = "udp sport", th(0, DataType::INET_SERVICE).of_transport(UDP);
        UDP_DPORT = "udp dport", th(2, DataType::INET_SERVICE).of_transport(UDP);
        ICMP_TYPE = "icmp type", th(0, DataType::ICMP_TYPE).of_transport(ICMP);
        ICMPV6_TYPE = "icmpv6 type", th(0, DataType::ICMPV6_TYPE).of_transport(ICMPV6);
        ICMPV6_TADDR = "icmpv6 taddr", th(8, DataType::IPV6_ADDR).of_transport(ICMPV6);

        META_LEN = "meta length", Selector::meta(MetaKey::LEN, DataType::integer(4, true));
        META_PROTOCOL = "meta protocol", Selector::meta(MetaKey::PROTOCOL, DataType::ETHER_TYPE);
        META_MARK = "meta mark", Selector::meta(MetaKey::MARK, DataType::MARK);
        META_IIF = "meta iif", Selector::meta(MetaKey::IIF, DataType::IFINDEX);
        META_OIF = "meta oif", Selector::meta(MetaKey::OIF, DataType::IFINDEX);
        META_IIFNAME = "meta iifname", Selector::meta(MetaKey::IIFNAME, DataType::IFNAME);
        META_OIFNAME = "meta oifname", Selector::meta(MetaKey::OIFNAME, DataType::IFNAME);
        META_IIFTYPE = "meta iiftype", Selector::meta(MetaKey::IIFTYPE, DataType::IFTYPE);
        META_OIFTYPE = "meta oiftype", Selector::meta(MetaKey::OIFTYPE, DataType::IFTYPE);
        META_IIFKIND = "meta iifkind", Selector::meta(MetaKey::IIFKIND, DataType::IFNAME);
        META_OIFKIND = "meta oifkind", Selector::meta(MetaKey::OIFKIND, DataType::IFNAME);
        META_IBRNAME = "meta ibrname", Selector::meta(MetaKey::BRI_IIFNAME, DataType::IFNAME);
        META_OBRNAME = "meta obrname", Selector::meta(MetaKey::BRI_OIFNAME, DataType::IFNAME);
        META_SKUID = "meta skuid", Selector::meta(MetaKey::SKUID, DataType::UID);
        META_SKGID = "meta skgid", Selector::meta(MetaKey::SKGID, DataType::GID);
        META_NFPROTO = "meta nfproto", Selector::meta(MetaKey::NFPROTO, DataType::NF_PROTO);
        META_L4PROTO = "meta l4proto", Selector::meta(MetaKey::L4PROTO, DataType::INET_PROTO);
        META_PKTTYPE = "meta pkttype", Selector::meta(MetaKey::PKTTYPE, DataType::PKT_TYPE);
        META_CGROUP = "meta cgroup", Selector::meta(MetaKey::CGROUP, DataType::integer(4, true));
        META_IIFGROUP = "meta iifgroup", Selector::meta(MetaKey::IIFGROUP, DataType::DEVGROUP);
        META_OIFGROUP = "meta oifgroup", Selector::meta(MetaKey::OIFGROUP, DataType::DEVGROUP);

        CT_STATE = "ct state", Selector::ct(CtKey::STATE, None, DataType::CT_STATE);
        CT_DIRECTION = "ct direction", Selector::ct(CtKey::DIRECTION, None, DataType::CT_DIR);
        CT_STATUS = "ct status", Selector::ct(CtKey::STATUS, None, DataType::CT_STATUS);
        CT_MARK = "ct mark", Selector::ct(CtKey::MARK, None, DataType::MARK);
        CT_LABEL = "ct label", Selector::ct(CtKey::LABELS, None, DataType::CT_LABEL);
        CT_ORIGINAL_IP_SADDR = "ct original ip saddr", ct_of(CtKey::SRC_IP, Direction::ORIGINAL, DataType::IPV4_ADDR);
        CT_ORIGINAL_IP_DADDR = "ct original ip daddr", ct_of(CtKey::DST_IP, Direction::ORIGINAL, DataType::IPV4_ADDR);
        CT_REPLY_IP_SADDR = "ct reply ip saddr", ct_of(CtKey::SRC_IP, Direction::REPLY, DataType::IPV4_ADDR);
        CT_REPLY_IP_DADDR = "ct reply ip daddr", ct_of(CtKey::DST_IP, Direction::REPLY, DataType::IPV4_ADDR);
        CT_ORIGINAL_IP6_SADDR = "ct original ip6 saddr", ct_of(CtKey::SRC_IP6, Direction::ORIGINAL, DataType::IPV6_ADDR);
        CT_ORIGINAL_IP6_DADDR = "ct original ip6 daddr", ct_of(CtKey::DST_IP6, Direction::ORIGINAL, DataType::IPV6_ADDR);
        CT_REPLY_IP6_SADDR = "ct reply ip6 saddr", ct_of(CtKey::SRC_IP6, Direction::REPLY, DataType::IPV6_ADDR);
        CT_REPLY_IP6_DADDR = "ct reply ip6 daddr", ct_of(CtKey::DST_IP6, Direction::REPLY, DataType::IPV6_ADDR);
        CT_ORIGINAL_PROTO_SRC = "ct original proto-src", ct_of(CtKey::PROTO_SRC, Direction::ORIGINAL, DataType::INET_SERVICE);
        CT_ORIGINAL_PROTO_DST = "ct original proto-dst", ct_of(CtKey::PROTO_DST, Direction::ORIGINAL, DataType::INET_SERVICE);
        CT_REPLY_PROTO_SRC = "ct reply proto-src", ct_of(CtKey::PROTO_SRC, Direction::REPLY, DataType::INET_SERVICE);
        CT_REPLY_PROTO_DST = "ct reply proto-dst", ct_of(CtKey::PROTO_DST, Direction::REPLY, DataType::INET_SERVICE);

        FIB_SADDR_TYPE = "fib saddr type", Selector::fib(FibResult::ADDRTYPE, FibFlags::SADDR, DataType::FIB_ADDRTYPE);
        FIB_DADDR_TYPE = "fib daddr type", Selector::fib(FibResult::ADDRTYPE, FibFlags::DADDR, DataType::FIB_ADDRTYPE);
        FIB_SADDR_OIF = "fib saddr oif", Selector::fib(FibResult::OIF, FibFlags::SADDR, DataType::IFINDEX);
        FIB_DADDR_OIF = "fib daddr oif", Selector::fib(FibResult::OIF, FibFlags::DADDR, DataType::IFINDEX);
    }
}
