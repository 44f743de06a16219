//! What workloads were given a moment ago: the kernel's reports of flows come after a change that
//! they began before.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use sortie_api::workload::WorkloadId;

use super::Planner;
use crate::compile::treatment::Treatment;
use crate::compile::workload::Placement;
use crate::precedence::Target;

/// Reports may be so late.
const REPORTS_COME: Duration = Duration::from_secs(5);

/// The treatments of before, by workload.
#[derive(Debug, Clone, Default)]
pub(super) struct Lately {
    former: BTreeMap<WorkloadId, [Treatment; 2]>,
    /// When all of them are forgotten, on the clock of [`Planner::at`].
    until: Duration,
}

impl Lately {
    /// Another placement follows. A workload's first one follows nothing: what it sent before is
    /// excused by nobody.
    pub(super) fn note(
        &mut self,
        id: &WorkloadId,
        [before, after]: [&Placement; 2],
        now: Duration,
    ) {
        let former = treatments(before);
        if before.endpoints.is_empty() || former == treatments(after) {
            return;
        }
        self.former.insert(id.clone(), former.map(Clone::clone));
        self.until = now + REPORTS_COME;
    }

    /// Once its time is over.
    pub(super) fn forget(&mut self, now: Duration) {
        if self.until <= now {
            self.former.clear();
        }
    }
}

fn treatments(placement: &Placement) -> [&Treatment; 2] {
    [placement.of_family(false), placement.of_family(true)]
}

impl Planner {
    /// More reports wait than can be read at once: what they are of may be older.
    pub fn reports_are_late(&mut self) {
        self.lately.until = self.now + REPORTS_COME;
    }

    /// Whether a flow to this destination with this source may be one that the workload began under
    /// what it was given a moment ago.
    pub fn gave_lately(&self, id: &WorkloadId, target: Target<'_>, source: IpAddr) -> bool {
        let former = self.lately.former.get(id);
        former.is_some_and(|[v4, v6]| match if source.is_ipv6() { v6 } else { v4 } {
            Treatment::Unmanaged => true,
            Treatment::Set(set)
                if set.leaves_alone(target, self.meant(id, target.ip, set).as_ref()) =>
            {
                true
            }
            treatment => treatment.egress_addresses().contains(&source),
        })
    }
}

#[cfg(test)]
mod tests;
