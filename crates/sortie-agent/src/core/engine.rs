//! What the engine's source says, made into facts of the plan.

use std::collections::BTreeSet;

use sortie_api::workload::{Change, Snapshot, WorkloadId};
use sortie_plan::op::Op;

use super::{Core, Heard};

impl Core {
    pub(super) fn engine_said(&mut self, change: Change) {
        match change {
            Change::Snapshot(snapshot) => self.engine_snapshot(snapshot),
            Change::Workload(workload) => {
                self.containers.insert(workload.id.clone());
                let ops = self.planner.workload(workload, None);
                self.apply(&ops);
            }
            Change::WorkloadGone(id) => {
                self.containers.remove(&id);
                self.container_gone(&id);
                let ops = self.planner.workload_gone(&id);
                self.apply(&ops);
            }
            Change::Network(network) => {
                self.networks.insert(network.name.clone(), network);
                self.networks_changed();
            }
            Change::NetworkGone(name) => {
                self.networks.remove(&name);
                self.networks_changed();
            }
            Change::Away(reason) => {
                tracing::warn!(reason, "the engine is away; what it said stays valid");
                self.engine.connected = false;
                self.engine.reason = Some(reason);
                if self.heard == Heard::Nothing {
                    self.heard = Heard::Away;
                    self.adopt_without_engine();
                }
            }
        }
    }

    /// All that there is: what was known and is not in it is gone. The first one ends the time in
    /// which what a former agent left is not touched.
    fn engine_snapshot(&mut self, snapshot: Snapshot) {
        if !self.engine.connected {
            tracing::info!(workloads = snapshot.workloads.len(), "the engine answers");
        }
        self.networks = snapshot
            .networks
            .into_iter()
            .map(|network| (network.name.clone(), network))
            .collect();
        self.networks_changed();
        let present: BTreeSet<WorkloadId> = snapshot
            .workloads
            .iter()
            .map(|workload| workload.id.clone())
            .collect();
        for id in self
            .containers
            .difference(&present)
            .cloned()
            .collect::<Vec<_>>()
        {
            self.container_gone(&id);
            let ops = self.planner.workload_gone(&id);
            self.apply(&ops);
        }
        for workload in snapshot.workloads {
            let ops = self.planner.workload(workload, None);
            self.apply(&ops);
        }
        self.containers = present;
        self.engine.connected = true;
        self.engine.reason = None;
        if std::mem::replace(&mut self.heard, Heard::Everything) != Heard::Everything {
            self.converge();
        }
    }

    /// What a former agent left for containers stays until the engine tells of them; everything
    /// else must work meanwhile. Tables of another version stay whole.
    fn adopt_without_engine(&mut self) {
        let observed = match self.kernel.observe() {
            Ok(observed) => observed,
            Err(error) => return self.failed(&error.to_string()),
        };
        let mut ops = self.planner.adopt(&observed);
        ops.retain(Op::is_addition);
        self.apply(&ops);
    }

    fn networks_changed(&mut self) {
        let ops = self
            .planner
            .networks(self.networks.values().cloned().collect());
        self.apply(&ops);
    }
}
