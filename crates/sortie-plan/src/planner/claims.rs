//! Who claims an address. Of an engine's own the one that started last has it: the others have not
//! been told gone yet.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sortie_api::workload::WorkloadId;

/// When a workload started, and which it is.
type Claim = (i64, WorkloadId);

/// All claims, by family: an IPv4 address with room for an IPv6 one would be a third more memory,
/// and a host may have a hundred thousand.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims {
    /// Who has it: the greatest claim.
    v4: HashMap<Ipv4Addr, Claim>,
    v6: HashMap<Ipv6Addr, Claim>,
    /// The smaller claims, where there are any.
    others: HashMap<IpAddr, Vec<Claim>>,
}

impl Claims {
    /// Who has it.
    pub(super) fn holder(&self, address: IpAddr) -> Option<&WorkloadId> {
        Some(&self.greatest(address)?.1)
    }

    /// Who claimed it first.
    pub(super) fn first(&self, address: IpAddr) -> Option<&WorkloadId> {
        let others = self.others.get(&address).into_iter().flatten();
        let first = others.chain(self.greatest(address)).min()?;
        Some(&first.1)
    }

    /// Every address that anybody claims.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.v4.keys().copied().map(IpAddr::V4);
        v4.chain(self.v6.keys().copied().map(IpAddr::V6))
    }

    /// One claim more; yields who had it before.
    pub(super) fn add(&mut self, address: IpAddr, claim: Claim) -> Option<WorkloadId> {
        let former = match address {
            IpAddr::V4(address) => self.v4.insert(address, claim),
            IpAddr::V6(address) => self.v6.insert(address, claim),
        }?;
        let holder = former.1.clone();
        self.change(address, |claims| claims.push(former));
        Some(holder)
    }

    /// One claim less.
    pub(super) fn remove(&mut self, address: IpAddr, claim: &Claim) {
        self.change(address, |claims| claims.retain(|other| other != claim));
    }

    fn greatest(&self, address: IpAddr) -> Option<&Claim> {
        match address {
            IpAddr::V4(address) => self.v4.get(&address),
            IpAddr::V6(address) => self.v6.get(&address),
        }
    }

    fn change(&mut self, address: IpAddr, change: impl FnOnce(&mut Vec<Claim>)) {
        let mut claims = self.others.remove(&address).unwrap_or_default();
        claims.extend(match address {
            IpAddr::V4(address) => self.v4.remove(&address),
            IpAddr::V6(address) => self.v6.remove(&address),
        });
        change(&mut claims);
        claims.sort_unstable();
        claims.dedup();
        if let Some(holder) = claims.pop() {
            match address {
                IpAddr::V4(address) => self.v4.insert(address, holder),
                IpAddr::V6(address) => self.v6.insert(address, holder),
            };
        }
        if !claims.is_empty() {
            self.others.insert(address, claims);
        }
    }
}
