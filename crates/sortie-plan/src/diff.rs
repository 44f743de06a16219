//! From what is there to what must be there: which steps, in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::compile::shared::MAIN_TABLE;
use crate::compile::workload::{Element, Placement};
use crate::flow::{Keep, Source};
use crate::nft::key::Key;
use crate::nft::set::{Data, Set};
use crate::nft::{Chain, Elements, Family, Name, Table};
use crate::op::{NftOp, Op};
use crate::state::{
    HostState, Network, Observed, ObservedTable, OwnAddress, Route, RoutingRule, RuleBy,
};

/// Where elements are: a family's set.
type Place = (Family, Name);

/// Changes under construction; [`Steps::into_ops`] puts them in an order in which nothing leaks.
#[derive(Debug, Default)]
pub struct Steps {
    unwanted: bool,
    tables: Vec<Op>,
    chains: BTreeMap<Place, Chain>,
    sets: BTreeMap<Place, Set>,
    remove: BTreeMap<Place, Elements>,
    add: BTreeMap<Place, Elements>,
    gone_chains: BTreeSet<Place>,
    gone_sets: BTreeSet<Place>,
    /// Which flows of a source stay, where that is known better than elements tell.
    keep: BTreeMap<Source, Keep>,
    network: Vec<Op>,
    /// Addresses that workloads have themselves no longer.
    gone_own: Vec<OwnAddress>,
}

/// All steps from what was observed to what is wanted.
pub fn diff(observed: &Observed, desired: HostState) -> Vec<Op> {
    diff_keeping(observed, desired, |_| Keep::default())
}

/// The same; `keep` says which flows of a source stay when one of its drains ends.
pub fn diff_keeping(
    observed: &Observed,
    desired: HostState,
    keep: impl Fn(IpAddr) -> Keep,
) -> Vec<Op> {
    let mut steps = Steps::default();
    steps.tables(&observed.tables, desired.tables);
    let drained = drained(&steps.remove).map(|(source, _)| Source::Address(source));
    for source in drained.chain(bypassed(&steps.remove)).collect::<Vec<_>>() {
        if let Source::Address(address) = source {
            steps.keep(source, keep(address));
        }
    }
    steps.network(&observed.network, &desired.network);
    steps.into_ops()
}

/// What is wanted and not there, while it is not known yet whose the rest is: of tables nothing goes
/// but what something new replaces, and local ranges, which no workload makes. A table of another
/// version is made anew, and what was in it goes, unless a workload is in any of them that is not
/// among the wanted: then those tables wait.
pub fn missing(observed: &Observed, desired: &HostState) -> Vec<Op> {
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
    steps.into_ops()
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
    steps.into_ops()
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
    spared
}

impl Steps {
    /// Changes of elements that nobody will ask for: they are not kept.
    pub fn unwanted() -> Self {
        Self {
            unwanted: true,
            ..Self::default()
        }
    }

    /// From the observed tables to the wanted ones.
    pub fn tables(
        &mut self,
        observed: &BTreeMap<Family, ObservedTable>,
        desired: BTreeMap<Family, Table>,
    ) {
        for family in observed
            .keys()
            .filter(|family| !desired.contains_key(family))
        {
            self.tables.push(Op::Nft(*family, NftOp::DeleteTable));
        }
        for (family, table) in desired {
            match observed.get(&family) {
                Some(found) if found.tag == table.tag => self.table(family, found, table),
                found => {
                    if found.is_some() {
                        self.tables.push(Op::Nft(family, NftOp::DeleteTable));
                    }
                    self.tables
                        .push(Op::Nft(family, NftOp::AddTable(table.tag.clone())));
                    let counters = table.counters.iter().cloned().map(NftOp::AddCounter);
                    self.tables.extend(counters.map(|op| Op::Nft(family, op)));
                    self.table(family, &ObservedTable::default(), table);
                }
            }
        }
    }

    /// Tables that are made anew: whatever else was to change in them is in the wanted ones already.
    pub fn rebuild(
        &mut self,
        observed: &BTreeMap<Family, ObservedTable>,
        desired: BTreeMap<Family, Table>,
    ) {
        let elsewhere = |(family, _): &Place| !desired.contains_key(family);
        self.chains.retain(|place, _| elsewhere(place));
        self.sets.retain(|place, _| elsewhere(place));
        self.add.retain(|place, _| elsewhere(place));
        self.remove.retain(|place, _| elsewhere(place));
        self.gone_chains.retain(elsewhere);
        self.gone_sets.retain(elsewhere);
        self.tables(observed, desired);
    }

    /// One table whose tag is right: sets, chains and elements by name.
    fn table(&mut self, family: Family, observed: &ObservedTable, desired: Table) {
        for name in observed
            .chains
            .iter()
            .filter(|name| !desired.chains.contains_key(*name))
        {
            self.remove_chain(family, name.clone());
        }
        for name in observed
            .sets
            .keys()
            .filter(|name| !desired.sets.contains_key(*name))
        {
            self.remove_set(family, name.clone());
        }
        for (name, chain) in desired.chains {
            if !observed.chains.contains(&name) {
                self.add_chain(family, name, chain);
            }
        }
        for (name, set) in desired.sets {
            let Some(found) = observed.sets.get(&name) else {
                self.add_set(family, name, set);
                continue;
            };
            let at = |key: Key, data: Data| (family, name.clone(), key, data);
            let gone = found
                .iter()
                .filter(|(key, data)| !holds(&set.elements, key, data));
            self.remove_elements(gone.map(|(key, data)| at(*key, data.clone())));
            let new = set
                .elements
                .iter()
                .filter(|(key, data)| !holds(found, key, data));
            self.add_elements(new.map(|(key, data)| at(*key, data.clone())));
        }
    }

    /// A chain that must be there. A name stands for its content: taking back a removal is no change.
    pub fn add_chain(&mut self, family: Family, name: Name, chain: Chain) {
        let place = (family, name);
        if !self.gone_chains.remove(&place) {
            self.chains.insert(place, chain);
        }
    }

    /// A set that must be there, with its elements.
    pub fn add_set(&mut self, family: Family, name: Name, mut set: Set) {
        let place = (family, name);
        if self.gone_sets.remove(&place) {
            return;
        }
        let elements = std::mem::take(&mut set.elements);
        if !elements.is_empty() {
            self.add.insert(place.clone(), elements);
        }
        self.sets.insert(place, set);
    }

    /// A chain that nothing names any more.
    pub fn remove_chain(&mut self, family: Family, name: Name) {
        let place = (family, name);
        if self.chains.remove(&place).is_none() {
            self.gone_chains.insert(place);
        }
    }

    /// A set that nothing asks any more.
    pub fn remove_set(&mut self, family: Family, name: Name) {
        let place = (family, name);
        if self.sets.remove(&place).is_none() {
            self.gone_sets.insert(place);
        } else {
            self.add.remove(&place);
        }
    }

    /// An element that must be there. Taking back a removal of the same is no change.
    pub fn add_element(&mut self, (family, set, key, data): Element) {
        change(&mut self.remove, &mut self.add, (family, set), key, data);
    }

    /// An element that must go. Taking back an addition of the same is no change.
    pub fn remove_element(&mut self, (family, set, key, data): Element) {
        change(&mut self.add, &mut self.remove, (family, set), key, data);
    }

    /// Several that must be there.
    pub fn add_elements(&mut self, elements: impl IntoIterator<Item = Element>) {
        for element in elements {
            self.add_element(element);
        }
    }

    /// What the kernel holds for a workload becomes something else. Only what differs, removals
    /// first: a workload may be placed twice in one step.
    pub fn replace(&mut self, before: &Placement, now: &Placement) {
        if self.unwanted {
            return;
        }
        let (before, now) = (before.elements(), now.elements());
        let gone = before.iter().filter(|element| !now.contains(element));
        self.remove_elements(gone.cloned());
        let new = now.iter().filter(|element| !before.contains(element));
        self.add_elements(new.cloned());
    }

    /// The kernel holds nothing more for a workload.
    pub fn displace(&mut self, placement: &Placement) {
        if !self.unwanted {
            self.remove_elements(placement.elements());
        }
    }

    /// Several that must go.
    pub fn remove_elements(&mut self, elements: impl IntoIterator<Item = Element>) {
        for element in elements {
            self.remove_element(element);
        }
    }

    /// Takes back what would go from tables without anything in its place, local ranges left out.
    fn spare(&mut self) {
        for (place, elements) in &mut self.remove {
            let added = self.add.get(place);
            let replaced = |key: &Key| added.is_some_and(|added| added.contains_key(key));
            if !RANGES.contains(&&*place.1) {
                elements.retain(|key, _| replaced(key));
            }
        }
        self.gone_chains.clear();
        self.gone_sets.clear();
    }

    /// Which flows of a source stay when its treatment changes or one of its drains ends.
    pub fn keep(&mut self, source: Source, keep: Keep) {
        self.keep.insert(source, keep);
    }

    /// What is outside nftables: additions before removals, so that nothing in use is missing.
    pub fn network(&mut self, observed: &Network, desired: &Network) {
        let network = &mut self.network;
        for (sysctl, value) in &desired.sysctls {
            if observed.sysctls.get(sysctl) != Some(value) {
                network.push(Op::SetSysctl(sysctl.clone(), value.clone()));
            }
        }
        let routes = desired.routes.difference(&observed.routes).cloned();
        network.extend(routes.map(Op::AddRoute));
        let rules = desired.rules.difference(&observed.rules).cloned();
        network.extend(rules.map(Op::AddRule));
        let neighbours = desired.neighbours.difference(&observed.neighbours);
        network.extend(neighbours.cloned().map(Op::AddNeighbour));
        let forwarded = desired.forwarded.difference(&observed.forwarded);
        network.extend(forwarded.cloned().map(Op::AddForwarded));
        for (own, held) in &desired.own {
            if observed.own.get(own) == Some(held) {
                continue;
            }
            network.push(Op::AddOwn(own.clone()));
            let answered = desired.neighbours.iter();
            let answered = answered.filter(|entry| entry.address == own.address);
            network.extend(answered.cloned().map(Op::Announce));
        }
        let forwarded = observed.forwarded.difference(&desired.forwarded);
        network.extend(forwarded.cloned().map(Op::DeleteForwarded));
        let neighbours = observed.neighbours.difference(&desired.neighbours);
        network.extend(neighbours.cloned().map(Op::DeleteNeighbour));
        let rules = observed.rules.difference(&desired.rules).cloned();
        network.extend(rules.map(Op::DeleteRule));
        let routes = observed.routes.difference(&desired.routes).cloned();
        network.extend(routes.map(Op::DeleteRoute));
        let gone = observed.sysctls.keys();
        let gone = gone.filter(|sysctl| !desired.sysctls.contains_key(*sysctl));
        network.extend(gone.cloned().map(Op::RestoreSysctl));
        let gone = observed.own.keys();
        let gone = gone.filter(|own| !desired.own.contains_key(*own));
        self.gone_own.extend(gone.cloned());
    }

    /// Steps, in order:
    /// 1. Addresses go that workloads have themselves no longer, while the rules still know them.
    /// 2. What translates sources that lose their translation goes, alone: the guard still holds
    ///    them, so from here on they can only be dropped.
    /// 3. Flows end whose source loses its binding or translation.
    /// 4. One transaction: tables, new chains and sets, elements that go, elements that come, chains
    ///    and sets that nothing names any more.
    /// 5. Flows end that were decided under the old state, but for those already translated right
    ///    and those that drain; those whose drain is over.
    /// 6. Sysctls, routes and the like.
    pub fn into_ops(mut self) -> Vec<Op> {
        let released = self.take_released();
        let before = self.forget_before(&released);
        let after = self.forget_after();
        let counted = self.count_anew();

        let mut ops: Vec<Op> = self.gone_own.into_iter().map(Op::DeleteOwn).collect();
        ops.extend(delete_elements(released));
        ops.extend(before.into_iter().map(|source| Op::ForgetFlows {
            source,
            translated: None,
            keep: Keep::default(),
        }));
        ops.append(&mut self.tables);
        let nft = |family, op| Op::Nft(family, op);
        for ((family, name), chain) in &self.chains {
            ops.push(nft(*family, NftOp::AddChain(name.clone(), chain.clone())));
        }
        ops.extend(
            self.sets
                .into_iter()
                .map(|((family, name), set)| nft(family, NftOp::AddSet(name, set))),
        );
        ops.extend(
            self.chains
                .into_iter()
                .map(|((family, name), chain)| nft(family, NftOp::AddRules(name, chain))),
        );
        ops.append(&mut delete_elements(counted));
        ops.append(&mut delete_elements(self.remove));
        for ((family, set), elements) in self
            .add
            .into_iter()
            .filter(|(_, elements)| !elements.is_empty())
        {
            ops.push(nft(
                family,
                NftOp::AddElements(set, elements.into_iter().collect()),
            ));
        }
        // Chains name sets in rules, and sets name chains in elements.
        for (family, name) in &self.gone_chains {
            ops.push(nft(*family, NftOp::FlushChain(name.clone())));
        }
        ops.extend(
            self.gone_sets
                .into_iter()
                .map(|(family, name)| nft(family, NftOp::DeleteSet(name))),
        );
        ops.extend(
            self.gone_chains
                .into_iter()
                .map(|(family, name)| nft(family, NftOp::DeleteChain(name))),
        );
        ops.extend(after);
        ops.append(&mut self.network);
        ops
    }

    /// What was counted for addresses that no workload has any more goes: another one may get them.
    fn count_anew(&self) -> BTreeMap<Place, Elements> {
        let mut gone: BTreeMap<Place, Elements> = BTreeMap::new();
        for ((family, set), elements) in &self.remove {
            let Some((_, counts)) = COUNTS.iter().find(|(of, _)| of == set) else {
                continue;
            };
            let added = self.add.get(&(*family, set.clone()));
            let keys = elements.keys();
            let left = keys.filter(|key| added.is_none_or(|added| !added.contains_key(*key)));
            let counts = gone.entry((*family, Name::Borrowed(counts))).or_default();
            counts.extend(left.map(|key| (*key, Data::None)));
        }
        gone
    }

    /// Step 2: translations that go without another in their place.
    fn take_released(&mut self) -> BTreeMap<Place, Elements> {
        let mut released = BTreeMap::new();
        for (place, elements) in self
            .remove
            .iter_mut()
            .filter(|((_, set), _)| translates(set))
        {
            let stays = |key: &Key| {
                let mut alike = TRANSLATIONS.iter().filter(|pair| pair.contains(&&*place.1));
                let mut sets = alike.by_ref().flatten();
                sets.any(|set| {
                    self.add
                        .get(&(place.0, Name::Borrowed(*set)))
                        .is_some_and(|add| add.contains_key(key))
                })
            };
            let (replaced, gone) = std::mem::take(elements)
                .into_iter()
                .partition(|(key, _)| stays(key));
            *elements = replaced;
            released.insert(place.clone(), gone);
        }
        released
    }

    /// Step 3: released sources, and those whose binding goes.
    fn forget_before(&self, released: &BTreeMap<Place, Elements>) -> BTreeSet<Source> {
        sources(released.iter())
            .map(|(source, _)| source)
            .chain(bound(&self.remove))
            .collect()
    }

    /// Step 5: sources that are newly bound, newly managed, get another treatment, or are let by
    /// from now on or no more; and of the others, flows with a former address whose drain is over.
    fn forget_after(&self) -> Vec<Op> {
        let mut kept = BTreeMap::new();
        for (source, data) in sources(in_sets(&self.add, &SNAT)) {
            if let Data::Value(to) = data {
                kept.extend(to.as_ip().map(|to| (source, Keep::address(to))));
            }
        }
        kept.extend(self.keep.clone());
        let keep = |source: &Source| kept.get(source).cloned().unwrap_or_default();
        let treated = in_sets(&self.add, &MANAGED)
            .chain(in_sets(&self.add, &TRANSLATE))
            .chain(in_sets(&self.add, &SNAT));
        let sources: BTreeSet<Source> = sources(treated)
            .map(|(source, _)| source)
            .chain(bound(&self.add))
            .chain(bypassed(&self.add))
            .chain(bypassed(&self.remove))
            .collect();
        let over = drained(&self.remove)
            .map(|(source, address)| (Source::Address(source), address))
            .filter(|(source, _)| !sources.contains(source))
            .map(|(source, address)| Op::ForgetFlows {
                source,
                translated: Some(address),
                keep: keep(&source),
            });
        let mut ops: Vec<Op> = sources
            .iter()
            .map(|source| Op::ForgetFlows {
                source: *source,
                translated: None,
                keep: keep(source),
            })
            .collect();
        ops.extend(over);
        ops
    }
}

/// The sets in which each workload is that any rule is about, by its own address or cgroup.
const WORKLOADS: [&str; 10] = [
    "known4", "known6", "managed4", "managed6", "plain4", "plain6", "own4", "own6", "cgroups4",
    "cgroups6",
];
/// In which set rules count for the addresses or cgroups of a set.
const COUNTS: [(&str, &str); 6] = [
    ("known4", "dropped4"),
    ("known6", "dropped6"),
    ("managed4", "dropped4"),
    ("managed6", "dropped6"),
    ("cgroup-managed4", "cgroup-dropped4"),
    ("cgroup-managed6", "cgroup-dropped6"),
];
/// Sets of ranges, which may not overlap.
const RANGES: [&str; 2] = ["local4", "local6"];
/// Whether a set has this element; how much time is left makes no difference.
fn holds(elements: &Elements, key: &Key, data: &Data) -> bool {
    elements.get(key).is_some_and(|found| found.is_like(data))
}

/// The drains among these elements: a workload's own address, a former egress address.
fn drained(changes: &BTreeMap<Place, Elements>) -> impl Iterator<Item = (IpAddr, IpAddr)> {
    in_sets(changes, &["drains4", "drains6"])
        .flat_map(|(_, elements)| elements)
        .filter_map(|(key, _)| key.drain_parts())
        .map(|(source, address, _)| (source, address))
}

/// The addresses among these elements of workloads that are let by.
fn bypassed(changes: &BTreeMap<Place, Elements>) -> impl Iterator<Item = Source> {
    sources(in_sets(changes, &["bypassed4", "bypassed6"])).map(|(source, _)| source)
}

const MANAGED: [&str; 4] = ["managed4", "managed6", "cgroup-managed4", "cgroup-managed6"];
const SNAT: [&str; 4] = ["snat4", "snat6", "cgroup-snat4", "cgroup-snat6"];
const TRANSLATE: [&str; 4] = [
    "translate4",
    "translate6",
    "cgroup-translate4",
    "cgroup-translate6",
];
/// The sets that translate one kind of source, of one family.
const TRANSLATIONS: [[&str; 2]; 4] = [
    [SNAT[0], TRANSLATE[0]],
    [SNAT[1], TRANSLATE[1]],
    [SNAT[2], TRANSLATE[2]],
    [SNAT[3], TRANSLATE[3]],
];

fn translates(set: &str) -> bool {
    TRANSLATIONS.as_flattened().contains(&set)
}

/// A set's place, and its elements among changes.
type InSet<'a> = (&'a Place, &'a Elements);

fn in_sets<'a>(
    changes: &'a BTreeMap<Place, Elements>,
    names: &'static [&'static str],
) -> impl Iterator<Item = InSet<'a>> {
    changes
        .iter()
        .filter(|((_, set), _)| names.contains(&&**set))
}

/// Whose flows the elements of these sets are about.
fn sources<'a>(sets: impl Iterator<Item = InSet<'a>>) -> impl Iterator<Item = (Source, &'a Data)> {
    sets.flat_map(|((_, set), elements)| {
        elements
            .iter()
            .filter_map(move |(key, data)| Some((source(set, key)?, data)))
    })
}

/// Whose flows an element is about, whose key is nothing else.
fn source(set: &str, key: &Key) -> Option<Source> {
    if set.starts_with("cgroup-") {
        let v6 = set.ends_with('6');
        let id = key.as_flow_cgroup()?;
        return Some(Source::Cgroup { id, v6 });
    }
    key.as_ip().map(Source::Address)
}

fn bound(changes: &BTreeMap<Place, Elements>) -> impl Iterator<Item = Source> {
    let elements = in_sets(changes, &["bound4", "bound6"]).flat_map(|(_, elements)| elements);
    elements.filter_map(|(key, _)| key.bound_ip().map(Source::Address))
}

/// Takes back the opposite change of the same element, or notes the change.
fn change(
    opposite: &mut BTreeMap<Place, Elements>,
    changes: &mut BTreeMap<Place, Elements>,
    place: Place,
    key: Key,
    data: Data,
) {
    if let Some(elements) = opposite.get_mut(&place)
        && elements.get(&key) == Some(&data)
    {
        elements.remove(&key);
        return;
    }
    changes.entry(place).or_default().insert(key, data);
}

fn delete_elements(removed: BTreeMap<Place, Elements>) -> Vec<Op> {
    let removed = removed
        .into_iter()
        .filter(|(_, elements)| !elements.is_empty());
    removed
        .map(|((family, set), elements)| {
            Op::Nft(
                family,
                NftOp::DeleteElements(set, elements.into_iter().collect()),
            )
        })
        .collect()
}
