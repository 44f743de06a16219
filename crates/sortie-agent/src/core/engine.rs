//! What the engines' sources say, made into facts of the plan.

use std::collections::{BTreeMap, BTreeSet};

use sortie_api::config::AgentConfig;
use sortie_api::workload::{Change, Engine, Network, Snapshot, Workload, WorkloadId};
use sortie_kernel::probe::Feature;
use sortie_plan::environment::Environment;

use super::Core;
use super::networks::NetworkNotes;
use crate::api::{EngineState, EngineStatus};

/// One engine, and what it said.
pub struct Followed {
    pub(super) engine: Engine,
    socket: String,
    state: EngineState,
    /// Why not, where it is not connected.
    reason: Option<String>,
    /// As it told them; none before.
    pub(super) networks: BTreeMap<String, Network>,
    pub(super) notes: NetworkNotes,
    /// What its source reports, without attachments.
    pub(super) containers: BTreeSet<WorkloadId>,
    /// It has told all its containers since this agent started.
    pub(super) told: bool,
}

impl Followed {
    /// Before its source said anything.
    pub fn new(engine: Engine, config: &AgentConfig, notes: NetworkNotes) -> Self {
        let socket = match engine {
            Engine::Docker => &config.docker.socket,
            Engine::Podman => &config.podman.socket,
        };
        Self {
            engine,
            socket: socket.display().to_string(),
            state: EngineState::Away,
            reason: Some("it has not been asked yet".to_owned()),
            networks: BTreeMap::new(),
            notes,
            containers: BTreeSet::new(),
            told: false,
        }
    }

    /// Its networks as it told them, else as they are remembered, each with the bridge that has its
    /// name now. Of what its source and the host say the later is right: the kernel counts upwards.
    pub(super) fn networks_now(&self, environment: &Environment) -> Vec<Network> {
        let index_of = |name: &str| environment.interface_named(name);
        if !self.told {
            return self.notes.networks(index_of);
        }
        let now = |network: &Network| Network {
            bridge: network
                .bridge_name
                .as_deref()
                .and_then(index_of)
                .max(network.bridge),
            ..network.clone()
        };
        self.networks.values().map(now).collect()
    }

    /// There is no such engine, nor a bridge of a network that it ever told of: nothing that the
    /// kernel holds can be for a container of it.
    fn is_nowhere(&self, environment: &Environment) -> bool {
        let noted = self
            .notes
            .networks(|name| environment.interface_named(name));
        self.state == EngineState::Absent && noted.iter().all(|network| network.bridge.is_none())
    }

    /// As commands show it. An engine whose bridges are there is not absent, whatever became of
    /// its socket.
    pub(super) fn status(&self, environment: &Environment) -> EngineStatus {
        let lost = self.state == EngineState::Absent && !self.is_nowhere(environment);
        EngineStatus {
            name: self.engine.name().to_owned(),
            socket: self.socket.clone(),
            state: if lost { EngineState::Away } else { self.state },
            reason: self.reason.clone(),
        }
    }
}

impl Core {
    pub(super) fn engine_said(&mut self, engine: Engine, change: Change) {
        let Some(at) = self.engines.iter().position(|it| it.engine == engine) else {
            return;
        };
        match change {
            Change::Snapshot(snapshot) => self.engine_snapshot(engine, snapshot),
            Change::Workload(workload) if self.is_older(&workload) => {}
            Change::Workload(workload) => {
                self.engines[at].containers.insert(workload.id.clone());
                self.starting.remove(&workload.id);
                let pid = workload.pid;
                let has_own = self.has_own(pid);
                let workload = self.admitted(workload);
                let ops = self.planner.workload(workload, None);
                self.apply(&ops);
                // With every network that comes or goes the engine sets the default routes anew.
                if has_own {
                    self.look_into_own(pid);
                }
            }
            // Of an earlier run.
            Change::WorkloadGone(id) if self.is_starting(&id) => {}
            Change::WorkloadGone(id) => {
                self.engines[at].containers.remove(&id);
                self.starting.remove(&id);
                self.container_gone(&id);
                let ops = self.planner.workload_gone(&id);
                self.apply(&ops);
            }
            Change::Network(network) => {
                self.engines[at]
                    .networks
                    .insert(network.name.clone(), network);
                self.networks_changed();
            }
            Change::NetworkGone(name) => {
                self.engines[at].networks.remove(&name);
                self.networks_changed();
            }
            Change::Away(reason) => {
                tracing::warn!(%engine, reason, "the engine is away; what it said stays valid");
                self.engines[at].state = EngineState::Away;
                self.engines[at].reason = Some(reason);
            }
            Change::Absent(reason) => {
                tracing::info!(%engine, reason, "there is no such engine; it is waited for");
                self.engines[at].state = EngineState::Absent;
                self.engines[at].reason = Some(reason);
                self.settle();
            }
        }
    }

    /// All that there is: what was known and is not in it is gone.
    fn engine_snapshot(&mut self, engine: Engine, mut snapshot: Snapshot) {
        // Of an earlier run, or not known to the engine yet.
        snapshot.workloads.retain(|told| !self.is_older(told));
        let present = snapshot.workloads.iter().map(|told| told.id.clone());
        let present: BTreeSet<WorkloadId> = present.chain(self.all_starting(engine)).collect();
        let Some(followed) = self.followed(engine) else {
            return;
        };
        if followed.state != EngineState::Connected {
            tracing::info!(%engine, workloads = snapshot.workloads.len(), "the engine answers");
        }
        followed.state = EngineState::Connected;
        followed.reason = None;
        followed.told = true;
        let networks = snapshot.networks.into_iter();
        followed.networks = networks.map(|it| (it.name.clone(), it)).collect();
        let gone: Vec<_> = followed.containers.difference(&present).cloned().collect();
        followed.containers = present;
        for told in &snapshot.workloads {
            self.starting.remove(&told.id);
        }
        let workloads = snapshot.workloads.into_iter();
        let workloads = workloads.map(|told| self.admitted(told)).collect();
        if !self.compared {
            let networks = self.networks_now();
            self.planner.networks(networks);
            self.planner.learn(workloads, &gone);
            self.note_networks();
            if self.engines_have_told() {
                self.settle();
            } else {
                // A comparison with the whole does so itself.
                self.recall_bypasses();
                self.converge();
            }
            return;
        }
        self.networks_changed();
        for id in &gone {
            self.container_gone(id);
        }
        let ops = self.planner.containers(workloads, &gone);
        self.apply(&ops);
    }

    /// Ends the time in which what a former agent left is not touched: one comparison with the
    /// whole follows.
    pub(super) fn settle(&mut self) {
        if !self.compared && self.engines_have_told() {
            self.compared = true;
            self.planner.forget_names_of_others();
            self.converge();
        }
    }

    /// One engine has told all its containers, and so has each other one, or it is nowhere. Where
    /// there is no engine at all, one may only be late.
    pub(super) fn engines_have_told(&self) -> bool {
        self.engines.iter().any(|it| it.told) && self.no_engine_is_awaited()
    }

    /// Each engine has told all its containers, or it is nowhere.
    pub(super) fn no_engine_is_awaited(&self) -> bool {
        let environment = self.planner.environment();
        let mut engines = self.engines.iter();
        engines.all(|it| it.told || it.is_nowhere(environment))
    }

    pub(super) fn followed(&mut self, engine: Engine) -> Option<&mut Followed> {
        self.engines.iter_mut().find(|it| it.engine == engine)
    }

    /// The engines as commands show them.
    pub(super) fn engine_statuses(&self) -> Vec<EngineStatus> {
        let environment = self.planner.environment();
        let statuses = self.engines.iter().map(|it| it.status(environment));
        statuses.collect()
    }

    /// Without what the kernel needs for it, a container in the host's network namespace cannot be
    /// managed.
    pub(super) fn admitted(&self, mut workload: Workload) -> Workload {
        if self.missing.contains(&Feature::SocketCgroup) && workload.cgroup.take().is_some() {
            workload.unmanageable = Some(format!(
                "uses the host's network namespace, and the kernel has no {}: {}",
                Feature::SocketCgroup,
                Feature::SocketCgroup.meaning()
            ));
        }
        workload
    }
}
