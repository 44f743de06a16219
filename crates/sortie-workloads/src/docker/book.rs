//! All that is known of one engine, and what of it was already said.

use std::collections::{BTreeMap, BTreeSet};

use sortie_api::workload::{Change, Engine, IfIndex, Network, Snapshot, Workload, WorkloadId};

use super::describe::{Seen, describe};
use super::network::EngineNetwork;

/// Turns what is learned into the changes that it makes for those who listen.
#[derive(Debug, Default)]
pub(crate) struct Book {
    engine: Engine,
    /// By the engine's id.
    seen: BTreeMap<String, Seen>,
    /// Those of them that wait for a port.
    portless: BTreeSet<String>,
    /// By the engine's id.
    networks: BTreeMap<String, EngineNetwork>,
    said_workloads: BTreeMap<WorkloadId, Workload>,
    said_networks: BTreeMap<String, Network>,
}

impl Book {
    /// With nothing in it.
    pub(crate) fn of(engine: Engine) -> Self {
        Self {
            engine,
            ..Self::default()
        }
    }

    /// The running container with this id.
    pub(crate) fn container(&self, id: &str) -> Option<&Seen> {
        self.seen.get(id)
    }

    /// All running containers, by id.
    pub(crate) fn containers(&self) -> &BTreeMap<String, Seen> {
        &self.seen
    }

    /// The ids of those behind a port.
    pub(crate) fn behind(&self, port: IfIndex) -> BTreeSet<String> {
        let behind = self.seen.iter().filter(|(_, seen)| seen.is_behind(port));
        behind.map(|(id, _)| id.clone()).collect()
    }

    /// A port is gone. Most often its container is ending, and nothing is asked or said of it.
    pub(crate) fn lose_port(&mut self, port: IfIndex) {
        self.portless.append(&mut self.behind(port));
    }

    /// The ids of those that lack a port.
    pub(crate) fn portless(&self) -> &BTreeSet<String> {
        &self.portless
    }

    /// All networks, by id.
    pub(crate) fn networks(&self) -> &BTreeMap<String, EngineNetwork> {
        &self.networks
    }

    /// A container started or changed.
    pub(crate) fn put(&mut self, seen: Seen) -> Vec<Change> {
        let id = seen.container.face.id.clone();
        if seen.lacks_a_port() {
            self.portless.insert(id.clone());
        } else {
            self.portless.remove(&id);
        }
        self.seen.insert(id.clone(), seen);
        self.say_again(&id)
    }

    /// A container ended.
    pub(crate) fn remove(&mut self, id: &str) -> Vec<Change> {
        self.seen.remove(id);
        self.portless.remove(id);
        self.say_again(id)
    }

    /// The engine's networks, all of them.
    pub(crate) fn set_networks(&mut self, networks: Vec<EngineNetwork>) -> Vec<Change> {
        self.networks = by_id(networks);
        let now = self.networks_now();
        let mut changes: Vec<Change> = now
            .values()
            .filter(|network| self.said_networks.get(&network.name) != Some(network))
            .map(|network| Change::Network(network.clone()))
            .collect();
        let gone: Vec<String> = self
            .said_networks
            .keys()
            .filter(|name| !now.contains_key(*name))
            .cloned()
            .collect();
        self.said_networks = now;
        let containers: Vec<String> = self.seen.keys().cloned().collect();
        changes.extend(containers.iter().filter_map(|id| self.say(id)));
        changes.extend(gone.into_iter().map(Change::NetworkGone));
        changes
    }

    /// Everything anew. Some if that is not what was said before.
    pub(crate) fn replace(
        &mut self,
        seen: BTreeMap<String, Seen>,
        networks: Option<Vec<EngineNetwork>>,
    ) -> Option<Snapshot> {
        let portless = seen.iter().filter(|(_, seen)| seen.lacks_a_port());
        self.portless = portless.map(|(id, _)| id.clone()).collect();
        self.seen = seen;
        if let Some(networks) = networks {
            self.networks = by_id(networks);
        }
        let workloads: BTreeMap<WorkloadId, Workload> = self
            .seen
            .values()
            .map(|seen| self.workload(seen))
            .map(|workload| (workload.id.clone(), workload))
            .collect();
        let networks = self.networks_now();
        let same = workloads == self.said_workloads && networks == self.said_networks;
        self.said_workloads = workloads;
        self.said_networks = networks;
        (!same).then(|| self.snapshot())
    }

    /// What was said, as a whole.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            workloads: self.said_workloads.values().cloned().collect(),
            networks: self.said_networks.values().cloned().collect(),
        }
    }

    /// A container, and those that share its namespace and speak of it.
    fn say_again(&mut self, id: &str) -> Vec<Change> {
        let sharers = self
            .seen
            .iter()
            .filter(|(_, seen)| seen.shares() == Some(id))
            .map(|(sharer, _)| sharer.clone());
        let all: Vec<String> = std::iter::once(id.to_owned()).chain(sharers).collect();
        all.iter().filter_map(|id| self.say(id)).collect()
    }

    fn say(&mut self, id: &str) -> Option<Change> {
        let Some(seen) = self.seen.get(id) else {
            let id = self.engine.workload_id(id);
            return self
                .said_workloads
                .remove(&id)
                .map(|_| Change::WorkloadGone(id));
        };
        let workload = self.workload(seen);
        let before = self
            .said_workloads
            .insert(workload.id.clone(), workload.clone());
        (before.as_ref() != Some(&workload)).then_some(Change::Workload(workload))
    }

    fn workload(&self, seen: &Seen) -> Workload {
        let owner = seen.shares().and_then(|id| self.seen.get(id));
        describe(self.engine, seen, &self.networks, owner)
    }

    fn networks_now(&self) -> BTreeMap<String, Network> {
        self.networks
            .values()
            .map(|it| (it.network.name.clone(), it.network.clone()))
            .collect()
    }
}

fn by_id(networks: Vec<EngineNetwork>) -> BTreeMap<String, EngineNetwork> {
    networks.into_iter().map(|it| (it.id.clone(), it)).collect()
}

#[cfg(test)]
mod tests;
