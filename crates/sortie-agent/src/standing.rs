//! What still stands while the agent is away: by the files that it keeps across restarts the
//! runtime knows what a container may do that it cannot ask about.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use sortie_api::config::AgentConfig;
use sortie_api::workload::{Endpoint, Families, IfIndex, MacAddress, Network, Workload};
use sortie_plan::environment::Environment;
use sortie_plan::planner::{Meanwhile, Planner};
use sortie_workloads::docker::begun::Begun;

use crate::Error;
use crate::core::NetworkNotes;
use crate::policies::{last_good, write_whole};

/// The configuration that the agent last ran with. It may be lost: then the runtime knows of no
/// guard but that of networks' labels.
const CONFIG: &str = "agent.json";
/// Docker's networks without a bridge; Podman's containers without one name no network.
const WITHOUT_BRIDGE: [&str; 2] = ["host", "none"];

/// Keeps the agent's configuration in the state folder.
pub fn keep(state: &Path, config: &AgentConfig) -> Result<(), Error> {
    let json = serde_json::to_string_pretty(config).unwrap_or_default();
    write_whole(&state.join(CONFIG), &json)
}

/// What this container may do while nobody can tell its decision, by the last good policies, the
/// agent's last configuration and the networks that it last knew. Another network is taken for a
/// bridge without labels.
pub fn meanwhile(state: &Path, container: &Begun) -> Meanwhile {
    let config = fs::read(state.join(CONFIG)).ok();
    let config = config.and_then(|json| serde_json::from_slice(&json).ok());
    // Which one does not matter here.
    let bridge = IfIndex(0);
    let noted = NetworkNotes::load(state, container.engine).networks(|_| Some(bridge));
    let mut networks: BTreeMap<String, Network> = noted
        .into_iter()
        .map(|network| (network.name.clone(), network))
        .collect();
    for name in &container.networks {
        networks.entry(name.clone()).or_insert_with(|| Network {
            name: name.clone(),
            labels: BTreeMap::new(),
            bridge: (!WITHOUT_BRIDGE.contains(&name.as_str())).then_some(bridge),
            bridge_name: None,
            subnets: Vec::new(),
        });
    }
    let endpoint = |name: &String| Endpoint {
        network: name.clone(),
        port: bridge,
        bridge: networks.get(name).and_then(|network| network.bridge),
        mac: MacAddress([0; 6]),
        addresses: Vec::new(),
        default_route: Families::default(),
    };
    let workload = Workload {
        id: container.workload_id(),
        name: container.name.clone(),
        kind: container.engine.into(),
        labels: container.labels.clone().into(),
        pid: 0,
        started: 0,
        endpoints: container.networks.iter().map(endpoint).collect(),
        published_udp: [].into(),
        cgroup: None,
        unmanageable: None,
    };
    let mut planner = Planner::new(Environment {
        config: config.unwrap_or_default(),
        ..Environment::default()
    });
    planner.networks(networks.into_values().collect());
    planner.policies_changed(last_good(state).policies().cloned().collect());
    planner.workload(workload, None);
    planner.meanwhile(&container.workload_id())
}

#[cfg(test)]
mod tests;
