//! Which address means which decision, for one workload: names that share an address share its fate,
//! or get one that stands for it.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use crate::learn::Answered;
use crate::memory::{Bounds, History, Remembered};
use crate::name::DnsName;
use crate::synthetic::Synthetic;

/// What must change in the kernel, for one workload. In this order it can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<D> {
    /// Packets to this address are decided so.
    Put {
        /// What the client calls.
        address: IpAddr,
        /// Whom that leads to, where it is somebody else.
        real: Option<IpAddr>,
        /// What policies say.
        decision: D,
    },
    /// Nobody was told this address any more: packets to it are decided as those to any that no
    /// lookup gave.
    TakeOut(IpAddr),
}

/// What one workload was told, with the decision of each address. The writer keeps one for each
/// workload.
///
/// Memory: that of a [`History`] and a [`Synthetic`], and about 200 bytes for each address.
#[derive(Debug)]
pub struct Ledger<D> {
    history: History,
    claims: HashMap<IpAddr, Claim<D>>,
    synthetic: Synthetic,
}

/// Who was told a real address.
#[derive(Debug)]
struct Claim<D> {
    names: BTreeSet<DnsName>,
    decision: D,
}

impl<D: Clone + PartialEq> Ledger<D> {
    /// An empty one; `prefix` and `synthetic` are those of [`Synthetic::new`].
    pub fn new(bounds: Bounds, prefix: Ipv6Addr, synthetic: usize) -> Self {
        Self {
            history: History::new(bounds),
            claims: HashMap::new(),
            synthetic: Synthetic::new(prefix, synthetic),
        }
    }

    /// Decides how each of a name's addresses is told. For each, in this order:
    ///
    /// 1. Nobody else was told it, or others whose decision is the same: as it is.
    /// 2. Others were told it, and their decision is another one: an address that stands for it.
    ///    What was told before stays as it was decided.
    ///
    /// Then names and addresses that made room are taken out, those only that nobody else was told.
    /// Whoever does the steps does all of them before the client is answered.
    pub fn learn(
        &mut self,
        name: &DnsName,
        addresses: &[IpAddr],
        decision: &D,
        now: Instant,
    ) -> (Vec<Answered>, Vec<Step<D>>) {
        let mut steps = Vec::new();
        let told: Vec<Answered> = addresses
            .iter()
            .map(|address| self.one(name, *address, decision, &mut steps))
            .collect();
        let pairs: Vec<_> = addresses
            .iter()
            .copied()
            .zip(told.iter().copied())
            .collect();
        for (name, address) in self.history.note(name, &pairs, now) {
            steps.extend(self.drop_claim(&name, address).map(Step::TakeOut));
        }
        (told, steps)
    }

    /// All that the workload was told, least recently told first: to be decided again when policies
    /// change.
    pub fn all(&self) -> Vec<Remembered> {
        self.history.all()
    }

    fn one(
        &mut self,
        name: &DnsName,
        address: IpAddr,
        decision: &D,
        steps: &mut Vec<Step<D>>,
    ) -> Answered {
        let put = |address, real| Step::Put {
            address,
            real,
            decision: decision.clone(),
        };
        let claim = self.claims.entry(address).or_insert_with(|| Claim {
            names: BTreeSet::new(),
            decision: decision.clone(),
        });
        let alone = claim.names.iter().all(|other| other == name);
        if alone || claim.decision == *decision {
            if claim.names.is_empty() || claim.decision != *decision {
                steps.push(put(address, None));
            }
            claim.decision = decision.clone();
            claim.names.insert(name.clone());
            return Answered::Kept;
        }
        let given = self.synthetic.give(name, address);
        steps.push(put(given.address, Some(address)));
        steps.extend(given.given_up.map(Step::TakeOut));
        Answered::Replaced(given.address)
    }

    /// The address, when its last name has gone.
    fn drop_claim(&mut self, name: &DnsName, address: IpAddr) -> Option<IpAddr> {
        let claim = self.claims.get_mut(&address)?;
        let last = claim.names.remove(name) && claim.names.is_empty();
        last.then(|| self.claims.remove(&address)).flatten()?;
        Some(address)
    }
}
