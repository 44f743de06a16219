//! Names and addresses that workloads were told: for while the agent is away, and for policies that
//! come later.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Instant;

use sortie_api::workload::WorkloadId;

use crate::learn::Answered;
use crate::name::DnsName;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Names of one workload. The least recently told goes first.
    pub(crate) names: usize,
    /// Addresses of one name. The least recently told goes first.
    pub(crate) addresses: usize,
}

/// What one workload was told. TTLs do not matter here: clients such as Java's keep an answer for
/// ever, so an entry lasts as long as its workload, or until others need the room.
///
/// Memory: about 250 bytes for a name and 64 for each of its addresses. With [`Bounds::RECENT`] a
/// workload that asks for ever new names holds 100 kB; most ask for ten, which are 5 kB.
#[derive(Debug)]
pub(crate) struct History {
    bounds: Bounds,
    names: HashMap<DnsName, Entry>,
    /// Names by when they were told last.
    order: BTreeMap<u64, DnsName>,
    turn: u64,
}

/// What all workloads were told.
#[derive(Debug)]
pub(crate) struct Memory {
    bounds: Bounds,
    workloads: HashMap<WorkloadId, History>,
}

#[derive(Debug)]
struct Entry {
    turn: u64,
    /// Least recently told first.
    addresses: Vec<(IpAddr, Answered)>,
    seen: Instant,
}

/// A name that a workload was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// The name that was asked for.
    pub(crate) name: DnsName,
    /// Its addresses, and how they were told.
    pub(crate) addresses: Vec<(IpAddr, Answered)>,
    /// When it was asked for last.
    pub(crate) seen: Instant,
}

impl Bounds {
    /// For names that no policy names.
    pub(crate) const RECENT: Self = Self {
        names: 256,
        addresses: 32,
    };
    /// For names of policies.
    pub(crate) const LEARNED: Self = Self {
        names: 1024,
        addresses: 256,
    };
}

impl History {
    /// Nothing yet.
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            names: HashMap::new(),
            order: BTreeMap::new(),
            turn: 0,
        }
    }

    /// Remembers how addresses of a name were told. Returns what made room: names with an address
    /// that is not remembered of them any more.
    pub(crate) fn note(
        &mut self,
        name: &DnsName,
        told: &[(IpAddr, Answered)],
        now: Instant,
    ) -> Vec<(DnsName, IpAddr)> {
        if told.is_empty() {
            return Vec::new();
        }
        self.turn += 1;
        let entry = self.names.entry(name.clone()).or_insert_with(|| Entry {
            turn: 0,
            addresses: Vec::new(),
            seen: now,
        });
        self.order.remove(&entry.turn);
        self.order.insert(self.turn, name.clone());
        (entry.turn, entry.seen) = (self.turn, now);
        entry
            .addresses
            .retain(|(address, _)| told.iter().all(|(new, _)| new != address));
        entry.addresses.extend(told);
        let too_many = entry.addresses.len().saturating_sub(self.bounds.addresses);
        let forgotten = entry.addresses.drain(..too_many);
        let mut gone: Vec<_> = forgotten
            .map(|(address, _)| (name.clone(), address))
            .collect();
        while self.names.len() > self.bounds.names {
            let Some((_, oldest)) = self.order.pop_first() else {
                break;
            };
            let entry = self.names.remove(&oldest).into_iter();
            let addresses = entry.flat_map(|entry| entry.addresses);
            gone.extend(addresses.map(|(address, _)| (oldest.clone(), address)));
        }
        gone
    }

    /// How these addresses of a name were told before, in their order; none unless every one was.
    pub(crate) fn recall(&self, name: &DnsName, addresses: &[IpAddr]) -> Option<Vec<Answered>> {
        let entry = self.names.get(name)?;
        let told = addresses.iter().map(|wanted| {
            let mut known = entry.addresses.iter();
            known
                .find(|(address, _)| address == wanted)
                .map(|(_, told)| *told)
        });
        told.collect()
    }

    /// All of it, least recently told first.
    pub(crate) fn all(&self) -> Vec<Remembered> {
        let names = self.order.values();
        names
            .filter_map(|name| {
                let entry = self.names.get(name)?;
                Some(Remembered {
                    name: name.clone(),
                    addresses: entry.addresses.clone(),
                    seen: entry.seen,
                })
            })
            .collect()
    }

    /// A name is remembered elsewhere from now on, or nowhere.
    pub(crate) fn forget(&mut self, name: &DnsName) {
        if let Some(entry) = self.names.remove(name) {
            self.order.remove(&entry.turn);
        }
    }
}

impl Memory {
    /// Nothing yet.
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            workloads: HashMap::new(),
        }
    }

    /// What a workload was told; none before it is told anything.
    pub(crate) fn of(&self, workload: &WorkloadId) -> Option<&History> {
        self.workloads.get(workload)
    }

    /// What a workload was told, to be added to.
    pub(crate) fn of_mut(&mut self, workload: &WorkloadId) -> &mut History {
        let new = || History::new(self.bounds);
        self.workloads.entry(workload.clone()).or_insert_with(new)
    }

    /// A workload has ended.
    pub(crate) fn forget(&mut self, workload: &WorkloadId) {
        self.workloads.remove(workload);
    }
}
