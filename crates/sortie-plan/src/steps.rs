//! The steps of one change, gathered: what is taken back before it is done is no step.

mod order;
mod sets;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::compile::workload::{Element, Placement};
use crate::nft::key::Key;
use crate::nft::set::{Data, Set};
use crate::nft::{Chain, Elements, Family, Name, Table};
use crate::op::{NftOp, Op};
use crate::redirect::Redirect;
use crate::state::{Network, ObservedTable, OwnAddress};
use sets::RANGES;

/// Where elements are: a family's set.
pub(crate) type Place = (Family, Name);

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
    network: Vec<Op>,
    /// What leads lookups and connections to resolver and gateway in the namespaces of processes; none
    /// where nothing does any more.
    redirects: BTreeMap<u32, Option<Redirect>>,
    /// Addresses that workloads have themselves no longer.
    gone_own: Vec<OwnAddress>,
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
    pub(crate) fn spare(&mut self) {
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

    /// What leads to resolver and gateway in the namespace of a process; none takes it back.
    pub fn redirect(&mut self, pid: u32, redirect: Option<Redirect>) {
        // The number may have been another process's: what is said last holds.
        self.redirects.insert(pid, redirect);
    }

    /// Addresses that a namespace leads to the gateway no longer, and such that it does again.
    pub fn direct(&mut self, pid: u32, come: Vec<IpAddr>, gone: Vec<IpAddr>) {
        self.network.push(Op::ChangeDirect { pid, come, gone });
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
        for (pid, redirect) in &desired.redirects {
            if observed.redirects.get(pid) != Some(redirect) {
                self.redirects.insert(*pid, Some(redirect.clone()));
            }
        }
        let gone = observed.redirects.keys();
        let gone = gone.filter(|pid| !desired.redirects.contains_key(pid));
        self.redirects.extend(gone.map(|pid| (*pid, None)));
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
}

/// Whether a set has this element; how much time is left makes no difference.
fn holds(elements: &Elements, key: &Key, data: &Data) -> bool {
    elements.get(key).is_some_and(|found| found.is_like(data))
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
