//! Who claims an address: of several, the one that started last has it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sortie_api::workload::WorkloadId;

/// When a workload started, and which it is.
type Claim = (i64, WorkloadId);

/// All claims.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims(BTreeMap<IpAddr, Claimed>);

/// One address.
#[derive(Debug, Clone)]
struct Claimed {
    /// Who has it: the last to start.
    holder: Claim,
    /// The others. Nearly every address has none: an empty list costs no memory of its own.
    others: Vec<Claim>,
}

impl Claims {
    /// Who has it.
    pub(super) fn holder(&self, address: IpAddr) -> Option<&WorkloadId> {
        Some(&self.0.get(&address)?.holder.1)
    }

    /// One claim more.
    pub(super) fn add(&mut self, address: IpAddr, claim: Claim) {
        let Some(claimed) = self.0.get_mut(&address) else {
            let others = Vec::new();
            let holder = claim;
            self.0.insert(address, Claimed { holder, others });
            return;
        };
        if claim == claimed.holder || claimed.others.contains(&claim) {
            return;
        }
        claimed.others.push(claim);
        claimed.elect();
    }

    /// One claim less.
    pub(super) fn remove(&mut self, address: IpAddr, claim: &Claim) {
        let Some(claimed) = self.0.get_mut(&address) else {
            return;
        };
        if claimed.holder != *claim {
            claimed.others.retain(|other| other != claim);
        } else if let Some(other) = claimed.others.pop() {
            claimed.holder = other;
            claimed.elect();
        } else {
            self.0.remove(&address);
        }
    }
}

impl Claimed {
    fn elect(&mut self) {
        for other in &mut self.others {
            if *other > self.holder {
                std::mem::swap(other, &mut self.holder);
            }
        }
    }
}
