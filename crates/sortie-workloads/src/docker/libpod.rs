//! The one question that Podman answers only in its own words: which bridge a network is behind.
//! Its answers to Docker's clients leave that out, and call the default network `bridge`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use serde::Deserialize;
use sortie_api::workload::{Engine, IfIndex, Network};
use tokio::net::UnixStream;

use super::network::EngineNetwork;

/// As in Podman 4.0 and later; the version in the path is the oldest that is asked for.
const NETWORKS: &str = "http://podman/v4.0.0/libpod/networks/json";
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
    let words = |error: &dyn std::error::Error| error.to_string();
    let stream = UnixStream::connect(socket).await;
    let stream = stream.map_err(|error: io::Error| words(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| words(&error))?;
    // Ends with the sender; its error is the request's too.
    tokio::spawn(connection);
    let request = Request::get(NETWORKS)
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
