//! What the gateway sends itself: its sockets are bound to a policy's address and carry a mark, and
//! the kernel keeps them to it.
//!
//! Without this another program's `masquerade` would take the source away (`getsockname` still tells
//! the bound one), and a socket whose route has changed would leave by a wrong uplink. Packets without
//! such a mark pay one comparison, and all of it is there only while a workload needs the gateway or
//! clients may ask it.

use super::shared::Topology;
use super::statement::{goto_drop, hooked, is, lookup, on, otherwise, plain};
use crate::environment::Environment;
use crate::mark::Mark;
use crate::nft::rule::Field::{FlowCgroup, Iif, Ip6Saddr, IpSaddr, Oif};
use crate::nft::rule::Statement::{self, Marked, SnatToItself, SourceIsLocal};
use crate::nft::rule::Value::{Interface, NoCgroup};
use crate::nft::rule::Verdict::{Accept, Goto};
use crate::nft::rule::{Rule, Verdict};
use crate::nft::{Chain, HookKind, HookPoint, Name};
use crate::reason::Reason;

/// The chains; none where nobody needs the gateway.
pub(super) fn chains(environment: &Environment, topology: &Topology) -> Vec<(Name, Chain)> {
    if !topology.by_gateway {
        return Vec::new();
    }
    let priorities = &environment.priorities;
    let base = |kind, priority, rules| hooked(kind, HookPoint::Postrouting, priority, rules);
    let (keep, check) = ("gateway-keep", "gateway-check");
    vec![
        (
            "gateway-translate".into(),
            base(
                HookKind::Nat,
                priorities.translate,
                sent(environment, topology, &Goto(keep.into())),
            ),
        ),
        (
            "gateway-guard".into(),
            base(
                HookKind::Filter,
                priorities.guard,
                sent(environment, topology, &Goto(check.into())),
            ),
        ),
        (keep.into(), plain(keeps())),
        (check.into(), plain(checks())),
    ]
}

/// What leads to a chain: this host's own packets with the gateway's mark, or with one of an uplink's.
/// Sockets of managed cgroups have those too: their flows are noted to be theirs.
fn sent(environment: &Environment, topology: &Topology, to: &Verdict) -> Vec<Rule> {
    let own = is(Iif, Interface(0));
    let to = Statement::from(to.clone());
    let gateway = Mark::gateway(environment.config.mark_mask);
    let mut rules = vec![vec![own.clone(), Marked(gateway), to.clone()]];
    rules.extend(topology.steering.marks().into_iter().map(|mark| {
        let mut rule = vec![own.clone(), Marked(mark)];
        if !topology.cgroup_levels.is_empty() {
            rule.push(is(FlowCgroup, NoCgroup));
        }
        rule.push(to.clone());
        rule
    }));
    rules
}

/// A translation to the same address: the first one of a flow decides, and no later one is asked.
fn keeps() -> Vec<Rule> {
    let keep = |v6| vec![SnatToItself { v6 }];
    vec![
        on(lookup(&[IpSaddr], "egress4"), keep(false)),
        on(lookup(&[Ip6Saddr], "egress6"), keep(true)),
    ]
}

/// An allow-list, as the guard of forwarded packets.
fn checks() -> Vec<Rule> {
    let usable = |source, set| lookup(&[source, Oif], set);
    vec![
        on(
            usable(IpSaddr, "usable4"),
            vec![SourceIsLocal, Accept.into()],
        ),
        on(
            usable(Ip6Saddr, "usable6"),
            vec![SourceIsLocal, Accept.into()],
        ),
        on(usable(IpSaddr, "usable4"), goto_drop(Reason::AddressLost)),
        on(usable(Ip6Saddr, "usable6"), goto_drop(Reason::AddressLost)),
    ]
    .into_iter()
    .chain(otherwise())
    .collect()
}
