//! What the policies that only audit would change, if all of them decided.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sortie_api::policy::{EgressPolicy, PolicyName};
use sortie_api::workload::WorkloadKind;

use super::{Planner, Tracked};
use crate::precedence::{Candidate, Target};
use crate::resolve::{Addresses, Decision, Exit, exit, resolve};

/// What a policy that only audits would do with a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    /// The policy.
    pub policy: PolicyName,
    /// What would become of the packet.
    pub would: Would,
}

/// What would become of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Would {
    /// It would leave with this source.
    Leave(IpAddr),
    /// It would leave as without Sortie.
    AsWithoutSortie,
    /// It would be dropped: nothing may leave, or not of this family.
    Drop,
    /// It would be dropped, for this address cannot be used now.
    Unusable(IpAddr),
}

impl fmt::Display for Would {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leave(address) => write!(f, "leave with {address}"),
            Self::AsWithoutSortie => f.write_str("leave as without Sortie"),
            Self::Drop => f.write_str("be dropped"),
            Self::Unusable(address) => write!(f, "be dropped: {address} cannot be used now"),
        }
    }
}

/// What becomes of the packet as things are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Now {
    /// It leaves with the source that a policy gives.
    With(IpAddr),
    /// It leaves as without Sortie: with this source, where it was seen.
    AsWithoutSortie(Option<IpAddr>),
    /// It is dropped.
    Dropped,
}

/// What a policy that only audits would change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Nothing.
    Same,
    /// The source.
    OtherSource,
    /// It leaves, and would be dropped.
    Dropped,
    /// It is dropped, and would leave.
    Passed,
}

impl Outcome {
    /// What differs between the two.
    pub fn of(would: Would, now: Now) -> Self {
        match (would, now) {
            (Would::Drop | Would::Unusable(_), Now::Dropped)
            | (Would::AsWithoutSortie, Now::AsWithoutSortie(_)) => Self::Same,
            (Would::Drop | Would::Unusable(_), _) => Self::Dropped,
            (_, Now::Dropped) => Self::Passed,
            (Would::Leave(address), Now::With(source) | Now::AsWithoutSortie(Some(source)))
                if address == source =>
            {
                Self::Same
            }
            _ => Self::OtherSource,
        }
    }
}

impl Planner {
    /// The policies that only audit, and select this workload.
    pub fn auditing(&self, tracked: &Tracked) -> impl Iterator<Item = &EgressPolicy> {
        let may = tracked.workload.kind != WorkloadKind::Process
            && tracked.workload.unmanageable.is_none();
        let audits = self.audits.values().filter(move |_| may);
        audits.map(AsRef::as_ref).filter(|policy| {
            let mut selectors = policy.workloads.iter();
            selectors.any(|selector| selector.matches(&tracked.workload, &self.networks))
        })
    }

    /// Who would decide, if every policy were enforced; none where that is a policy which is
    /// enforced anyway, or none at all.
    pub fn audited(&self, tracked: &Tracked, target: Target<'_>) -> Option<Audited> {
        let target = self.known(&tracked.workload.id, target);
        let mut auditing = self.auditing(tracked).peekable();
        auditing.peek()?;
        if self.stays_inside(target.ip).is_some() {
            return None;
        }
        let enforced = tracked.policies.iter().map(AsRef::as_ref);
        let candidates = Candidate::ordered(enforced.chain(auditing));
        let local = self.environment.local_ranges();
        let Decision::Decided { policy, .. } = resolve(&candidates, target, &local, self) else {
            return None;
        };
        let decides = self.audits.get(&policy)?;
        let would = self.would(decides, target.ip.is_ipv6());
        Some(Audited { policy, would })
    }

    /// What a policy would do with packets of a family, if it decided.
    pub(crate) fn would(&self, policy: &EgressPolicy, v6: bool) -> Would {
        match exit(policy, v6, self) {
            Exit::Egress(address) if self.usable(address) => Would::Leave(address),
            Exit::Egress(address) => Would::Unusable(address),
            Exit::Bypass | Exit::NodeAddress => Would::AsWithoutSortie,
            Exit::Drop(_) => Would::Drop,
        }
    }
}

#[cfg(test)]
mod tests;
