//! Who claims an address. Of an engine's own the one that started last has it: the others have not
//! been told gone yet.

use std::collections::HashMap;
use std::net::IpAddr;

use sortie_api::workload::WorkloadId;

/// When a workload started, and which it is.
type Claim = (i64, WorkloadId);

/// All claims.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims(HashMap<IpAddr, Claimed>);

/// One address.
#[derive(Debug, Clone)]
struct Claimed {
    /// Who has it: the greatest claim.
    holder: Claim,
    /// The others. Nearly every address has none, and then this costs no memory of its own.
    others: Box<[Claim]>,
}

impl Claims {
    /// Who has it.
    pub(super) fn holder(&self, address: IpAddr) -> Option<&WorkloadId> {
        Some(&self.0.get(&address)?.holder.1)
    }

    /// Who claimed it first.
    pub(super) fn first(&self, address: IpAddr) -> Option<&WorkloadId> {
        let Claimed { holder, others } = self.0.get(&address)?;
        let first = others.iter().fold(holder, |first, other| first.min(other));
        Some(&first.1)
    }

    /// Every address that anybody claims.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.0.keys().copied()
    }

    /// One claim more.
    pub(super) fn add(&mut self, address: IpAddr, claim: Claim) {
        self.change(address, |claims| claims.push(claim));
    }

    /// One claim less.
    pub(super) fn remove(&mut self, address: IpAddr, claim: &Claim) {
        self.change(address, |claims| claims.retain(|other| other != claim));
    }

    fn change(&mut self, address: IpAddr, change: impl FnOnce(&mut Vec<Claim>)) {
        let mut claims = match self.0.remove(&address) {
            Some(Claimed { holder, others }) => [others.into_vec(), vec![holder]].concat(),
            None => Vec::with_capacity(1),
        };
        change(&mut claims);
        claims.sort_unstable();
        claims.dedup();
        if let Some(holder) = claims.pop() {
            let others = claims.into();
            self.0.insert(address, Claimed { holder, others });
        }
    }
}
