//! What a workload may do that would start before its decision is in the kernel.

use serde::{Deserialize, Serialize};
use sortie_api::config::Unidentified;
use sortie_api::policy::{Action, OnUnavailable};
use sortie_api::workload::WorkloadId;

use super::Planner;
use crate::precedence::{Candidate, Scope};

/// Whether a workload may start undecided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Meanwhile {
    /// It may: nothing selects it, and no network of it is guarded.
    Unconcerned,
    /// It may, once waiting was in vain: what selects it allows the host's address.
    NodeAddress,
    /// It must not; for people, who says so.
    Drop(String),
}

impl Planner {
    /// Asked while the kernel does not hold the decision yet, or nobody is there who could tell.
    ///
    /// 1. Whoever decides for any destination, up to the first that covers all of them, and does
    ///    not allow the host's address, forbids it.
    /// 2. Where nobody covers all destinations, a guarded network forbids it too.
    /// 3. An unknown workload is nobody's concern.
    pub fn meanwhile(&self, id: &WorkloadId) -> Meanwhile {
        let Some(tracked) = self.workloads.get(id) else {
            return Meanwhile::Unconcerned;
        };
        let candidates = Candidate::ordered(tracked.policies.iter().map(AsRef::as_ref));
        let mut meanwhile = Meanwhile::Unconcerned;
        for candidate in &candidates {
            let policy = candidate.policy;
            match (&policy.action, policy.on_unavailable) {
                _ if matches!(candidate.scope, Scope::Unlearned) => {
                    return Meanwhile::Drop(format!("policy {} selects it", policy.name.0));
                }
                (Action::Bypass, _) => {}
                (Action::Egress(_), OnUnavailable::NodeAddress) => {
                    meanwhile = Meanwhile::NodeAddress;
                }
                (Action::Egress(_) | Action::Deny, _) => {
                    return Meanwhile::Drop(format!("policy {} selects it", policy.name.0));
                }
            }
            if candidate.covers_all() {
                return meanwhile;
            }
        }
        if self.environment.config.unidentified == Unidentified::NodeAddress {
            return meanwhile;
        }
        let endpoints = tracked.workload.endpoints.iter();
        let guarded = endpoints
            .filter(|endpoint| endpoint.bridge.is_some())
            .find(|endpoint| self.is_guarded(self.networks.get(&endpoint.network)));
        match guarded {
            Some(endpoint) => Meanwhile::Drop(format!("network {} is guarded", endpoint.network)),
            None => meanwhile,
        }
    }
}

#[cfg(test)]
mod tests;
