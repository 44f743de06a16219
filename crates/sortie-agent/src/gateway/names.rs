//! What policies say of a lookup.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use sortie_api::workload::WorkloadId;
use sortie_dns::{DnsName, Interest, Learning, Names, Wanted};
use sortie_plan::named::{self, interest};
use sortie_plan::precedence::Candidate;

use super::audit::Lookups;
use super::known::Known;

/// Asks the policies of those who are known.
#[derive(Debug)]
pub(super) struct ByPolicy {
    pub(super) known: Arc<Known>,
    pub(super) audits: Arc<Lookups>,
}

impl Names for ByPolicy {
    /// Also names that no policy speaks of are offered to the kernel: one may have an address that
    /// another name has, and another decision. Of who has just gone the agent knows what to do.
    fn question(&self, workload: &WorkloadId, name: &DnsName) -> Interest {
        let (offered, required) = (
            Wanted {
                learning: Learning::Offered,
                ..Wanted::NOTHING
            },
            Wanted {
                learning: Learning::Required,
                ..Wanted::NOTHING
            },
        );
        let Some(workload) = self.known.workload(workload) else {
            return Interest::Forward(required);
        };
        let candidates = Candidate::ordered(workload.policies.iter().map(|it| &*it.0));
        match interest(&candidates, name.as_str(), &*self.known.host()) {
            named::Interest::Refused(policy) => Interest::Refused(policy.clone()),
            named::Interest::Unnamed { .. } => Interest::Forward(offered),
            named::Interest::Named { families, seen } => Interest::Forward(Wanted {
                families,
                sees_name: seen,
                ..required
            }),
        }
    }

    fn look_up(&self, workload: &WorkloadId, name: &DnsName) -> Interest {
        if let Some(workload) = self.known.workload(workload) {
            let host = self.known.host();
            self.audits.looked_up(&workload, name.as_str(), &host);
        }
        self.question(workload, name)
    }
}
