//! What one ordered list of candidates means for the packets of one family.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sortie_api::workload::IfIndex;

use super::policy_set::PolicySet;
use crate::mark::Mark;
use crate::precedence::Candidate;
use crate::ranges::disjoint;
use crate::resolve::{Addresses, Exit, Refusal, exit};

/// What becomes of one family's packets of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Treatment {
    /// No policy changes anything: as without Sortie.
    #[default]
    Unmanaged,
    /// Nothing leaves.
    Blocked(Refusal),
    /// Everything that is not local leaves with one address.
    Translate {
        /// The egress address.
        address: IpAddr,
        /// Its uplink; none while there is no way out for it.
        uplink: Option<IfIndex>,
        /// What leads to that uplink, where the host's routes do not.
        mark: Option<Mark>,
    },
    /// The workload has the address on its own interface.
    Direct {
        /// Its uplink; none while there is no way out for it.
        uplink: Option<IfIndex>,
    },
    /// The workload has the address itself, beside those of its engine's bridge, which are
    /// translated to it.
    Own {
        /// The egress address.
        address: IpAddr,
        /// Its uplink; none while there is no way out for it.
        uplink: Option<IfIndex>,
        /// What leads to that uplink, where the host's routes do not.
        mark: Option<Mark>,
    },
    /// It depends on the destination.
    Set(Arc<PolicySet>),
}

impl Treatment {
    /// Whether the workload's packets are restricted at all.
    pub fn is_managed(&self) -> bool {
        *self != Self::Unmanaged
    }

    /// Whether both give the same addresses, by whatever uplink.
    pub fn gives_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Translate { address, .. }, Self::Translate { address: other, .. }) => {
                address == other
            }
            (Self::Set(set), Self::Set(other)) => set.answers_the_same(other),
            _ => self == other,
        }
    }

    /// Every address that packets may leave with by this treatment; empty where that is open.
    pub fn egress_addresses(&self) -> BTreeSet<IpAddr> {
        match self {
            Self::Unmanaged | Self::Blocked(_) | Self::Direct { .. } => BTreeSet::new(),
            Self::Translate { address, .. } | Self::Own { address, .. } => {
                BTreeSet::from([*address])
            }
            Self::Set(set) => set.egress_addresses(),
        }
    }
}

/// A treatment, and how long old flows may go on with what another one gave them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Treated {
    /// What becomes of new flows.
    pub treatment: Treatment,
    /// None where they end at once. Of several policies that decide, the shortest time: no flow
    /// may outlive what its own policy says.
    pub drain: Option<Duration>,
}

/// Steps, in order:
/// 1. Candidates that cover each address are found; where none covers any, nothing is managed.
/// 2. One answer for every address and port needs no set.
/// 3. Everything else is a policy set.
pub fn treatment(candidates: &[Candidate<'_>], v6: bool, addresses: &impl Addresses) -> Treated {
    // A candidate without prefix and ports, asked first, answers for all: the common case.
    if let Some(first) = candidates.first().filter(|first| first.covers_all()) {
        return Treated {
            treatment: whole(exit(first.policy, v6, addresses), addresses),
            drain: first.policy.on_change.drain(),
        };
    }
    let ranges = disjoint(candidates, v6);
    let deciding = ranges.iter().flat_map(|range| &range.candidates);
    let drain = deciding
        .filter_map(|index| candidates[*index].policy.on_change.drain())
        .min();
    let set = PolicySet::new(candidates, &ranges, v6, addresses);
    let treatment = match set.only_exit() {
        Some(exit) => whole(exit, addresses),
        None if ranges.is_empty() => Treatment::Unmanaged,
        None => Treatment::Set(Arc::new(set)),
    };
    Treated { treatment, drain }
}

fn whole(exit: Exit, addresses: &impl Addresses) -> Treatment {
    match exit {
        Exit::Bypass | Exit::NodeAddress => Treatment::Unmanaged,
        Exit::Drop(refusal) => Treatment::Blocked(refusal),
        Exit::Egress(address) => Treatment::Translate {
            address,
            uplink: addresses.uplink(address),
            mark: addresses.mark(address),
        },
    }
}
