//! The engines' networks, remembered across boots: until an engine has told its own, they say
//! which bridges are guarded.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sortie_api::workload::{Engine, IfIndex, Network};
use sortie_plan::op::Op;

use super::Core;
use crate::Error;
use crate::policies::write_whole;

/// The engine's file in the state folder. It may be lost: then chosen networks are guarded from
/// the engine's first word on.
fn file(engine: Engine) -> &'static str {
    match engine {
        Engine::Docker => "networks.json",
        Engine::Podman => "networks-podman.json",
    }
}

/// The networks of one engine with a bridge, as last told, by name.
#[derive(Debug, Default)]
pub struct NetworkNotes {
    file: PathBuf,
    noted: BTreeMap<String, Noted>,
    /// Why the file is not as it should be.
    pub(super) problem: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Noted {
    labels: BTreeMap<String, String>,
    /// The bridge's name: its index is another one after a boot.
    bridge: String,
    subnets: Vec<IpNet>,
}

impl NetworkNotes {
    /// Those of a former agent, from the state folder.
    pub fn load(state: &Path, engine: Engine) -> Self {
        let file = state.join(file(engine));
        let (noted, problem) = match read(&file) {
            Ok(noted) => (noted, None),
            Err(error) => (BTreeMap::new(), Some(error.to_string())),
        };
        Self {
            file,
            noted,
            problem,
        }
    }

    /// The networks, each with the bridge that has its name now.
    pub(crate) fn networks(&self, index_of: impl Fn(&str) -> Option<IfIndex>) -> Vec<Network> {
        let network = |(name, noted): (&String, &Noted)| Network {
            name: name.clone(),
            labels: noted.labels.clone(),
            bridge: index_of(&noted.bridge),
            bridge_name: Some(noted.bridge.clone()),
            subnets: noted.subnets.clone(),
        };
        self.noted.iter().map(network).collect()
    }

    /// Notes the networks as they are told.
    fn note<'a>(&mut self, networks: impl IntoIterator<Item = &'a Network>) {
        let note = |network: &Network| {
            let noted = Noted {
                labels: network.labels.clone(),
                bridge: network.bridge_name.clone()?,
                subnets: network.subnets.clone(),
            };
            Some((network.name.clone(), noted))
        };
        let noted: BTreeMap<_, _> = networks.into_iter().filter_map(note).collect();
        if noted == self.noted && self.problem.is_none() {
            return;
        }
        self.noted = noted;
        let json = serde_json::to_string_pretty(&self.noted).unwrap_or_default();
        self.problem = write_whole(&self.file, &json)
            .err()
            .map(|error| error.to_string());
        if let Some(problem) = &self.problem {
            tracing::warn!(problem, "the networks are not remembered");
        }
    }
}

fn read(file: &Path) -> Result<BTreeMap<String, Noted>, Error> {
    match fs::read(file) {
        Ok(json) => serde_json::from_slice(&json)
            .map_err(|error| Error::file("understand", file)(error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(Error::file("read", file)(error)),
    }
}

impl Core {
    /// The networks of all engines, with the bridges that are there now.
    pub(super) fn networks_now(&self) -> Vec<Network> {
        let environment = self.planner.environment();
        let engines = self.engines.iter();
        engines
            .flat_map(|it| it.networks_now(environment))
            .collect()
    }

    /// Bridges came or went, or an engine said something of a network.
    pub(super) fn recall_networks(&mut self) -> Vec<Op> {
        let networks = self.networks_now();
        self.planner.networks(networks)
    }

    pub(super) fn networks_changed(&mut self) {
        let ops = self.recall_networks();
        self.apply(&ops);
        self.note_networks();
    }

    /// Once an engine has told its networks they are remembered.
    pub(super) fn note_networks(&mut self) {
        for it in self.engines.iter_mut().filter(|it| it.told) {
            it.notes.note(it.networks.values());
        }
    }
}

#[cfg(test)]
mod tests;
