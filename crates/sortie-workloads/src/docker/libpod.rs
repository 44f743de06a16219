//! What Podman answers only in its own words: which bridge a network is behind, which program its
//! runtime is, and which containers have a process. Its answers to Docker's clients leave that out,
//! call the default network `bridge`, and have states that Docker's clients do not know.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use bollard::models::ContainerSummary;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sortie_api::workload::{Engine, IfIndex, Network};
use tokio::net::UnixStream;

use super::network::EngineNetwork;

/// As in Podman 4.0 and later; the version in the path is the oldest that is asked for.
const NETWORKS: &str = "http://podman/v4.0.0/libpod/networks/json";
const INFO: &str = "http://podman/v4.0.0/libpod/info";
/// As Docker's clients ask.
const CONTAINERS: &str = "http://podman/v1.40/containers/json?all=true";
/// The states of a container with a process that has begun (libpod/define/containerstate.go). One that
/// is told to stop takes its time, and its list of those that run leaves it out.
const ALIVE: [&str; 3] = ["running", "stopping", "paused"];
/// Podman waits with this answer for containers that are just being started.
const INFO_LIMIT: Duration = Duration::from_secs(10);
/// Largest answer that is read, in bytes.
const LARGEST: usize = 64 << 20;

/// A network in Podman's words (containers/common, libnetwork/types/network.go).
#[derive(Debug, Deserialize)]
pub(crate) struct Listed {
    name: String,
    driver: String,
    network_interface: Option<String>,
    #[serde(default)]
    subnets: Vec<Subnet>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Subnet {
    subnet: IpNet,
}

/// All networks; an error is in words.
pub(crate) async fn networks(socket: &Path) -> Result<Vec<Listed>, String> {
    get(socket, NETWORKS).await
}

/// All containers with a process that has begun; an error is in words.
pub(crate) async fn containers(socket: &Path) -> Result<Vec<ContainerSummary>, String> {
    let all: Vec<Value> = get(socket, CONTAINERS).await?;
    let alive = |it: &Value| it["State"].as_str().is_some_and(|it| ALIVE.contains(&it));
    let alive = all.into_iter().filter(alive);
    let read = |it| serde_json::from_value(it).map_err(|error| error.to_string());
    alive.map(read).collect()
}

/// The path of the OCI runtime that new containers get; an error is in words.
pub(crate) async fn runtime(socket: &Path) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Info {
        host: Host,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Host {
        oci_runtime: Runtime,
    }
    #[derive(Deserialize)]
    struct Runtime {
        path: String,
    }
    let asked = tokio::time::timeout(INFO_LIMIT, get(socket, INFO)).await;
    let info: Info = asked.map_err(|elapsed| elapsed.to_string())??;
    Ok(info.host.oci_runtime.path)
}

async fn get<T: DeserializeOwned>(socket: &Path, address: &str) -> Result<T, String> {
    let words = |error: &dyn std::error::Error| error.to_string();
    let stream = UnixStream::connect(socket).await;
    let stream = stream.map_err(|error: io::Error| words(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| words(&error))?;
    // Ends with the sender; its error is the request's too.
    tokio::spawn(connection);
    let request = Request::get(address)
        .header(hyper::header::HOST, "podman")
        .body(Empty::<Bytes>::new())
        .map_err(|error| words(&error))?;
    let answer = sender.send_request(request).await;
    let answer = answer.map_err(|error| words(&error))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), LARGEST).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    if !status.is_success() {
        return Err(format!("{status}: {}", String::from_utf8_lossy(&body)));
    }
    serde_json::from_slice(&body).map_err(|error| words(&error))
}

impl Listed {
    /// Containers name their networks by name, so that is the id.
    pub(crate) fn known(self, index_of: impl Fn(&str) -> Option<IfIndex>) -> EngineNetwork {
        let is_bridge = |_: &String| self.driver == "bridge";
        let bridge = self.network_interface.filter(is_bridge);
        EngineNetwork {
            network: Network {
                name: Engine::Podman.network_name(&self.name),
                labels: self.labels,
                bridge: bridge.as_deref().and_then(index_of),
                bridge_name: bridge,
                subnets: self.subnets.into_iter().map(|it| it.subnet).collect(),
            },
            id: self.name,
            driver: self.driver,
        }
    }
}

#[cfg(test)]
mod tests;
