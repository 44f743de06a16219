//! What leads a workload's lookups to the resolver and its connections to the gateway: a table in the
//! workload's own network namespace, where both have sockets.
//!
//! The socket that a packet reaches tells whose it is, and cannot be forged. The table is there while
//! nobody listens too: then lookups and connections are refused, and nothing leaves unseen.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::compile::statement::{hooked, is, lookup, on};
use crate::nft::key::Key;
use crate::nft::rule::Field::{Ip6Daddr, IpDaddr, L4Proto, Mark, ThDport};
use crate::nft::rule::Statement::{DestinationIsLocal, GoesOn, Range};
use crate::nft::rule::Value::{self, Byte, Short};
use crate::nft::rule::Verdict::Return;
use crate::nft::rule::{Rule, Statement};
use crate::nft::set::{Data, KeyType, Set};
use crate::nft::{Elements, HookKind, HookPoint, Name, Table};

/// Where the resolver listens in a workload's namespace, on 127.0.0.1 and `::1`, UDP and TCP.
/// Unassigned by IANA, and below the range that Linux takes source ports from.
pub const RESOLVER_PORT: u16 = 19_053;
/// Where the gateway listens in a workload's namespace, on 127.0.0.1 and `::1`, TCP.
pub const GATEWAY_PORT: u16 = 19_083;
/// The mark (`SO_MARK`, all 32 bits) of the resolver's own sockets in a workload's namespace: what
/// has it is led nowhere. A mark does not leave its namespace (`skb_scrub_packet`), so the host's
/// bits have nothing to do with it.
pub const SOCKET_MARK: u32 = 0x5017_1e00;

/// The chain's name.
pub const CHAIN: &str = "names";
/// Before the redirect of Docker's own resolver (-100): of two, the first in one hook decides.
const PRIORITY: i32 = -110;
/// DNS over UDP and TCP (RFC 1035, section 4.2).
pub(crate) const DNS: u16 = 53;
/// `IPPROTO_TCP` and `IPPROTO_UDP`.
const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

/// What is led where in one workload's namespace; lookups always are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redirect {
    /// The TCP ports whose connections the gateway must see: first and last, included.
    pub ports: BTreeSet<(u16, u16)>,
    /// Where connections are no policy's business.
    pub local: BTreeSet<IpNet>,
    /// Where the kernel decides alone, whatever the port.
    pub direct: BTreeSet<IpAddr>,
}

impl Redirect {
    /// The table `inet sortie` of the namespace.
    pub fn table(&self) -> Table {
        let to = |port| Statement::Redirect(port);
        let port = |protocol, port| vec![is(L4Proto, Byte(protocol)), is(ThDport, Short(port))];
        let mut rules: Vec<Rule> = vec![
            on(is(Mark, Value::Mark(SOCKET_MARK)), [Return.into()]),
            // A connection of before the table is new to this namespace: it goes on as it began.
            on(GoesOn, [Return.into()]),
            [port(UDP, DNS), vec![to(RESOLVER_PORT)]].concat(),
            [port(TCP, DNS), vec![to(RESOLVER_PORT)]].concat(),
            on(DestinationIsLocal, [Return.into()]),
            on(lookup(&[IpDaddr], "local4"), [Return.into()]),
            on(lookup(&[Ip6Daddr], "local6"), [Return.into()]),
            on(lookup(&[IpDaddr], "direct4"), [Return.into()]),
            on(lookup(&[Ip6Daddr], "direct6"), [Return.into()]),
        ];
        rules.extend(self.ports.iter().map(|(first, last)| {
            let port = if first == last {
                is(ThDport, Short(*first))
            } else {
                Range {
                    field: ThDport,
                    first: Short(*first),
                    last: Short(*last),
                }
            };
            vec![is(L4Proto, Byte(TCP)), port, to(GATEWAY_PORT)]
        }));
        let chain = hooked(HookKind::Nat, HookPoint::Output, PRIORITY, rules);
        let mut hasher = DefaultHasher::new();
        crate::nft::text::rules(&chain.rules).hash(&mut hasher);
        Table {
            tag: format!("sortie names {:016x}", hasher.finish()),
            sets: self.sets().map(|(name, set)| (name.into(), set)).into(),
            chains: [(Name::Borrowed(CHAIN), chain)].into(),
            counters: Vec::new(),
        }
    }

    fn sets(&self) -> [(&'static str, Set); 4] {
        let local = |v6: bool| -> Elements {
            let ranges: Vec<IpNet> = self.local.iter().copied().collect();
            let ranges = IpNet::aggregate(&ranges).into_iter();
            let ranges = ranges.filter(|range| range.addr().is_ipv6() == v6);
            let element = |range: IpNet| {
                let last = Data::Through(range.broadcast().into());
                (range.network().into(), last)
            };
            ranges.map(element).collect()
        };
        let direct = |v6: bool| -> Elements {
            let addresses = self.direct.iter();
            let addresses = addresses.filter(|address| address.is_ipv6() == v6);
            let element = |address: &IpAddr| (Key::from(*address), Data::None);
            addresses.map(element).collect()
        };
        let of = |key, elements| Set {
            elements,
            ..Set::of(&[key])
        };
        [
            ("local4", of(KeyType::Ipv4Addr, local(false)).ranges()),
            ("local6", of(KeyType::Ipv6Addr, local(true)).ranges()),
            ("direct4", of(KeyType::Ipv4Addr, direct(false))),
            ("direct6", of(KeyType::Ipv6Addr, direct(true))),
        ]
    }
}

impl fmt::Display for Redirect {
    /// What people would say to `nft`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lookups to :{RESOLVER_PORT}")?;
        for (at, (first, last)) in self.ports.iter().enumerate() {
            f.write_str(if at == 0 { ", TCP to " } else { ", " })?;
            if first == last {
                write!(f, "{first}")?;
            } else {
                write!(f, "{first}-{last}")?;
            }
        }
        if self.ports.is_empty() {
            return Ok(());
        }
        write!(f, " to :{GATEWAY_PORT}")
    }
}
