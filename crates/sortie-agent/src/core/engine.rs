//! What the engine's source says, made into facts of the plan.

use std::collections::BTreeSet;

use sortie_api::workload::{Change, Snapshot, WorkloadId};

use super::Core;

impl Core {
    pub(super) fn engine_said(&mut self, change: Change) {
        match change {
            Change::Snapshot(snapshot) => self.engine_snapshot(snapshot),
            Change::Workload(workload) if self.is_older(&workload) => {}
            Change::Workload(workload) => {
                self.starting.remove(&workload.id);
                self.containers.insert(workload.id.clone());
                let ops = self.planner.workload(workload, None);
                self.apply(&ops);
            }
            // Of an earlier run.
            Change::WorkloadGone(id) if self.is_starting(&id) => {}
            Change::WorkloadGone(id) => {
                self.starting.remove(&id);
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
            }
        }
    }

    /// All that there is: what was known and is not in it is gone. The first one ends the time in
    /// which what a former agent left is not touched: one comparison with the whole follows.
    fn engine_snapshot(&mut self, mut snapshot: Snapshot) {
        if !self.engine.connected {
            tracing::info!(workloads = snapshot.workloads.len(), "the engine answers");
        }
        self.engine.connected = true;
        self.engine.reason = None;
        self.networks = snapshot
            .networks
            .into_iter()
            .map(|network| (network.name.clone(), network))
            .collect();
        // Of an earlier run, or not known to the engine yet.
        snapshot.workloads.retain(|told| !self.is_older(told));
        let present = snapshot.workloads.iter().map(|told| told.id.clone());
        let present: BTreeSet<WorkloadId> = present.chain(self.all_starting()).collect();
        for told in &snapshot.workloads {
            self.starting.remove(&told.id);
        }
        let gone: Vec<_> = self.containers.difference(&present).cloned().collect();
        self.containers = present;
        if !std::mem::replace(&mut self.told, true) {
            self.planner
                .networks(self.networks.values().cloned().collect());
            self.planner.learn(snapshot.workloads, &gone);
            self.note_networks();
            self.converge();
            return;
        }
        self.networks_changed();
        for id in &gone {
            self.container_gone(id);
        }
        let ops = self.planner.containers(snapshot.workloads, &gone);
        self.apply(&ops);
    }

    fn networks_changed(&mut self) {
        let ops = self
            .planner
            .networks(self.networks.values().cloned().collect());
        self.apply(&ops);
        self.note_networks();
    }
}
