//! Workloads in the host's network namespace. Their packets begin at sockets, and a socket is known
//! by the cgroup that it was made in.
//!
//! Only the output hook can ask a socket for its cgroup. So there a flow's first packet notes the
//! cgroup in the flow's label, and what is behind, translation and guard, asks the flow. What the
//! kernel itself sends for a flow without its socket (an acknowledgement of a connection that waits
//! for its end, a reset, an ICMP error) is translated with the flow.
//!
//! All these chains are there only where such a workload is managed.

use std::collections::{BTreeMap, BTreeSet};

use super::statement::{IPV4, IPV6, goto_drop, hooked, is, lookup, on, otherwise, plain};
use crate::environment::Environment;
use crate::nft::rule::Field::{
    CtDirection, FlowCgroup, Ip6Daddr, Ip6Saddr, IpDaddr, IpSaddr, Oif, SocketCgroup,
};
use crate::nft::rule::Statement::{
    self, Count, First, NoteCgroup, SnatMap, SourceIsLocal, VerdictMap,
};
use crate::nft::rule::Value::{Byte, Interface, NoCgroup};
use crate::nft::rule::Verdict::{Accept, Goto};
use crate::nft::rule::{Rule, Value};
use crate::nft::set::{DataType, KeyType, Set};
use crate::nft::{Chain, HookKind, HookPoint, Name};
use crate::reason::Reason;

/// The loopback interface's index, in every network namespace (net/core/dev.c, `LOOPBACK_IFINDEX`).
const LOOPBACK: Value = Interface(1);
/// `ct direction original` and `reply` (enum `ip_conntrack_dir`).
const ORIGINAL: Value = Byte(0);
const REPLY: Value = Byte(1);

/// The sets of such workloads; those with a 4 or 6 are of one family's packets.
pub(super) fn sets() -> BTreeMap<Name, Set> {
    let cgroup = KeyType::Cgroup;
    // A socket's and its flow's: the same one, twice.
    let own = Set::of(&[cgroup, cgroup]);
    let mut sets = BTreeMap::from([("own-flows".into(), own)]);
    for (digit, ip, data) in [
        ("4", KeyType::Ipv4Addr, DataType::Ipv4Addr),
        ("6", KeyType::Ipv6Addr, DataType::Ipv6Addr),
    ] {
        let mut add = |name: &str, set| sets.insert(format!("{name}{digit}").into(), set);
        add("cgroups", Set::of(&[cgroup]));
        add("cgroup-managed", Set::of(&[cgroup]));
        add("cgroup-dropped", Set::of(&[cgroup]).counting());
        add("cgroup-route", Set::of(&[cgroup]).to(DataType::Verdict));
        add("cgroup-snat", Set::of(&[cgroup]).to(data));
        add("cgroup-translate", Set::of(&[cgroup]).to(DataType::Verdict));
        add("cgroup-allowed", Set::of(&[cgroup, ip, KeyType::Interface]));
        add("cgroup-check", Set::of(&[cgroup]).to(DataType::Verdict));
    }
    sets
}

/// The chains for managed workloads at these levels of the cgroup tree; none at all for none.
pub(super) fn chains(environment: &Environment, levels: &BTreeSet<u32>) -> Vec<(Name, Chain)> {
    if levels.is_empty() {
        return Vec::new();
    }
    let priorities = &environment.priorities;
    let base = |kind, point, priority, rules| hooked(kind, point, priority, rules);
    let mut chains = vec![
        ("cgroup-flows".into(), plain(route())),
        (
            "cgroup-translate".into(),
            base(
                HookKind::Nat,
                HookPoint::Postrouting,
                priorities.translate,
                translate(),
            ),
        ),
        (
            "cgroup-guard".into(),
            base(
                HookKind::Filter,
                HookPoint::Postrouting,
                priorities.guard,
                guard(),
            ),
        ),
        ("cgroup-refused".into(), plain(refused())),
    ];
    for level in levels {
        let output = base(
            HookKind::Route,
            HookPoint::Output,
            priorities.classify,
            output(*level),
        );
        chains.push((format!("sockets-{level}").into(), output));
        chains.push((chain_of(*level), plain(identify(*level))));
    }
    chains
}

fn chain_of(level: u32) -> Name {
    format!("cgroup-{level}").into()
}

/// One look-up for each packet of the host.
fn output(level: u32) -> Vec<Rule> {
    let known = |set| {
        on(
            lookup(&[SocketCgroup(level)], set),
            vec![Goto(chain_of(level)).into()],
        )
    };
    vec![on(IPV4, known("cgroups4")), on(IPV6, known("cgroups6"))]
}

/// 1. What does not leave, and answers to others, are nobody's business.
/// 2. A flow's first packet notes whose the flow is.
/// 3. What is not in a flow of its own cgroup is dropped.
fn identify(level: u32) -> Vec<Rule> {
    vec![
        on(is(Oif, LOOPBACK), vec![Accept.into()]),
        on(lookup(&[Oif], "inside"), vec![Accept.into()]),
        on(lookup(&[IpDaddr], "local4"), vec![Accept.into()]),
        on(lookup(&[Ip6Daddr], "local6"), vec![Accept.into()]),
        on(is(CtDirection, REPLY), vec![Accept.into()]),
        vec![First, is(FlowCgroup, NoCgroup), NoteCgroup { level }],
        on(
            lookup(&[SocketCgroup(level), FlowCgroup], "own-flows"),
            vec![Goto("cgroup-flows".into()).into()],
        ),
        on(is(CtDirection, ORIGINAL), goto_drop(Reason::Earlier)),
        goto_drop(Reason::Untracked),
    ]
}

/// Where the egress address is on an uplink that the host's routes do not lead to, the packet gets
/// the uplink's mark, and the hook routes it anew.
fn route() -> Vec<Rule> {
    vec![
        vec![IPV4, by_flow("cgroup-route4")],
        vec![IPV6, by_flow("cgroup-route6")],
    ]
}

fn translate() -> Vec<Rule> {
    let snat = |v6, map: &'static str| SnatMap {
        field: FlowCgroup,
        v6,
        map: map.into(),
    };
    vec![
        vec![IPV4, snat(false, "cgroup-snat4")],
        vec![IPV6, snat(true, "cgroup-snat6")],
        vec![IPV4, by_flow("cgroup-translate4")],
        vec![IPV6, by_flow("cgroup-translate6")],
    ]
}

/// An allow-list, as the guard of forwarded packets.
fn guard() -> Vec<Rule> {
    let managed = |set| {
        on(
            lookup(&[FlowCgroup], set),
            vec![Goto("cgroup-refused".into()).into()],
        )
    };
    vec![
        on(
            lookup(&[FlowCgroup, IpSaddr, Oif], "cgroup-allowed4"),
            vec![SourceIsLocal, Accept.into()],
        ),
        on(
            lookup(&[FlowCgroup, Ip6Saddr, Oif], "cgroup-allowed6"),
            vec![SourceIsLocal, Accept.into()],
        ),
        vec![IPV4, by_flow("cgroup-check4")],
        vec![IPV6, by_flow("cgroup-check6")],
        on(IPV4, managed("cgroup-managed4")),
        on(IPV6, managed("cgroup-managed6")),
    ]
}

/// Only the reason is still open.
fn refused() -> Vec<Rule> {
    vec![
        on(
            lookup(&[FlowCgroup, IpSaddr, Oif], "cgroup-allowed4"),
            goto_drop(Reason::AddressLost),
        ),
        on(
            lookup(&[FlowCgroup, Ip6Saddr, Oif], "cgroup-allowed6"),
            goto_drop(Reason::AddressLost),
        ),
    ]
    .into_iter()
    .chain(otherwise())
    .collect()
}

/// Drops of managed cgroups' flows, counted for the workload.
pub(super) fn count_drops() -> Vec<Rule> {
    let count = |managed, dropped: &'static str| {
        let set = dropped.into();
        let field = FlowCgroup;
        on(lookup(&[field], managed), vec![Count { field, set }])
    };
    vec![
        on(IPV4, count("cgroup-managed4", "cgroup-dropped4")),
        on(IPV6, count("cgroup-managed6", "cgroup-dropped6")),
    ]
}

fn by_flow(map: &'static str) -> Statement {
    VerdictMap {
        fields: vec![FlowCgroup],
        map: map.into(),
    }
}
