//! From what is there to what must be there: which steps, in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::nft::key::Key;
use crate::nft::set::Data;
use crate::nft::{Elements, Family, Name, Table};
use crate::op::{NftOp, Op};
use crate::state::{HostState, Network, Observed, ObservedTable};

/// Steps under construction; [`Steps::into_ops`] puts them in an order in which no packet leaks:
/// what others might still use goes last, what drops comes before what steers and allows.
#[derive(Debug, Default)]
pub struct Steps {
    /// Elements that translate flows of sources that are not managed any more. They go first and
    /// alone: while the guard still stands, what is not translated is dropped.
    pub release: Vec<(Family, Name, Key, Data)>,
    /// Sources whose flows end before the kernel's view of them changes.
    pub forget_before: BTreeSet<IpAddr>,
    /// Sources whose flows end after it, but for those with this translation.
    pub forget_after: BTreeMap<IpAddr, Option<IpAddr>>,
    tables: Vec<Op>,
    create: Vec<Op>,
    remove: BTreeMap<(Family, Name), Vec<(Key, Data)>>,
    add: BTreeMap<(Family, Name), Vec<(Key, Data)>>,
    destroy: Vec<Op>,
    network: Vec<Op>,
}

/// All steps from what was observed to what is wanted.
pub fn diff(observed: &Observed, desired: &HostState) -> Vec<Op> {
    let mut steps = Steps::default();
    steps.tables(&observed.tables, &desired.tables);
    steps.forget_rebound();
    steps.network(&observed.network, &desired.network);
    steps.into_ops()
}

impl Steps {
    /// From the observed tables to the wanted ones.
    pub fn tables(&mut self, observed: &BTreeMap<Family, ObservedTable>, desired: &BTreeMap<Family, Table>) {
        for family in observed.keys().filter(|family| !desired.contains_key(family)) {
            self.tables.push(Op::Nft(*family, NftOp::DeleteTable));
        }
        for (family, table) in desired {
            match observed.get(family) {
                Some(found) if found.tag == table.tag => self.table(*family, found, table),
                found => {
                    if found.is_some() {
                        self.tables.push(Op::Nft(*family, NftOp::DeleteTable));
                    }
                    self.tables.push(Op::Nft(*family, NftOp::AddTable(table.tag.clone())));
                    let counters = table.counters.iter().cloned().map(NftOp::AddCounter);
                    self.tables.extend(counters.map(|op| Op::Nft(*family, op)));
                    self.table(*family, &ObservedTable::default(), table);
                }
            }
        }
    }

    /// One table whose tag is right: sets, chains and elements by name.
    fn table(&mut self, family: Family, observed: &ObservedTable, desired: &Table) {
        let mut create = |op| self.create.push(Op::Nft(family, op));
        let new_chains: Vec<_> = desired.chains.iter().filter(|(name, _)| !observed.chains.contains(*name)).collect();
        for (name, chain) in &new_chains {
            create(NftOp::AddChain((*name).clone(), (*chain).clone()));
        }
        for (name, set) in desired.sets.iter().filter(|(name, _)| !observed.sets.contains_key(*name)) {
            let mut empty = set.clone();
            empty.elements.clear();
            create(NftOp::AddSet(name.clone(), empty));
        }
        for (name, chain) in new_chains {
            create(NftOp::AddRules(name.clone(), chain.clone()));
        }
        let empty = Elements::new();
        for (name, set) in &desired.sets {
            let found = observed.sets.get(name).unwrap_or(&empty);
            for (key, data) in found.iter().filter(|(key, data)| set.elements.get(*key) != Some(*data)) {
                self.remove_element((family, name.clone(), *key, data.clone()));
            }
            for (key, data) in set.elements.iter().filter(|(key, data)| found.get(*key) != Some(*data)) {
                self.add_element((family, name.clone(), *key, data.clone()));
            }
        }
        // A chain goes before the sets that it asks, and after the elements that name it.
        let mut destroy = |op| self.destroy.push(Op::Nft(family, op));
        for name in observed.chains.iter().filter(|name| !desired.chains.contains_key(*name)) {
            destroy(NftOp::DeleteChain(name.clone()));
        }
        for name in observed.sets.keys().filter(|name| !desired.sets.contains_key(*name)) {
            destroy(NftOp::DeleteSet(name.clone()));
        }
    }

    /// An element that must be there.
    pub fn add_element(&mut self, (family, set, key, data): (Family, Name, Key, Data)) {
        self.add.entry((family, set)).or_default().push((key, data));
    }

    /// An element that must go.
    pub fn remove_element(&mut self, (family, set, key, data): (Family, Name, Key, Data)) {
        self.remove.entry((family, set)).or_default().push((key, data));
    }

    /// A source whose binding goes or comes has flows that were decided under another one.
    fn forget_rebound(&mut self) {
        let rebound = |changes: &BTreeMap<(Family, Name), Vec<(Key, Data)>>| -> BTreeSet<IpAddr> {
            let managed = changes.iter().filter(|((_, set), _)| matches!(&**set, "managed4" | "managed6"));
            managed.flat_map(|(_, elements)| elements.iter().filter_map(|(key, _)| key.as_ip())).collect()
        };
        let bound = |changes: &BTreeMap<(Family, Name), Vec<(Key, Data)>>| -> BTreeSet<IpAddr> {
            let bound = changes.iter().filter(|((_, set), _)| matches!(&**set, "bound4" | "bound6"));
            bound.flat_map(|(_, elements)| elements.iter().filter_map(|(key, _)| key.bound_ip())).collect()
        };
        self.forget_before = rebound(&self.remove).union(&bound(&self.remove)).copied().collect();
        let translations = self.add.iter().filter(|((_, set), _)| matches!(&**set, "snat4" | "snat6"));
        let kept: BTreeMap<IpAddr, IpAddr> = translations
            .flat_map(|(_, elements)| elements)
            .filter_map(|(key, data)| match data {
                Data::Value(value) => Some((key.as_ip()?, value.as_ip()?)),
                _ => None,
            })
            .collect();
        let changed = rebound(&self.add).into_iter().chain(bound(&self.add)).chain(kept.keys().copied());
        self.forget_after = changed.map(|source| (source, kept.get(&source).copied())).collect();
    }

    /// What is outside nftables: additions before removals, so that nothing in use is missing.
    pub fn network(&mut self, observed: &Network, desired: &Network) {
        let network = &mut self.network;
        for (sysctl, value) in &desired.sysctls {
            if observed.sysctls.get(sysctl) != Some(value) {
                network.push(Op::SetSysctl(sysctl.clone(), value.clone()));
            }
        }
        network.extend(desired.routes.difference(&observed.routes).cloned().map(Op::AddRoute));
        network.extend(desired.rules.difference(&observed.rules).cloned().map(Op::AddRule));
        network.extend(desired.neighbours.difference(&observed.neighbours).cloned().map(Op::AddNeighbour));
        network.extend(desired.forwarded.difference(&observed.forwarded).cloned().map(Op::AddForwarded));
        network.extend(observed.forwarded.difference(&desired.forwarded).cloned().map(Op::DeleteForwarded));
        network.extend(observed.neighbours.difference(&desired.neighbours).cloned().map(Op::DeleteNeighbour));
        network.extend(observed.rules.difference(&desired.rules).cloned().map(Op::DeleteRule));
        network.extend(observed.routes.difference(&desired.routes).cloned().map(Op::DeleteRoute));
        let gone = observed.sysctls.keys().filter(|sysctl| !desired.sysctls.contains_key(*sysctl));
        network.extend(gone.cloned().map(Op::RestoreSysctl));
    }

    /// Steps, in order:
    /// 1. What translates released sources goes, alone; the guard still holds them.
    /// 2. Flows that must not meet the new state end.
    /// 3. One transaction: tables, new sets and chains, elements that go, elements that come, sets
    ///    and chains that nothing names any more.
    /// 4. Flows that were decided under the old state end.
    /// 5. Sysctls, routes and the like.
    pub fn into_ops(self) -> Vec<Op> {
        let mut ops: Vec<Op> = grouped(self.release).map(|(at, elements)| delete_elements(at, elements)).collect();
        let forget = |(source, keep)| Op::ForgetFlows { source, keep };
        ops.extend(self.forget_before.iter().map(|source| forget((*source, None))));
        ops.extend(self.tables);
        ops.extend(self.create);
        ops.extend(self.remove.into_iter().map(|(at, elements)| delete_elements(at, elements)));
        let add = self.add.into_iter();
        ops.extend(add.map(|((family, set), elements)| Op::Nft(family, NftOp::AddElements(set, elements))));
        ops.extend(self.destroy);
        ops.extend(self.forget_after.into_iter().map(forget));
        ops.extend(self.network);
        ops
    }
}

fn delete_elements((family, set): (Family, Name), elements: Vec<(Key, Data)>) -> Op {
    Op::Nft(family, NftOp::DeleteElements(set, elements))
}

fn grouped(
    elements: Vec<(Family, Name, Key, Data)>,
) -> impl Iterator<Item = ((Family, Name), Vec<(Key, Data)>)> {
    let mut groups: BTreeMap<(Family, Name), Vec<(Key, Data)>> = BTreeMap::new();
    for (family, set, key, data) in elements {
        groups.entry((family, set)).or_default().push((key, data));
    }
    groups.into_iter()
}
