//! What workloads were told of names, by address: for connections in which nobody says a name, and
//! for addresses that stand in for others.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sortie_api::workload::WorkloadId;

use crate::api;

/// Addresses of one workload, as many as the agent keeps. One more takes the place of another.
const ADDRESSES: usize = 4_096;

/// By workload and the address that it was told.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<HashMap<WorkloadId, BTreeMap<IpAddr, Meant>>>);

/// What an address that was told means.
type Meant = (Arc<str>, IpAddr);

impl Told {
    pub(super) fn note(&self, workload: &WorkloadId, name: &str, told: &[api::Told]) {
        let name: Arc<str> = name.into();
        let mut all = self.lock();
        let known = all.entry(workload.clone()).or_default();
        for (address, real) in told
            .iter()
            .filter_map(|it| Some((it.answered?, it.address)))
        {
            if known.len() >= ADDRESSES && !known.contains_key(&address) {
                known.pop_first();
            }
            // An engine's own resolver asks ours in its turn, and takes a stand-in for the address.
            let real = known.get(&real).map_or(real, |(_, meant)| *meant);
            known.insert(address, (Arc::clone(&name), real));
        }
    }

    /// The name that was looked up last of those that led to an address, and the address that it
    /// stands for, often itself. All names of one address are decided alike.
    pub(super) fn named(&self, workload: &WorkloadId, address: IpAddr) -> Option<Meant> {
        self.lock().get(workload)?.get(&address).cloned()
    }

    pub(super) fn forget(&self, workload: &WorkloadId) {
        self.lock().remove(workload);
    }

    // What a panic left is whole: each holder does one thing.
    fn lock(&self) -> MutexGuard<'_, HashMap<WorkloadId, BTreeMap<IpAddr, Meant>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
