//! What the policies that only audit would change, if all of them decided.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sortie_api::policy::{EgressPolicy, PolicyName, Protocol};
use sortie_api::workload::WorkloadKind;

use super::facts::egress_addresses;
use super::{Planner, Tracked};
use crate::precedence::{Candidate, Scope, Target};
use crate::resolve::{Addresses, Decision, Exit, Refusal, resolve};

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
    /// The resolver or the gateway would refuse it, for this reason.
    Refused(&'static str),
    /// It would be led to the gateway, where its requests decide. Nobody sees them now.
    ByRequest,
}

impl fmt::Display for Would {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leave(address) => write!(f, "leave with {address}"),
            Self::AsWithoutSortie => f.write_str("leave as without Sortie"),
            Self::Drop => f.write_str("be dropped"),
            Self::Unusable(address) => write!(f, "be dropped: {address} cannot be used now"),
            Self::Refused(reason) => write!(f, "be refused: {reason}"),
            Self::ByRequest => f.write_str("be led to the gateway, where its requests decide"),
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
    /// Nobody knows: what would decide is not seen.
    Unseen,
}

impl Outcome {
    /// Its word for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::OtherSource => "other-source",
            Self::Dropped => "dropped",
            Self::Passed => "passed",
            Self::Unseen => "unseen",
        }
    }

    /// What differs between the two.
    pub fn of(would: Would, now: Now) -> Self {
        match (would, now) {
            (Would::ByRequest, _) => Self::Unseen,
            (Would::Drop | Would::Unusable(_) | Would::Refused(_), Now::Dropped)
            | (Would::AsWithoutSortie, Now::AsWithoutSortie(_)) => Self::Same,
            (Would::Drop | Would::Unusable(_) | Would::Refused(_), _) => Self::Dropped,
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
    pub fn auditing(&self, tracked: &Tracked) -> impl Iterator<Item = &Arc<EgressPolicy>> {
        let workload = &tracked.workload;
        let may = workload.kind != WorkloadKind::Process && workload.unmanageable.is_none();
        let client = self.client_of(workload);
        let audits = self.audits.values().filter(move |_| may);
        audits.filter(move |policy| {
            if let Some(client) = &client {
                return client.is_meant_by(policy);
            }
            let mut selectors = policy.workloads.iter();
            selectors.any(|selector| selector.matches(workload, &self.networks))
        })
    }

    /// Every egress address that a policy which only audits names.
    pub fn audited_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let policies = self.audits.values();
        policies.flat_map(|policy| egress_addresses(policy))
    }

    /// Who would decide, if every policy were enforced; none where that is a policy which is
    /// enforced anyway, or none at all.
    ///
    /// Of a connection whose requests a policy looks at the requests would decide, and before they
    /// are seen nobody knows how.
    pub fn audited(&self, tracked: &Tracked, target: Target<'_>) -> Option<Audited> {
        let target = self.known(&tracked.workload.id, target);
        let mut auditing = self.auditing(tracked).map(AsRef::as_ref).peekable();
        auditing.peek()?;
        if self.stays_inside(target.ip).is_some() {
            return None;
        }
        let enforced = tracked.policies.iter().map(AsRef::as_ref);
        let candidates = Candidate::ordered(enforced.chain(auditing));
        let local = self.environment.local_ranges();
        let decision = resolve(&candidates, target, &local, self);
        if matches!(decision, Decision::Local(_)) {
            return None;
        }
        if let Some(policy) = by_request(&candidates, target) {
            return Some(Audited {
                policy: policy.name.clone(),
                would: Would::ByRequest,
            });
        }
        let Decision::Decided { policy, exit } = decision else {
            return None;
        };
        let would = self
            .audits
            .contains_key(&policy)
            .then(|| self.would(exit))?;
        Some(Audited { policy, would })
    }

    /// What becomes of packets with this exit.
    pub(crate) fn would(&self, exit: Exit) -> Would {
        match exit {
            Exit::Egress(address) if self.usable(address) => Would::Leave(address),
            Exit::Egress(address) => Would::Unusable(address),
            Exit::Bypass | Exit::NodeAddress => Would::AsWithoutSortie,
            Exit::Drop(_) => Would::Drop,
        }
    }

    /// What a candidate would do for a name, if it decided: with the first family that it has an
    /// address of.
    pub(crate) fn would_by_name(&self, candidate: &Candidate<'_>) -> Would {
        let exit = |v6| candidate.exit(v6, self);
        match exit(false) {
            Exit::Drop(Refusal::NoAddressOfFamily) => self.would(exit(true)),
            v4 => self.would(v4),
        }
    }
}

/// The policy for whose sake a connection would be led to the gateway, where nothing that is asked
/// before decides without its requests.
fn by_request<'p>(candidates: &[Candidate<'p>], target: Target<'_>) -> Option<&'p EgressPolicy> {
    let (Some((Protocol::Tcp, _)), Some(name), None) = (target.port, target.name, target.request)
    else {
        return None;
    };
    let looks = candidates
        .iter()
        .take_while(|it| !it.covers(target))
        .find(|it| {
            matches!(it.scope, Scope::Request { .. })
                && it.names(name)
                && it.takes_port(target.port)
        })?;
    looks.audits().then_some(looks.policy)
}

#[cfg(test)]
mod tests;
