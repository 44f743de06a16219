//! From what is there to what must be there.

use std::collections::BTreeMap;

use crate::compile::shared::MAIN_TABLE;
use crate::flow::{Keep, Source};
use crate::nft::{Family, Table};
use crate::op::Op;
use crate::state::{HostState, Network, Observed, ObservedTable, Route, RoutingRule, RuleBy};
use crate::steps::Steps;

/// All steps from what was observed to what is wanted.
pub fn diff(observed: &Observed, desired: HostState) -> Vec<Op> {
    diff_keeping(observed, desired, |_| Keep::default())
}

/// The same; `keep` says which flows of a source are right.
pub fn diff_keeping(
    observed: &Observed,
    desired: HostState,
    keep: impl Fn(Source) -> Keep,
) -> Vec<Op> {
    let mut steps = Steps::default();
    steps.tables(&observed.tables, desired.tables);
    steps.network(&observed.network, &desired.network);
    steps.into_ops(keep)
}

/// What is wanted and not there, while it is not known yet whose the rest is: of tables nothing goes
/// but what something new replaces, and local ranges, which no workload makes. A table of another
/// version is made anew, and what was in it goes, unless a workload is in any of them that is not
/// among the wanted: then those tables wait. `keep` says which flows of a source are right.
pub fn missing(observed: &Observed, desired: &HostState, keep: impl Fn(Source) -> Keep) -> Vec<Op> {
    let tag = |family: &Family| desired.tables.get(family).map(|table| &table.tag);
    let (same, other): (BTreeMap<_, _>, BTreeMap<_, _>) = observed
        .tables
        .clone()
        .into_iter()
        .partition(|(family, table)| tag(family) == Some(&table.tag));
    let waits = other
        .iter()
        .any(|(family, table)| holds_strangers(table, desired.tables.get(family)));
    let mut wanted = desired.tables.clone();
    let mut steps = Steps::default();
    if waits {
        wanted.retain(|family, _| !other.contains_key(family));
        steps.tables(&same, wanted);
    } else {
        steps.tables(&observed.tables, wanted);
    }
    steps.spare();
    let network = sparing(&observed.network, &desired.network);
    steps.network(&observed.network, &network);
    steps.into_ops(keep)
}

/// Whether nothing is in any set but what is wanted.
pub fn holds_nothing_else(observed: &Observed, desired: &HostState) -> bool {
    observed.tables.iter().all(|(family, found)| {
        let table = desired.tables.get(family);
        found.sets.iter().all(|(name, elements)| {
            let wanted = table.and_then(|table| table.sets.get(name));
            let is_wanted = |key| wanted.is_some_and(|set| set.elements.contains_key(key));
            elements.keys().all(is_wanted)
        })
    })
}

/// Whether a table, of whatever version, knows a workload that the wanted one does not.
fn holds_strangers(observed: &ObservedTable, desired: Option<&Table>) -> bool {
    WORKLOADS.iter().any(|set| {
        let known = desired.and_then(|table| table.sets.get(*set));
        let elements = observed.sets.get(*set).into_iter().flatten();
        let mut keys = elements.map(|(key, _)| key);
        keys.any(|key| known.is_none_or(|known| !known.elements.contains_key(key)))
    })
}

/// The steps outside nftables only.
pub fn network(observed: &Network, desired: &Network) -> Vec<Op> {
    let mut steps = Steps::default();
    steps.network(observed, desired);
    steps.into_ops(|_| Keep::default())
}

/// What must be there outside nftables while it is not known yet whose the rest is: what serves
/// containers with an address of their own stays, and so do the ways to uplinks.
pub fn sparing(observed: &Network, desired: &Network) -> Network {
    let mut spared = desired.clone();
    let known = |rule: &RoutingRule| {
        let mut rules = desired.rules.iter();
        rules.any(|other| (other.v6, &other.by) == (rule.v6, &rule.by))
    };
    let ways = observed.rules.iter();
    for rule in ways.filter(|rule| matches!(rule.by, RuleBy::Mark(_)) && !known(rule)) {
        let taken = |route: &Route| {
            let mut routes = desired.routes.iter();
            routes.any(|r| (r.table, r.destination) == (route.table, route.destination))
        };
        let routes = observed.routes.iter();
        let of_table = routes.filter(|route| route.table == rule.table && !taken(route));
        spared.routes.extend(of_table.cloned());
        spared.rules.insert(rule.clone());
    }
    let routes = observed.routes.iter();
    let routes = routes.filter(|route| route.table == MAIN_TABLE);
    spared.routes.extend(routes.cloned());
    spared
        .neighbours
        .extend(observed.neighbours.iter().cloned());
    spared.forwarded.extend(observed.forwarded.iter().cloned());
    for (sysctl, value) in &observed.sysctls {
        let entry = spared.sysctls.entry(sysctl.clone());
        entry.or_insert_with(|| value.clone());
    }
    for (own, held) in &observed.own {
        spared.own.entry(own.clone()).or_insert(*held);
    }
    for (pid, redirect) in &observed.redirects {
        let entry = spared.redirects.entry(*pid);
        entry.or_insert_with(|| redirect.clone());
    }
    spared
}

/// The sets in which each workload is that any rule is about, by its own address or cgroup.
const WORKLOADS: [&str; 10] = [
    "known4", "known6", "managed4", "managed6", "plain4", "plain6", "own4", "own6", "cgroups4",
    "cgroups6",
];
