//! A ruleset as `nft` would print it, for golden files, digests and people.
//!
//! Elements keep interface indexes as numbers: names may change, what the kernel compares may not.

use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::key::Key;
use super::rule::{Field, Rule, Statement, Value, Verdict};
use super::set::{COUNTED, Data, DataType, KeyType, Set};
use super::{Chain, Family, Hook, HookKind, HookPoint, Table};

/// One table with all that is in it.
pub fn table(family: Family, table: &Table) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = write_table(&mut out, family, table);
    out
}

/// One chain's rules, a line each.
pub fn rules(rules: &[Rule]) -> String {
    rules.iter().fold(String::new(), |mut out, rule| {
        let _ = writeln!(out, "{}", RuleText(rule));
        out
    })
}

/// The type of a set's keys, such as `iface_index . ipv4_addr`.
pub fn key(set: &Set) -> String {
    let types: Vec<_> = set.key.iter().map(|part| key_type(*part)).collect();
    types.join(" . ")
}

/// One element, such as `3 . 02:42:ac:11:00:02 . 172.17.0.2`, given the types of its key.
pub fn element(set: &Set, key: &Key, data: &Data) -> String {
    let key_text = key_text(&set.key, key);
    match data {
        Data::None => key_text,
        Data::For(left) => format!("{key_text} expires {}s", left.as_secs()),
        Data::Through(last) if last == key => key_text,
        Data::Through(last) => format!("{key_text}-{}", ip_text(last)),
        Data::Value(value) => format!("{key_text} : {}", ip_text(value)),
        Data::Verdict(verdict) => format!("{key_text} : {}", VerdictText(verdict)),
        Data::ThroughVerdict(through) => match &**through {
            (last, verdict) if last == key => format!("{key_text} : {}", VerdictText(verdict)),
            (last, verdict) => format!("{key_text}-{} : {}", ip_text(last), VerdictText(verdict)),
        },
    }
}

fn write_table(out: &mut String, family: Family, table: &Table) -> fmt::Result {
    writeln!(out, "table {family} sortie {{")?;
    if !table.tag.is_empty() {
        writeln!(out, "  comment \"{}\"", table.tag)?;
    }
    for counter in &table.counters {
        writeln!(out, "  counter {counter} {{ }}")?;
    }
    for (name, set) in &table.sets {
        write_set(out, name, set)?;
    }
    for (name, chain) in &table.chains {
        write_chain(out, name, chain)?;
    }
    writeln!(out, "}}")
}

fn write_set(out: &mut String, name: &str, set: &Set) -> fmt::Result {
    let (word, data) = match set.data {
        DataType::None => ("set", ""),
        DataType::Ipv4Addr => ("map", " : ipv4_addr"),
        DataType::Ipv6Addr => ("map", " : ipv6_addr"),
        DataType::Verdict => ("map", " : verdict"),
    };
    write!(out, "  {word} {name} {{ type {}{data};", key(set))?;
    if set.interval {
        write!(out, " flags interval;")?;
    }
    if set.expiring {
        write!(out, " flags timeout;")?;
    }
    if set.counts {
        write!(out, " size {COUNTED}; flags dynamic; counter;")?;
    }
    if set.elements.is_empty() {
        return writeln!(out, " }}");
    }
    writeln!(out, " elements = {{")?;
    for (key, data) in &set.elements {
        writeln!(out, "    {},", element(set, key, data))?;
    }
    writeln!(out, "  }} }}")
}

fn write_chain(out: &mut String, name: &str, chain: &Chain) -> fmt::Result {
    writeln!(out, "  chain {name} {{")?;
    if let Some(hook) = &chain.hook {
        writeln!(out, "    {hook}")?;
    }
    for rule in &chain.rules {
        writeln!(out, "    {}", RuleText(rule))?;
    }
    writeln!(out, "  }}")
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bridge => "bridge",
            Self::Inet => "inet",
            Self::Netdev => "netdev",
        })
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            HookKind::Filter => "filter",
            HookKind::Nat => "nat",
            HookKind::Route => "route",
        };
        let point = match self.point {
            HookPoint::Prerouting => "prerouting",
            HookPoint::Output => "output",
            HookPoint::Postrouting => "postrouting",
            HookPoint::Egress => "egress",
        };
        write!(f, "type {kind} hook {point}")?;
        if let Some(device) = &self.device {
            write!(f, " device \"{device}\"")?;
        }
        write!(f, " priority {}; policy accept;", self.priority)
    }
}

struct RuleText<'a>(&'a Rule);

impl fmt::Display for RuleText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, statement) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_char(' ')?;
            }
            statement.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compare { field, not, value } => {
                write!(
                    f,
                    "{field} {}{}",
                    if *not { "!= " } else { "" },
                    ValueText(*field, *value)
                )
            }
            Self::Range { field, first, last } => {
                write!(
                    f,
                    "{field} {}-{}",
                    ValueText(*field, *first),
                    ValueText(*field, *last)
                )
            }
            Self::Prefix {
                field,
                network,
                length,
            } => write!(f, "{field} {network}/{length}"),
            Self::Lookup { fields, set, not } => {
                write!(
                    f,
                    "{} {}@{set}",
                    Fields(fields),
                    if *not { "!= " } else { "" }
                )
            }
            Self::Count { field, set } => write!(f, "update @{set} {{ {field} }}"),
            Self::VerdictMap { fields, map } => write!(f, "{} vmap @{map}", Fields(fields)),
            Self::SnatMap { field, v6, map } => {
                let family = if *v6 { "ip6" } else { "ip" };
                write!(f, "snat {family} to {field} map @{map}")
            }
            Self::DnatMap { fields, v6, map } => {
                let family = if *v6 { "ip6" } else { "ip" };
                write!(f, "dnat {family} to {} map @{map}", Fields(fields))
            }
            Self::Snat(address) => write!(
                f,
                "snat {} to {address}",
                if address.is_ipv4() { "ip" } else { "ip6" }
            ),
            Self::SnatToItself { v6: false } => f.write_str("snat ip to ip saddr"),
            Self::SnatToItself { v6: true } => f.write_str("snat ip6 to ip6 saddr"),
            Self::Redirect(port) => write!(f, "redirect to :{port}"),
            Self::GoesOn => f.write_str("tcp flags != syn / fin,syn,rst,ack"),
            Self::DestinationIsLocal => f.write_str("fib daddr type local"),
            Self::SourceIsLocal => f.write_str("fib saddr type local"),
            Self::Marked(mark) => {
                let (bits, value) = (mark.mask(), mark.value());
                write!(f, "meta mark & {bits:#010x} == {value:#010x}")
            }
            // The mask as nft lists it: the bits that are set afterwards need not be cleared.
            Self::SetMark(mark) => write!(
                f,
                "meta mark set meta mark & {:#010x} | {:#010x}",
                !mark.mask() | mark.value(),
                mark.value()
            ),
            Self::NoteCgroup { level } => {
                write!(f, "ct label set {}", Field::SocketCgroup(*level))
            }
            Self::First => f.write_str("ct status & confirmed == 0"),
            Self::Answered => f.write_str("ct status seen-reply"),
            Self::Counter(name) => write!(f, "counter name \"{name}\""),
            Self::Log { group, prefix } => write!(f, "log prefix \"{prefix}\" group {group}"),
            Self::Verdict(verdict) => VerdictText(verdict).fmt(f),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SocketCgroup(level) => return write!(f, "socket cgroupv2 level {level}"),
            Self::FlowCgroup => "ct label",
            Self::Iif => "iif",
            Self::IifName => "iifname",
            Self::IifKind => "meta iifkind",
            Self::Oif => "oif",
            Self::Protocol => "meta protocol",
            Self::L4Proto => "meta l4proto",
            Self::Mark => "meta mark",
            Self::EtherSaddr => "ether saddr",
            Self::IpSaddr => "ip saddr",
            Self::IpDaddr => "ip daddr",
            Self::Ip6Hoplimit => "ip6 hoplimit",
            Self::Ip6Saddr => "ip6 saddr",
            Self::Ip6Daddr => "ip6 daddr",
            Self::ArpSaddrEther => "arp saddr ether",
            Self::ArpSaddrIp => "arp saddr ip",
            Self::Icmpv6Type => "icmpv6 type",
            Self::Icmpv6Taddr => "icmpv6 taddr",
            Self::ThSport => "th sport",
            Self::ThDport => "th dport",
            Self::CtDirection => "ct direction",
            Self::CtOriginalIpSaddr => "ct original ip saddr",
            Self::CtOriginalIp6Saddr => "ct original ip6 saddr",
            Self::CtOriginalIpDaddr => "ct original ip daddr",
            Self::CtOriginalIp6Daddr => "ct original ip6 daddr",
            Self::CtReplyIpDaddr => "ct reply ip daddr",
            Self::CtReplyIp6Daddr => "ct reply ip6 daddr",
        })
    }
}

struct Fields<'a>(&'a [Field]);

impl fmt::Display for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, field) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(" . ")?;
            }
            field.fmt(f)?;
        }
        Ok(())
    }
}

struct ValueText(Field, Value);

impl fmt::Display for ValueText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (Field::CtDirection, Value::Byte(0)) => f.write_str("original"),
            (Field::CtDirection, Value::Byte(1)) => f.write_str("reply"),
            (Field::L4Proto, Value::Byte(6)) => f.write_str("tcp"),
            (Field::L4Proto, Value::Byte(17)) => f.write_str("udp"),
            (Field::L4Proto, Value::Byte(58)) => f.write_str("ipv6-icmp"),
            (Field::Icmpv6Type, Value::Byte(136)) => f.write_str("nd-neighbor-advert"),
            (Field::Protocol, Value::Short(0x0800)) => f.write_str("ip"),
            (Field::Protocol, Value::Short(0x86dd)) => f.write_str("ip6"),
            (_, Value::Byte(byte)) => byte.fmt(f),
            (_, Value::Short(short)) => short.fmt(f),
            (_, Value::Interface(index)) => index.fmt(f),
            (_, Value::Address(address)) => address.fmt(f),
            (_, Value::NoCgroup) => f.write_char('0'),
            (_, Value::Kind(kind)) => write!(f, "\"{kind}\""),
            (_, Value::Mark(mark)) => write!(f, "{mark:#010x}"),
        }
    }
}

struct VerdictText<'a>(&'a Verdict);

impl fmt::Display for VerdictText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Verdict::Accept => f.write_str("accept"),
            Verdict::Drop => f.write_str("drop"),
            Verdict::Return => f.write_str("return"),
            Verdict::Jump(chain) => write!(f, "jump {chain}"),
            Verdict::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

fn key_type(part: KeyType) -> &'static str {
    match part {
        KeyType::Interface => "iface_index",
        KeyType::InterfaceName => "ifname",
        KeyType::EtherAddr => "ether_addr",
        KeyType::Ipv4Addr => "ipv4_addr",
        KeyType::Ipv6Addr => "ipv6_addr",
        KeyType::Cgroup => "cgroupsv2",
    }
}

fn key_text(types: &[KeyType], key: &Key) -> String {
    let mut rest = key.as_bytes();
    let mut parts = Vec::with_capacity(types.len());
    for part in types {
        let width = match part {
            KeyType::Interface | KeyType::Ipv4Addr => 4,
            KeyType::EtherAddr | KeyType::Cgroup => 8,
            KeyType::Ipv6Addr | KeyType::InterfaceName => 16,
        };
        let Some((bytes, behind)) = rest.split_at_checked(width) else {
            break;
        };
        parts.push(part_text(*part, bytes));
        rest = behind;
    }
    parts.join(" . ")
}

fn part_text(part: KeyType, bytes: &[u8]) -> String {
    match (part, bytes) {
        (KeyType::Interface, &[a, b, c, d]) => u32::from_ne_bytes([a, b, c, d]).to_string(),
        (KeyType::InterfaceName, bytes) => {
            format!(
                "{:?}",
                String::from_utf8_lossy(bytes).trim_end_matches('\0')
            )
        }
        (KeyType::Ipv4Addr, &[a, b, c, d]) => Ipv4Addr::new(a, b, c, d).to_string(),
        (KeyType::EtherAddr, [mac @ .., _, _]) => mac
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<Vec<_>>()
            .join(":"),
        (KeyType::Cgroup, bytes) => <[u8; 8]>::try_from(bytes)
            .map_or_else(|_| String::new(), |id| u64::from_ne_bytes(id).to_string()),
        (_, bytes) => <[u8; 16]>::try_from(bytes)
            .map_or_else(|_| String::new(), |v6| Ipv6Addr::from(v6).to_string()),
    }
}

fn ip_text(key: &Key) -> String {
    key.as_ip()
        .map_or_else(|| format!("{key:?}"), |ip| ip.to_string())
}
