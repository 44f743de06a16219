//! What policies with `enforcement: Audit` would have changed, counted as flows begin and as the
//! gateway tells.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use sortie_api::policy::{EgressPolicy, PolicyName};
use sortie_api::workload::WorkloadId;
use sortie_plan::planner::Planner;
use sortie_plan::planner::audit::{Now, Outcome};
use sortie_plan::precedence::Target;

use super::Core;
use crate::api::{AuditCount, AuditNote, AuditStatus, AuditedThere, AuditedWorkload};

/// By policy. Counts begin anew with a policy's text, and with the agent.
#[derive(Debug, Default)]
pub(super) struct Audits(BTreeMap<PolicyName, Counted>);

#[derive(Debug)]
struct Counted {
    policy: Arc<EgressPolicy>,
    since: Timestamp,
    all: AuditCount,
    /// Of workloads that still are there.
    workloads: BTreeMap<WorkloadId, AuditCount>,
}

impl Audits {
    /// The policies may have changed, and workloads ended.
    pub(super) fn follow(&mut self, planner: &Planner) {
        let audits = planner.audits();
        self.0
            .retain(|name, counted| audits.get(name) == Some(&counted.policy));
        for (name, policy) in audits {
            self.0.entry(name.clone()).or_insert_with(|| Counted {
                policy: Arc::clone(policy),
                since: Timestamp::now(),
                all: AuditCount::default(),
                workloads: BTreeMap::new(),
            });
        }
        for counted in self.0.values_mut() {
            counted
                .workloads
                .retain(|id, _| planner.workloads().contains_key(id));
        }
    }

    fn count(&mut self, policy: &PolicyName, id: &WorkloadId, add: impl Fn(&mut AuditCount)) {
        if let Some(counted) = self.0.get_mut(policy) {
            add(&mut counted.all);
            add(counted.workloads.entry(id.clone()).or_default());
        }
    }

    /// Policy by policy.
    pub(super) fn status(&self, planner: &Planner) -> Vec<AuditStatus> {
        let workloads = |counted: &Counted| {
            let named = counted.workloads.iter().filter_map(|(id, count)| {
                let tracked = planner.workloads().get(id)?;
                let name = tracked.workload.name.clone();
                Some(AuditedWorkload {
                    name,
                    count: *count,
                })
            });
            named.collect()
        };
        let all = self.0.iter().map(|(name, counted)| AuditStatus {
            policy: name.0.clone(),
            since: counted.since.to_string(),
            all: counted.all,
            workloads: workloads(counted),
        });
        all.collect()
    }
}

impl Core {
    /// A workload's flow began, or one of its packets was dropped: what the policies that only
    /// audit would change about it.
    pub(crate) fn audit(&mut self, id: &WorkloadId, target: Target, now: Now) -> Option<AuditNote> {
        let tracked = self.planner.workloads().get(id)?;
        let audited = self.planner.audited(tracked, target)?;
        let note = AuditNote::new(&audited, now);
        // Flows are counted; of packets only those that no flow stands for.
        if now != Now::Dropped || note.outcome == Outcome::Passed {
            let add = |count: &mut AuditCount| *count.of(note.outcome) += 1;
            self.audits.count(&audited.policy, id, add);
        }
        Some(note)
    }

    /// The gateway has carried, refused or answered something.
    pub(crate) fn audited_there(&mut self, told: Vec<AuditedThere>) {
        for one in told {
            let add = |count: &mut AuditCount| match one.outcome {
                Outcome::Passed => count.passed_requests += one.count,
                outcome => *count.of(outcome) += one.count,
            };
            self.audits
                .count(&PolicyName(one.policy.clone()), &one.workload, add);
        }
    }
}

impl AuditCount {
    /// The count of an outcome, in the kernel's words.
    fn of(&mut self, outcome: Outcome) -> &mut u64 {
        match outcome {
            Outcome::Same => &mut self.same,
            Outcome::OtherSource => &mut self.other_source,
            Outcome::Dropped => &mut self.dropped,
            Outcome::Passed => &mut self.passed_packets,
            Outcome::Unseen => &mut self.unseen,
        }
    }
}
