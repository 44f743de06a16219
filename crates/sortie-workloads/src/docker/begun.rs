//! A container between its creation and its start, while the engine must not be asked: its own
//! files tell who it is, and its network namespace tells where it is.
//!
//! Inspecting such a container waits for its start, and an engine that is itself starting answers
//! nothing before its containers run. Its files are written before the runtime is called: Docker's
//! are JSON, Podman has a database (`podman`).

pub(super) mod podman;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sortie_api::workload::{Cgroup, Endpoint, Engine, WorkloadId};

use super::container::udp_port;
use super::describe::{below_the_host, uses_the_host};
use crate::Error;
use crate::interfaces::{Found, Interface, look};
use crate::netns::Namespace;

/// Who a container is, as its engine has written it down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Whose it is.
    #[serde(default)]
    pub engine: Engine,
    /// The engine's id.
    pub id: String,
    /// Its name, without a leading slash.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The names of its networks, as they are called here.
    pub networks: BTreeSet<String>,
    /// Its own UDP ports that are to be published.
    #[serde(default)]
    pub published_udp: BTreeSet<u16>,
    /// It is in another container's network namespace, and has no packets of its own.
    pub shares: bool,
}

/// Where a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// One for each interface that crosses the host; no network's name is known yet.
    pub endpoints: Vec<Endpoint>,
    /// Where it is in the host's network namespace.
    pub cgroup: Option<Cgroup>,
    /// Why its packets cannot be managed.
    pub unmanageable: Option<String>,
}

/// `config.v2.json`, as far as it matters here (moby, daemon/container/container.go).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Written {
    name: String,
    config: Config,
    network_settings: Option<NetworkSettings>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    labels: Option<BTreeMap<String, String>>,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    networks: Option<BTreeMap<String, serde_json::Value>>,
}

/// `hostconfig.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    network_mode: String,
    port_bindings: Option<BTreeMap<String, serde_json::Value>>,
    #[serde(default)]
    publish_all_ports: bool,
}

impl Begun {
    /// Reads the files of Docker's container with this id; `containers` is the engine's folder of
    /// all containers, such as `/var/lib/docker/containers`.
    pub fn of_docker(containers: &Path, id: &str) -> Result<Self, Error> {
        let folder = containers.join(id);
        let written: Written = read(&folder.join("config.v2.json"))?;
        let host: HostConfig = read(&folder.join("hostconfig.json"))?;
        let networks = written
            .network_settings
            .and_then(|settings| settings.networks);
        let exposed = written.config.exposed_ports.unwrap_or_default();
        let exposed = exposed.into_keys().filter(|_| host.publish_all_ports);
        let bound = host.port_bindings.unwrap_or_default().into_keys();
        let published_udp = bound.chain(exposed);
        Ok(Self {
            engine: Engine::Docker,
            id: id.to_owned(),
            published_udp: published_udp.filter_map(|port| udp_port(&port)).collect(),
            name: written.name.trim_start_matches('/').to_owned(),
            labels: written.config.labels.unwrap_or_default(),
            networks: networks.unwrap_or_default().into_keys().collect(),
            shares: host.network_mode.starts_with("container:"),
        })
    }

    /// Its id as a workload.
    pub fn workload_id(&self) -> WorkloadId {
        self.engine.workload_id(&self.id)
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let failed = |detail: String| Error::ContainerFile {
        engine: Engine::Docker,
        path: path.to_owned(),
        detail,
    };
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| failed(error.to_string()))
}

/// Looks into the network namespace of `pid`, the first process of the container `id`, which has not started: addresses and MACs
/// there are the engine's, since no process of the container has run. The calling thread's own
/// namespace is taken as the host's.
pub async fn place(pid: u32, id: &str) -> Result<Place, Error> {
    let home = Namespace::own()?;
    let interfaces = match look(home, pid, id, None).await? {
        Found::Host(cgroup) => {
            return Ok(Place {
                endpoints: Vec::new(),
                unmanageable: cgroup.as_ref().err().map(|why| uses_the_host(why)),
                cgroup: cgroup.ok(),
            });
        }
        Found::Own { interfaces, .. } => interfaces,
    };
    let reasons = interfaces
        .iter()
        .filter_map(|it| below_the_host(it).or_else(|| held_by_a_process(it)));
    let reasons: Vec<String> = reasons.collect();
    let mut endpoints: Vec<Endpoint> = interfaces
        .into_iter()
        .filter_map(|interface| {
            let port = interface.port?;
            Some(Endpoint {
                network: String::new(),
                port: port.index,
                bridge: port.bridge,
                mac: interface.mac,
                addresses: interface.addresses,
                default_route: interface.default_route,
            })
        })
        .collect();
    endpoints.sort();
    Ok(Place {
        endpoints,
        cgroup: None,
        unmanageable: (!reasons.is_empty()).then(|| reasons.join("; ")),
    })
}

/// Why an interface cannot be managed whose other end a process has. Here it is the engine's: no process
/// of the container has run.
fn held_by_a_process(interface: &Interface) -> Option<String> {
    (interface.kind.as_deref() == Some("tun")).then(|| {
        format!(
            "the packets of its interface {} leave the host as those of a process of the host's, \
             and with the host's address; use a bridge network",
            interface.name
        )
    })
}

#[cfg(test)]
mod tests;
