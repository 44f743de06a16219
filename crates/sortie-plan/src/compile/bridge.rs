//! The table of bridges: who may send what from which port.

use std::collections::BTreeMap;

use super::base::IPPROTO_ICMPV6;
use super::statement::{
    LINK_LOCAL_V6, UNSPECIFIED_V4, UNSPECIFIED_V6, claimed, drop_counting, hooked, is, lookup,
    lookup_not, on, plain, refuse,
};
use crate::environment::Environment;
use crate::nft::rule::Field::{
    ArpSaddrEther, ArpSaddrIp, EtherSaddr, Icmpv6Taddr, Icmpv6Type, Iif, Ip6Saddr, IpSaddr, L4Proto,
};
use crate::nft::rule::Rule;
use crate::nft::rule::Statement::{self, Count};
use crate::nft::rule::Value::Byte;
use crate::nft::rule::Verdict::{Accept, Goto};
use crate::nft::set::{KeyType, Set};
use crate::nft::{HookKind, HookPoint, Table};
use crate::reason::Reason;

/// Neighbour Advertisement (RFC 4861, section 4.4).
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// For a neighbour advertisement of a bound address that does not come from its port.
fn on_announcement(then: Vec<Statement>) -> Rule {
    let mut rule = vec![
        is(L4Proto, Byte(IPPROTO_ICMPV6)),
        is(Icmpv6Type, Byte(NEIGHBOUR_ADVERTISEMENT)),
        lookup(&[Icmpv6Taddr], "known6"),
        lookup_not(&[Iif, EtherSaddr, Icmpv6Taddr], "bound6"),
    ];
    rule.extend(then);
    rule
}

pub(super) fn table(environment: &Environment) -> Table {
    let identify = vec![
        on(
            lookup(&[Iif, EtherSaddr, IpSaddr], "bound4"),
            vec![Accept.into()],
        ),
        // A neighbour may not announce a bound address as its own.
        on_announcement(vec![Count {
            field: Icmpv6Taddr,
            set: "dropped6".into(),
        }]),
        on_announcement(refuse(Reason::Identity)),
        on(
            lookup(&[Iif, EtherSaddr, Ip6Saddr], "bound6"),
            vec![Accept.into()],
        ),
        on(lookup(&[Iif], "ports"), vec![Goto("port".into()).into()]),
        on(lookup(&[IpSaddr], "known4"), claimed()),
        on(lookup(&[Ip6Saddr], "known6"), claimed()),
        on(lookup(&[ArpSaddrIp], "known4"), claimed()),
    ];
    // What a bound port may say besides: ARP for its own address, and what cannot be routed.
    let port = vec![
        on(
            lookup(&[Iif, ArpSaddrEther, ArpSaddrIp], "bound4"),
            vec![Accept.into()],
        ),
        on(is(ArpSaddrIp, UNSPECIFIED_V4), vec![Accept.into()]),
        on(is(IpSaddr, UNSPECIFIED_V4), vec![Accept.into()]),
        on(LINK_LOCAL_V6, vec![Accept.into()]),
        on(is(Ip6Saddr, UNSPECIFIED_V6), vec![Accept.into()]),
        refuse(Reason::Identity),
    ];
    Table {
        sets: BTreeMap::from([
            (
                "bound4".into(),
                Set::of(&[KeyType::Interface, KeyType::EtherAddr, KeyType::Ipv4Addr]),
            ),
            (
                "bound6".into(),
                Set::of(&[KeyType::Interface, KeyType::EtherAddr, KeyType::Ipv6Addr]),
            ),
            ("known4".into(), Set::of(&[KeyType::Ipv4Addr])),
            ("known6".into(), Set::of(&[KeyType::Ipv6Addr])),
            ("dropped4".into(), Set::of(&[KeyType::Ipv4Addr]).counting()),
            ("dropped6".into(), Set::of(&[KeyType::Ipv6Addr]).counting()),
            ("ports".into(), Set::of(&[KeyType::Interface])),
        ]),
        chains: BTreeMap::from([
            (
                "identify".into(),
                hooked(
                    HookKind::Filter,
                    HookPoint::Prerouting,
                    environment.priorities.bridge_identify,
                    identify,
                ),
            ),
            ("port".into(), plain(port)),
            (
                "claimed".into(),
                plain(drop_counting(
                    Reason::Identity,
                    &[
                        (IpSaddr, "known4"),
                        (Ip6Saddr, "known6"),
                        (ArpSaddrIp, "known4"),
                    ],
                )),
            ),
        ]),
        counters: vec![Reason::Identity.name().into()],
        ..Table::default()
    }
}
