//! The engine's networks, remembered across boots: until the engine has told its own, they say
//! which bridges are guarded.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sortie_api::workload::{IfIndex, Network};
use sortie_plan::op::Op;

use super::Core;
use crate::Error;
use crate::policies::write_whole;

/// The file in the state folder. It may be lost: then chosen networks are guarded from the
/// engine's first word on.
const FILE: &str = "networks.json";

/// The networks with a bridge, as last told, by name.
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
    pub fn load(state: &Path) -> Self {
        let file = state.join(FILE);
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
            subnets: noted.subnets.clone(),
        };
        self.noted.iter().map(network).collect()
    }

    /// Notes the networks as they are told. A bridge without a name is too new for the host's
    /// facts, or gone: what was noted of it stays.
    fn note<'a>(
        &mut self,
        networks: impl IntoIterator<Item = &'a Network>,
        name_of: impl Fn(IfIndex) -> Option<String>,
    ) {
        let note = |network: &Network| {
            let before = || Some(self.noted.get(&network.name)?.bridge.clone());
            let bridge = network.bridge.and_then(&name_of).or_else(before)?;
            let noted = Noted {
                labels: network.labels.clone(),
                bridge,
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
    /// Before the engine has told its networks: those remembered whose bridges are there by now.
    pub(super) fn recall_networks(&mut self) -> Vec<Op> {
        if self.told {
            return Vec::new();
        }
        let environment = self.planner.environment();
        let networks = self
            .network_notes
            .networks(|name| environment.interface_named(name));
        self.planner.networks(networks)
    }

    /// Once the engine has told its networks: they are remembered.
    pub(super) fn note_networks(&mut self) {
        if !self.told {
            return;
        }
        let interfaces = &self.planner.environment().interfaces;
        self.network_notes.note(self.networks.values(), |index| {
            interfaces
                .get(&index)
                .map(|interface| interface.name.clone())
        });
    }
}

#[cfg(test)]
mod tests;
