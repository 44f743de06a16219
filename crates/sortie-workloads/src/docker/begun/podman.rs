//! Who a container of Podman is, by its database. Podman holds the container's lock until its
//! runtime has come back from `start`: whoever asks its API for that container, or lists all, waits
//! as long. The database itself is only locked for the time of each change.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::Deserialize;
use sortie_api::workload::Engine;

use super::Begun;
use crate::Error;
use crate::bolt::Bolt;

/// Podman's names for a bucket with one bucket for each container, and for what is in that
/// (libpod/boltdb_state_internal.go).
const CONTAINERS: &[u8] = b"ctr";
const CONFIG: &[u8] = b"config";
const NETWORKS: &[u8] = b"networks";

/// A container's configuration, as far as it matters here (libpod/container_config.go).
#[derive(Deserialize)]
struct Config {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// The container whose network namespace it is in.
    #[serde(default, rename = "netNsCtr")]
    network_of: String,
    #[serde(default, rename = "newPortMappings")]
    ports: Option<Vec<Port>>,
}

#[derive(Deserialize)]
struct Port {
    #[serde(rename = "container_port")]
    first: u16,
    /// How many, from that one on.
    range: u16,
    /// One or more, with commas.
    protocol: String,
}

impl Begun {
    /// Reads what Podman has written down of the container with this id; `database` is its file,
    /// such as `/var/lib/containers/storage/libpod/bolt_state.db`.
    pub async fn of_podman(database: &Path, id: &str) -> Result<Self, Error> {
        let failed = |detail: String| Error::ContainerFile {
            engine: Engine::Podman,
            path: database.to_owned(),
            detail,
        };
        let written = written(database, id).await;
        let (config, networks) = written.map_err(|error| failed(error.to_string()))?;
        let config: Config =
            serde_json::from_slice(&config).map_err(|error| failed(error.to_string()))?;
        Ok(begun(id, config, networks.into_iter()))
    }
}

fn begun(id: &str, config: Config, networks: impl Iterator<Item = Vec<u8>>) -> Begun {
    let name = |network: Vec<u8>| Engine::Podman.network_name(&String::from_utf8_lossy(&network));
    let ports = config.ports.unwrap_or_default();
    let udp = ports.iter().filter(|port| port.protocol.contains("udp"));
    let range = |port: &Port| (port.first..=u16::MAX).take(port.range.max(1).into());
    Begun {
        engine: Engine::Podman,
        id: id.to_owned(),
        published_udp: udp.flat_map(range).collect(),
        name: config.name,
        labels: config.labels,
        networks: networks.map(name).collect(),
        shares: !config.network_of.is_empty(),
    }
}

/// All containers, running or not: name and OCI runtime of each.
pub(in crate::docker) async fn runtimes(database: &Path) -> Result<Vec<(String, String)>, Error> {
    #[derive(Deserialize)]
    struct Config {
        name: String,
        #[serde(default)]
        runtime: String,
    }
    let all = async {
        let bolt = Bolt::open(database).await?;
        let containers = bolt.bucket(&bolt.root(), CONTAINERS)?;
        let containers = containers.ok_or_else(|| missing("containers"))?;
        let mut all = Vec::new();
        for id in bolt.keys(&containers)? {
            let Some(container) = bolt.bucket(&containers, &id)? else {
                continue;
            };
            let config = bolt.value(&container, CONFIG)?.unwrap_or_default();
            let config: Config = serde_json::from_slice(&config)?;
            all.push((config.name, config.runtime));
        }
        Ok(all)
    };
    all.await.map_err(|error: io::Error| Error::ContainerFile {
        engine: Engine::Podman,
        path: database.to_owned(),
        detail: error.to_string(),
    })
}

/// Whether this is a database that containers can be read from; the error says why not.
pub(in crate::docker) async fn readable(database: &Path) -> io::Result<()> {
    let bolt = Bolt::open(database).await?;
    let containers = bolt.bucket(&bolt.root(), CONTAINERS)?;
    containers.map(|_| ()).ok_or_else(|| missing("containers"))
}

async fn written(database: &Path, id: &str) -> io::Result<(Vec<u8>, Vec<Vec<u8>>)> {
    let bolt = Bolt::open(database).await?;
    let containers = bolt.bucket(&bolt.root(), CONTAINERS)?;
    let containers = containers.ok_or_else(|| missing("containers"))?;
    let container = bolt.bucket(&containers, id.as_bytes())?;
    let container = container.ok_or_else(|| missing(&format!("container {id}")))?;
    let config = bolt.value(&container, CONFIG)?;
    let config = config.ok_or_else(|| missing("configuration of the container"))?;
    let networks = match bolt.bucket(&container, NETWORKS)? {
        Some(networks) => bolt.keys(&networks)?,
        None => Vec::new(),
    };
    Ok((config, networks))
}

fn missing(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("there is no {what} in it"))
}

#[cfg(test)]
mod tests;
