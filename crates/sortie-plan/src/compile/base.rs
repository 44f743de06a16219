//! The tables that are always there: base chains, and sets without elements.
//!
//! The order of rules is by cost: one look-up accepts the right packet, every drop is behind it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use sortie_api::config::{Guard, Unidentified};

use super::bridge;
use super::statement::{
    LINK_LOCAL_V6, UNSPECIFIED_V6, claimed, drop_chain, drop_counting, goto_drop, hooked, is,
    lookup, on, plain, refuse,
};
use crate::environment::Environment;
use crate::mark::Mark;
use crate::nft::rule::Field::{
    CtDirection, CtOriginalIp6Saddr, CtOriginalIpSaddr, EtherSaddr, Iif, IifKind, IifName,
    Ip6Daddr, Ip6Hoplimit, Ip6Saddr, IpDaddr, IpSaddr, L4Proto, Oif, ThSport,
};
use crate::nft::rule::Statement::{
    Answered, DnatMap, Log, SetMark, SnatMap, SourceIsLocal, VerdictMap,
};
use crate::nft::rule::Value::{Byte, Interface, Kind, Short};
use crate::nft::rule::Verdict::{Accept, Goto};
use crate::nft::rule::{Field, Rule};
use crate::nft::set::{DataType, KeyType, Set};
use crate::nft::{Chain, Family, Hook, HookKind, HookPoint, Name, Table};
use crate::reason::{ANSWERS_GROUP, Reason};
use crate::redirect::{DNS, UDP};

/// Changes when sets or chains mean something else than before: other versions rebuild the tables.
const SCHEMA: u32 = 1;

/// `ct direction original` and `reply` (enum ip_conntrack_dir).
pub(super) const REPLY: u8 = 1;
const ORIGINAL: u8 = 0;
pub(super) const IPPROTO_ICMPV6: u8 = 58;
/// The hop limit of neighbour messages (RFC 4861, section 7.1): a forwarded packet has less.
pub(super) const NEVER_FORWARDED: u8 = 255;

/// The three tables.
pub fn tables(environment: &Environment) -> BTreeMap<Family, Table> {
    let mut tables = BTreeMap::from([
        (Family::Bridge, bridge::table(environment)),
        (Family::Inet, inet(environment)),
        (Family::Netdev, netdev()),
    ]);
    for (family, table) in &mut tables {
        let mut hasher = DefaultHasher::new();
        crate::nft::text::table(*family, table).hash(&mut hasher);
        // Chains that set marks come and go by name.
        environment.config.mark_mask.hash(&mut hasher);
        table.tag = format!("sortie schema {SCHEMA} {:016x}", hasher.finish());
    }
    tables
}

/// The types of a set's elements, by its name; those of a policy set begin with the name of the
/// map that leads there.
pub fn set_shape(name: &str) -> Set {
    let own: BTreeMap<Name, Set> = inet_sets().into_iter().chain(netdev().sets).collect();
    let shape = own
        .get(name)
        .or_else(|| own.get(name.split('-').next().unwrap_or(name)));
    match (shape, name) {
        (Some(shape), _) => shape.clone(),
        (None, "known6") => Set::of(&[KeyType::Ipv6Addr]),
        (None, "known4") => Set::of(&[KeyType::Ipv4Addr]),
        (None, _) => Set::of(&[KeyType::Interface]),
    }
}

/// The base chain on one uplink's egress, and its name.
pub fn last_line(device: &str) -> (Name, Chain) {
    let hook = Hook {
        kind: HookKind::Filter,
        point: HookPoint::Egress,
        priority: 0,
        device: Some(device.to_owned()),
    };
    let rules = vec![
        on(lookup(&[IpSaddr], "own4"), refuse(Reason::LastLine)),
        on(lookup(&[Ip6Saddr], "own6"), refuse(Reason::LastLine)),
    ];
    (
        format!("uplink-{device}").into(),
        Chain {
            hook: Some(hook),
            rules,
        },
    )
}

fn inet(environment: &Environment) -> Table {
    let mut chains = BTreeMap::from([
        (
            "identify".into(),
            hooked(
                HookKind::Filter,
                HookPoint::Prerouting,
                environment.priorities.identify,
                identify(),
            ),
        ),
        ("port".into(), plain(port())),
        ("inward".into(), plain(inward())),
        (
            "translate".into(),
            hooked(
                HookKind::Nat,
                HookPoint::Postrouting,
                environment.priorities.translate,
                translate(),
            ),
        ),
        (
            "guard".into(),
            hooked(
                HookKind::Filter,
                HookPoint::Postrouting,
                environment.priorities.guard,
                guard(environment),
            ),
        ),
        (
            "stand-ins".into(),
            hooked(
                HookKind::Nat,
                HookPoint::Prerouting,
                environment.priorities.stand_ins,
                stand_ins(),
            ),
        ),
        (
            "refused4".into(),
            plain(refused(CtOriginalIpSaddr, IpSaddr, false)),
        ),
        (
            "refused6".into(),
            plain(refused(CtOriginalIp6Saddr, Ip6Saddr, true)),
        ),
        (
            "claimed".into(),
            plain(drop_counting(
                Reason::Identity,
                &[(IpSaddr, "managed4"), (Ip6Saddr, "managed6")],
            )),
        ),
        ("unmanaged".into(), plain(unmanaged(environment))),
        ("guarded".into(), plain(guarded(environment))),
    ]);
    let reasons: Vec<Reason> = Reason::ALL
        .into_iter()
        .filter(|reason| *reason != Reason::LastLine)
        .collect();
    chains.extend([super::policy_set::sniffed()]);
    for reason in &reasons {
        let of = if *reason == Reason::Untracked {
            [(IpSaddr, "managed4"), (Ip6Saddr, "managed6")]
        } else {
            [
                (CtOriginalIpSaddr, "managed4"),
                (CtOriginalIp6Saddr, "managed6"),
            ]
        };
        let mut rules = super::sockets::count_drops();
        rules.extend(drop_counting(*reason, &of));
        chains.insert(drop_chain(*reason), plain(rules));
    }
    Table {
        sets: inet_sets(),
        chains,
        counters: reasons.iter().map(|reason| reason.name().into()).collect(),
        ..Table::default()
    }
}

fn inet_sets() -> BTreeMap<Name, Set> {
    let mut sets: BTreeMap<Name, Set> = BTreeMap::from([
        (
            "ingress".into(),
            Set::of(&[KeyType::Interface]).to(DataType::Verdict),
        ),
        ("inside".into(), Set::of(&[KeyType::Interface])),
        ("guarded".into(), Set::of(&[KeyType::InterfaceName])),
        ("exempt".into(), Set::of(&[KeyType::Interface])),
    ]);
    for (digit, ip, data) in [
        ("4", KeyType::Ipv4Addr, DataType::Ipv4Addr),
        ("6", KeyType::Ipv6Addr, DataType::Ipv6Addr),
    ] {
        let mut add = |name: &str, set| sets.insert(format!("{name}{digit}").into(), set);
        add(
            "bound",
            Set::of(&[KeyType::Interface, KeyType::EtherAddr, ip]),
        );
        add("managed", Set::of(&[ip]));
        add("dropped", Set::of(&[ip]).counting());
        add("plain", Set::of(&[ip]));
        add("route", Set::of(&[ip]).to(DataType::Verdict));
        add("snat", Set::of(&[ip]).to(data));
        add("translate", Set::of(&[ip]).to(DataType::Verdict));
        add("allowed", Set::of(&[ip, ip, KeyType::Interface]));
        // A former address of a source: what ends when the drain does, and what passes until then.
        add("drains", Set::of(&[ip, ip, KeyType::Interface]));
        add(
            "draining",
            Set::of(&[ip, ip, KeyType::Interface]).expiring(),
        );
        // The way of flows with a former address, where new ones are steered.
        add("steered", Set::of(&[ip, ip]).to(DataType::Verdict));
        // The way of answers of managed workloads to who called an address of the host's.
        add("answers", Set::of(&[ip]).to(DataType::Verdict));
        // Let by for a while: whose flows end when the time is over, and what passes until then.
        add("bypassed", Set::of(&[ip]));
        add("bypass", Set::of(&[ip]).expiring());
        add("check", Set::of(&[ip]).to(DataType::Verdict));
        add("direct", Set::of(&[ip, KeyType::Interface]));
        add("egress", Set::of(&[ip]));
        add("usable", Set::of(&[ip, KeyType::Interface]));
        add("local", Set::of(&[ip]).ranges());
        add("closed", Set::of(&[ip]));
        // An address that stands in for another one, by the workload that was told it.
        add("stand-ins", Set::of(&[ip, ip]).to(data));
    }
    sets.extend(super::sockets::sets());
    sets
}

/// Ports without a bridge are bound here; a managed IP from anywhere else is dropped.
fn identify() -> Vec<Rule> {
    vec![
        vec![VerdictMap {
            fields: vec![Iif],
            map: "ingress".into(),
        }],
        on(lookup(&[IpSaddr], "managed4"), claimed()),
        on(lookup(&[Ip6Saddr], "managed6"), claimed()),
    ]
}

fn port() -> Vec<Rule> {
    vec![
        on(
            lookup(&[Iif, EtherSaddr, IpSaddr], "bound4"),
            vec![Accept.into()],
        ),
        on(
            lookup(&[Iif, EtherSaddr, Ip6Saddr], "bound6"),
            vec![Accept.into()],
        ),
        on(LINK_LOCAL_V6, vec![Accept.into()]),
        on(is(Ip6Saddr, UNSPECIFIED_V6), vec![Accept.into()]),
        refuse(Reason::Identity),
    ]
}

fn stand_ins() -> Vec<Rule> {
    let of_family = |fields: [Field; 2], v6, map: &'static str| {
        let (fields, map) = (fields.to_vec(), map.into());
        vec![DnatMap { fields, v6, map }]
    };
    vec![
        of_family([IpSaddr, IpDaddr], false, "stand-ins4"),
        of_family([Ip6Saddr, Ip6Daddr], true, "stand-ins6"),
    ]
}

fn translate() -> Vec<Rule> {
    vec![
        on(lookup(&[Oif], "inside"), vec![Accept.into()]),
        on(lookup(&[IpDaddr], "local4"), vec![Accept.into()]),
        on(lookup(&[Ip6Daddr], "local6"), vec![Accept.into()]),
        on(lookup(&[IpSaddr], "bypass4"), vec![Accept.into()]),
        on(lookup(&[Ip6Saddr], "bypass6"), vec![Accept.into()]),
        vec![SnatMap {
            field: IpSaddr,
            v6: false,
            map: "snat4".into(),
        }],
        vec![SnatMap {
            field: Ip6Saddr,
            v6: true,
            map: "snat6".into(),
        }],
        vec![VerdictMap {
            fields: vec![IpSaddr],
            map: "translate4".into(),
        }],
        vec![VerdictMap {
            fields: vec![Ip6Saddr],
            map: "translate6".into(),
        }],
    ]
}

/// To workloads. What they are told of names before any policy names one is copied, also from a
/// resolver on this host, as Podman's is.
fn inward() -> Vec<Rule> {
    let copied = Log {
        group: ANSWERS_GROUP,
        prefix: "answer".into(),
    };
    vec![
        vec![is(L4Proto, Byte(UDP)), is(ThSport, Short(DNS)), copied],
        vec![Accept.into()],
    ]
}

fn guard(environment: &Environment) -> Vec<Rule> {
    let pass = || {
        let mark = environment.gated.then_some(SetMark(Mark::PASS));
        mark.into_iter().chain([Accept.into()])
    };
    vec![
        on(lookup(&[Oif], "inside"), vec![Goto("inward".into()).into()]),
        // What this host sends itself is nobody's workload.
        on(is(Iif, Interface(0)), vec![Accept.into()]),
        on(
            lookup(&[CtOriginalIpSaddr, IpSaddr, Oif], "allowed4"),
            vec![SourceIsLocal, Accept.into()],
        ),
        on(
            lookup(&[CtOriginalIp6Saddr, Ip6Saddr, Oif], "allowed6"),
            vec![SourceIsLocal, Accept.into()],
        ),
        on(lookup(&[IpSaddr, Oif], "direct4"), pass()),
        on(lookup(&[Ip6Saddr, Oif], "direct6"), pass()),
        on(lookup(&[IpDaddr], "local4"), vec![Accept.into()]),
        on(lookup(&[Ip6Daddr], "local6"), vec![Accept.into()]),
        on(lookup(&[CtOriginalIpSaddr], "bypass4"), vec![Accept.into()]),
        on(
            lookup(&[CtOriginalIp6Saddr], "bypass6"),
            vec![Accept.into()],
        ),
        vec![VerdictMap {
            fields: vec![CtOriginalIpSaddr],
            map: "check4".into(),
        }],
        vec![VerdictMap {
            fields: vec![CtOriginalIp6Saddr],
            map: "check6".into(),
        }],
        on(
            lookup(&[CtOriginalIpSaddr], "managed4"),
            vec![Goto("refused4".into()).into()],
        ),
        on(
            lookup(&[CtOriginalIp6Saddr], "managed6"),
            vec![Goto("refused6".into()).into()],
        ),
        // No entry, or the workload answers somebody with its own address.
        on(lookup(&[IpSaddr], "managed4"), goto_drop(Reason::Untracked)),
        on(
            lookup(&[Ip6Saddr], "managed6"),
            goto_drop(Reason::Untracked),
        ),
        on(is(CtDirection, Byte(REPLY)), vec![Accept.into()]),
        // An egress address as the source before any translation, from somebody it is not bound to.
        on(
            lookup(&[CtOriginalIpSaddr], "egress4"),
            goto_drop(Reason::Borrowed),
        ),
        on(
            lookup(&[CtOriginalIp6Saddr], "egress6"),
            goto_drop(Reason::Borrowed),
        ),
        on(
            is(CtDirection, Byte(ORIGINAL)),
            vec![Goto("unmanaged".into()).into()],
        ),
        on(lookup(&[IpSaddr], "egress4"), goto_drop(Reason::Borrowed)),
        // The host's own neighbour messages: untracked, and with an input interface, because
        // ndisc_alloc_skb() sets the device that ip6_output() takes for it.
        vec![
            is(L4Proto, Byte(IPPROTO_ICMPV6)),
            is(Ip6Hoplimit, Byte(NEVER_FORWARDED)),
            Accept.into(),
        ],
        on(lookup(&[Ip6Saddr], "egress6"), goto_drop(Reason::Borrowed)),
        vec![Goto("unmanaged".into()).into()],
    ]
}

/// A managed workload's packet that was not accepted: an old flow that drains, or else only the
/// reason is still open.
fn refused(original: Field, source: Field, v6: bool) -> Vec<Rule> {
    let (allowed, egress) = if v6 {
        ("allowed6", "egress6")
    } else {
        ("allowed4", "egress4")
    };
    vec![
        drains(v6),
        on(
            lookup(&[original, source, Oif], allowed),
            goto_drop(Reason::AddressLost),
        ),
        on(lookup(&[source], egress), goto_drop(Reason::WrongUplink)),
        goto_drop(Reason::WrongSource),
    ]
}

/// An answered flow goes on with a former address, while that is on this host.
pub(super) fn drains(v6: bool) -> Rule {
    let draining = if v6 {
        lookup(&[CtOriginalIp6Saddr, Ip6Saddr, Oif], "draining6")
    } else {
        lookup(&[CtOriginalIpSaddr, IpSaddr, Oif], "draining4")
    };
    vec![draining, Answered, SourceIsLocal, Accept.into()]
}

fn unmanaged(environment: &Environment) -> Vec<Rule> {
    // By name: Podman's bridges come and go, and each time have another index.
    let guarded = on(
        lookup(&[IifName], "guarded"),
        vec![Goto("guarded".into()).into()],
    );
    match environment.config.guard {
        Guard::Networks => vec![guarded],
        Guard::All => vec![
            guarded,
            on(lookup(&[Iif], "exempt"), vec![Accept.into()]),
            on(
                is(IifKind, Kind("bridge")),
                vec![Goto("guarded".into()).into()],
            ),
        ],
    }
}

fn guarded(environment: &Environment) -> Vec<Rule> {
    let mut rules = vec![
        on(lookup(&[CtOriginalIpSaddr], "plain4"), vec![Accept.into()]),
        on(lookup(&[CtOriginalIp6Saddr], "plain6"), vec![Accept.into()]),
        on(lookup(&[IpSaddr], "plain4"), vec![Accept.into()]),
        on(lookup(&[Ip6Saddr], "plain6"), vec![Accept.into()]),
    ];
    match environment.config.unidentified {
        Unidentified::Drop => rules.push(goto_drop(Reason::Unidentified)),
        Unidentified::NodeAddress => {}
    }
    rules
}

fn netdev() -> Table {
    Table {
        sets: BTreeMap::from([
            ("own4".into(), Set::of(&[KeyType::Ipv4Addr])),
            ("own6".into(), Set::of(&[KeyType::Ipv6Addr])),
        ]),
        counters: vec![Reason::LastLine.name().into()],
        ..Table::default()
    }
}
