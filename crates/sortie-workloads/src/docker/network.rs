//! What an engine says about its networks.

use bollard::models;
use sortie_api::workload::{IfIndex, Network};

/// The engine's option for the bridge's interface name.
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";

/// A network with what only the engine cares about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EngineNetwork {
    pub(crate) id: String,
    pub(crate) driver: String,
    pub(crate) network: Network,
}

impl EngineNetwork {
    /// `index_of` gives the index of the host's interface with a name.
    pub(crate) fn new(
        answer: models::Network,
        index_of: impl Fn(&str) -> Option<IfIndex>,
    ) -> Option<Self> {
        let id = answer.id?;
        let driver = answer.driver.unwrap_or_default();
        let bridge = bridge_name(&id, &driver, answer.options.as_ref());
        let configured = answer.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
        Some(Self {
            network: Network {
                name: answer.name?,
                labels: answer.labels.unwrap_or_default().into_iter().collect(),
                bridge: bridge.as_deref().and_then(index_of),
                bridge_name: bridge,
                subnets: configured
                    .into_iter()
                    .filter_map(|config| config.subnet?.parse().ok())
                    .collect(),
            },
            id,
            driver,
        })
    }
}

/// The name that the bridge driver gives its bridge: the option, else `br-` and twelve digits of
/// the network's id.
fn bridge_name(
    id: &str,
    driver: &str,
    options: Option<&std::collections::HashMap<String, String>>,
) -> Option<String> {
    if driver != "bridge" {
        return None;
    }
    let chosen = options.and_then(|options| options.get(BRIDGE_NAME));
    Some(match chosen.filter(|name| !name.is_empty()) {
        Some(name) => name.clone(),
        None => format!("br-{}", id.get(..12).unwrap_or(id)),
    })
}

#[cfg(test)]
mod tests;
