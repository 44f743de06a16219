//! Who claims an address: of several, the one that started last has it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sortie_api::workload::WorkloadId;

/// When a workload started, and which it is.
type Claim = (i64, WorkloadId);

/// All claims. Nearly every address has exactly one: a list costs a sixth of a tree's memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims(BTreeMap<IpAddr, Vec<Claim>>);

impl Claims {
    /// Who has it.
    pub(super) fn holder(&self, address: IpAddr) -> Option<&WorkloadId> {
        self.0.get(&address)?.last().map(|(_, id)| id)
    }

    /// One claim more.
    pub(super) fn add(&mut self, address: IpAddr, claim: Claim) {
        let new = || Vec::with_capacity(1);
        let claims = self.0.entry(address).or_insert_with(new);
        if let Err(place) = claims.binary_search(&claim) {
            claims.insert(place, claim);
        }
    }

    /// One claim less.
    pub(super) fn remove(&mut self, address: IpAddr, claim: &Claim) {
        let Some(claims) = self.0.get_mut(&address) else {
            return;
        };
        claims.retain(|other| other != claim);
        if claims.is_empty() {
            self.0.remove(&address);
        }
    }
}
