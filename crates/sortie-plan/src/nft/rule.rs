//! Rules: a row of matches that ends in what is done.

use super::Name;
use super::set::KeyType;
use crate::mark::Mark;

/// Statements in order; the first that does not match ends the rule.
pub type Rule = Vec<Statement>;

/// One match or action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// `FIELD == VALUE`, or `!=`.
    Compare {
        /// What is read from the packet.
        field: Field,
        /// Match when it differs.
        not: bool,
        /// Exactly the bytes of the field's width.
        value: Value,
    },
    /// `FIELD FIRST-LAST`, both included.
    Range {
        /// What is read from the packet.
        field: Field,
        /// Lowest value.
        first: Value,
        /// Highest value.
        last: Value,
    },
    /// `ip6 saddr fe80::/10` and the like.
    Prefix {
        /// An address field.
        field: Field,
        /// The network's address.
        network: std::net::IpAddr,
        /// In bits.
        length: u8,
    },
    /// `FIELD . FIELD @SET`, or `!= @SET`.
    Lookup {
        /// The key's parts.
        fields: Vec<Field>,
        /// A set of the same table.
        set: Name,
        /// Match when it is absent.
        not: bool,
    },
    /// `update @SET { FIELD }`: the element counts. Where the set is full the rule ends.
    Count {
        /// The key.
        field: Field,
        /// A set of the same table that counts.
        set: Name,
    },
    /// `FIELD vmap @MAP`: goes on with the next rule where there is no element.
    VerdictMap {
        /// The key's parts.
        fields: Vec<Field>,
        /// A verdict map of the same table.
        map: Name,
    },
    /// `snat ip to FIELD map @MAP`: goes on with the next rule where there is no element.
    SnatMap {
        /// What is asked for.
        field: Field,
        /// The translation's family.
        v6: bool,
        /// A map to addresses.
        map: Name,
    },
    /// `dnat ip to FIELD . FIELD map @MAP`: goes on with the next rule where there is no element.
    DnatMap {
        /// The key's parts.
        fields: Vec<Field>,
        /// The translation's family.
        v6: bool,
        /// A map to addresses.
        map: Name,
    },
    /// `snat ip to ADDRESS`.
    Snat(std::net::IpAddr),
    /// `snat ip to ip saddr`: the source stays, and no later translation of the flow is asked.
    SnatToItself {
        /// The translation's family.
        v6: bool,
    },
    /// `redirect to :PORT`: to a listener on this host's loopback, where the host itself is the
    /// sender.
    Redirect(u16),
    /// `tcp flags != syn / fin,syn,rst,ack`: no segment that opens a connection.
    GoesOn,
    /// `fib daddr type local`: the destination is an address of this host.
    DestinationIsLocal,
    /// `fib saddr type local`: the source is an address of this host.
    SourceIsLocal,
    /// `meta mark & MASK == MARK`: whatever others' bits are.
    Marked(Mark),
    /// `meta mark set meta mark & ~MASK ^ MARK`: others' bits stay.
    SetMark(Mark),
    /// `ct label set socket cgroupv2 level LEVEL`: the flow is noted to be that cgroup's.
    NoteCgroup {
        /// From 1 below the root.
        level: u32,
    },
    /// `ct status & confirmed == 0`: this packet is its flow's first.
    First,
    /// `ct status seen-reply`: the flow has been answered.
    Answered,
    /// `counter name NAME`.
    Counter(Name),
    /// `log group GROUP prefix PREFIX`: NFLOG.
    Log {
        /// The nfnetlink_log group.
        group: u16,
        /// At most 63 bytes.
        prefix: Name,
    },
    /// The end.
    Verdict(Verdict),
}

/// A value compared with, in the field's own width and order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// One byte: `l4proto`, an ICMPv6 type, the ct direction.
    Byte(u8),
    /// A port or an ethertype.
    Short(u16),
    /// An interface index.
    Interface(u32),
    /// An address.
    Address(std::net::IpAddr),
    /// The label of a flow that is noted to be no cgroup's.
    NoCgroup,
    /// An interface kind, such as `bridge`: 16 bytes, NUL-padded.
    Kind(&'static str),
    /// A whole packet mark.
    Mark(u32),
}

/// A field of a packet or of its conntrack entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// `meta iif`, 0 for what this host sends itself.
    Iif,
    /// `meta iifname`.
    IifName,
    /// `meta iifkind`.
    IifKind,
    /// `meta oif`.
    Oif,
    /// `meta protocol`: the ethertype.
    Protocol,
    /// `meta l4proto`.
    L4Proto,
    /// `meta mark`, all 32 bits.
    Mark,
    /// `ether saddr`.
    EtherSaddr,
    /// `ip saddr`.
    IpSaddr,
    /// `ip daddr`.
    IpDaddr,
    /// `ip6 hoplimit`.
    Ip6Hoplimit,
    /// `ip6 saddr`.
    Ip6Saddr,
    /// `ip6 daddr`.
    Ip6Daddr,
    /// `arp saddr ether`.
    ArpSaddrEther,
    /// `arp saddr ip`.
    ArpSaddrIp,
    /// `icmpv6 type`.
    Icmpv6Type,
    /// `icmpv6 taddr`: the target of a neighbour message (RFC 4861, section 4.4).
    Icmpv6Taddr,
    /// `th sport`.
    ThSport,
    /// `th dport`.
    ThDport,
    /// `ct direction`: 0 original, 1 reply; no match without an entry.
    CtDirection,
    /// `ct original ip saddr`: no match without an entry.
    CtOriginalIpSaddr,
    /// `ct original ip6 saddr`: no match without an entry.
    CtOriginalIp6Saddr,
    /// `ct original ip daddr`: the destination before any translation. No match without an entry.
    CtOriginalIpDaddr,
    /// `ct original ip6 daddr`.
    CtOriginalIp6Daddr,
    /// `ct reply ip daddr`: where answers go to, so the source that the other side sees.
    CtReplyIpDaddr,
    /// `ct reply ip6 daddr`.
    CtReplyIp6Daddr,
    /// `socket cgroupv2 level LEVEL`: the ancestor, that far below the root, of the cgroup that the
    /// packet's socket was made in. No match without a socket, or where there is none so deep.
    SocketCgroup(u32),
    /// `ct label`, the upper half: the cgroup that the flow is noted to be of, 0 for none. No match
    /// without an entry.
    FlowCgroup,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Ends this base chain.
    Accept,
    /// The packet is gone.
    Drop,
    /// Back to the caller.
    Return,
    /// To a chain, and back.
    Jump(Name),
    /// To a chain, and not back.
    Goto(Name),
}

impl From<Verdict> for Statement {
    fn from(verdict: Verdict) -> Self {
        Self::Verdict(verdict)
    }
}

impl Verdict {
    /// The chain that it names.
    pub fn chain(&self) -> Option<&Name> {
        match self {
            Self::Jump(chain) | Self::Goto(chain) => Some(chain),
            Self::Accept | Self::Drop | Self::Return => None,
        }
    }
}

impl Field {
    /// The network protocol that this field presumes: `Protocol` must be it, or the field means nothing.
    /// nft writes the check as an implicit dependency; so does `sortie-kernel`.
    pub fn ethertype(self) -> Option<u16> {
        match self {
            Self::IpSaddr
            | Self::IpDaddr
            | Self::CtOriginalIpSaddr
            | Self::CtOriginalIpDaddr
            | Self::CtReplyIpDaddr => Some(0x0800),
            Self::Ip6Hoplimit
            | Self::Ip6Saddr
            | Self::Ip6Daddr
            | Self::Icmpv6Type
            | Self::Icmpv6Taddr
            | Self::CtOriginalIp6Saddr
            | Self::CtOriginalIp6Daddr
            | Self::CtReplyIp6Daddr => Some(0x86dd),
            Self::ArpSaddrEther | Self::ArpSaddrIp => Some(0x0806),
            Self::Iif
            | Self::IifName
            | Self::IifKind
            | Self::Oif
            | Self::Protocol
            | Self::L4Proto
            | Self::Mark
            | Self::EtherSaddr
            | Self::ThSport
            | Self::ThDport
            | Self::CtDirection
            | Self::SocketCgroup(_)
            | Self::FlowCgroup => None,
        }
    }

    /// The type of a set's key part that holds this field, where a set may.
    pub fn key_type(self) -> Option<KeyType> {
        match self {
            Self::Iif | Self::Oif => Some(KeyType::Interface),
            Self::IifName => Some(KeyType::InterfaceName),
            Self::EtherSaddr | Self::ArpSaddrEther => Some(KeyType::EtherAddr),
            Self::IpSaddr
            | Self::IpDaddr
            | Self::ArpSaddrIp
            | Self::CtOriginalIpSaddr
            | Self::CtOriginalIpDaddr
            | Self::CtReplyIpDaddr => Some(KeyType::Ipv4Addr),
            Self::Ip6Saddr
            | Self::Ip6Daddr
            | Self::Icmpv6Taddr
            | Self::CtOriginalIp6Saddr
            | Self::CtOriginalIp6Daddr
            | Self::CtReplyIp6Daddr => Some(KeyType::Ipv6Addr),
            Self::SocketCgroup(_) | Self::FlowCgroup => Some(KeyType::Cgroup),
            _ => None,
        }
    }
}

impl Statement {
    /// The set or map that it asks.
    pub fn set(&self) -> Option<&Name> {
        match self {
            Self::Lookup { set, .. } | Self::Count { set, .. } => Some(set),
            Self::VerdictMap { map, .. }
            | Self::SnatMap { map, .. }
            | Self::DnatMap { map, .. } => Some(map),
            _ => None,
        }
    }

    /// The chain that it leads to.
    pub fn chain(&self) -> Option<&Name> {
        match self {
            Self::Verdict(verdict) => verdict.chain(),
            _ => None,
        }
    }
}
