//! What an engine says about a container that runs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;

use bollard::models::{
    ContainerInspectResponse, ContainerSummary, EndpointSettings, NetworkInspect,
};
use sortie_api::workload::MacAddress;

/// A running container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) face: Face,
    /// Its first process.
    pub(crate) pid: u32,
    /// Nanoseconds since the epoch.
    pub(crate) started: i64,
    /// Where the engine mounted its network namespace.
    pub(crate) sandbox: Option<PathBuf>,
    /// Its own UDP ports that are published.
    pub(crate) published_udp: BTreeSet<u16>,
}

/// The part that the engine's list of containers gives too: while it is unchanged and the process
/// lives, the container need not be inspected again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Face {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// `HostConfig.NetworkMode`.
    pub(crate) mode: Mode,
    /// By network name.
    pub(crate) attachments: Vec<Attachment>,
}

/// Whose network namespace a container is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Its own.
    Own,
    /// The host's.
    Host,
    /// That of the container with this id.
    Container(String),
    /// Its own, whose packets a process of the host's sends on (`slirp4netns`, `pasta`).
    Process(String),
}

/// A container's place on a network, as the engine assigned it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attachment {
    pub(crate) network: String,
    pub(crate) network_id: String,
    pub(crate) mac: Option<MacAddress>,
    pub(crate) addresses: Vec<IpAddr>,
}

impl Attachment {
    /// Whether it leads to an interface: not so for `none` and `host`, nor before the engine has
    /// connected it.
    pub(crate) fn is_connected(&self) -> bool {
        self.mac.is_some() || !self.addresses.is_empty()
    }
}

impl Container {
    /// None for a container that has no process. One that Podman has told to stop, or paused, does
    /// not run in its words, and still sends, or will again.
    pub(crate) fn from_inspect(answer: ContainerInspectResponse) -> Option<Self> {
        use bollard::models::ContainerStateStatusEnum::{PAUSED, STOPPING};
        let state = answer.state?;
        let lives = state.running == Some(true) || matches!(state.status, Some(STOPPING | PAUSED));
        if !lives || state.restarting == Some(true) {
            return None;
        }
        let settings = answer.network_settings.unwrap_or_default();
        Some(Self {
            face: Face {
                id: answer.id?,
                name: bare(&answer.name?),
                labels: sorted(answer.config.and_then(|config| config.labels)),
                mode: mode(
                    answer
                        .host_config
                        .and_then(|host| host.network_mode)
                        .as_deref(),
                ),
                attachments: attachments(settings.networks),
            },
            pid: u32::try_from(state.pid?).ok().filter(|pid| *pid != 0)?,
            started: nanoseconds(&state.started_at?),
            published_udp: settings
                .ports
                .unwrap_or_default()
                .into_iter()
                .filter(|(_, bindings)| bindings.as_ref().is_some_and(|all| !all.is_empty()))
                .filter_map(|(port, _)| udp_port(&port))
                .collect(),
            sandbox: settings
                .sandbox_key
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
        })
    }
}

impl Face {
    /// None without an id.
    pub(crate) fn from_summary(answer: ContainerSummary) -> Option<Self> {
        // A container that others link to has names like `/other/alias` too.
        let name = answer
            .names
            .unwrap_or_default()
            .iter()
            .map(|name| bare(name))
            .find(|name| !name.contains('/'));
        Some(Self {
            id: answer.id?,
            name: name.unwrap_or_default(),
            labels: sorted(answer.labels),
            mode: mode(
                answer
                    .host_config
                    .and_then(|host| host.network_mode)
                    .as_deref(),
            ),
            attachments: attachments(answer.network_settings.and_then(|it| it.networks)),
        })
    }
}

impl Face {
    /// With the one attachment that the network tells of this container; none if it does not.
    pub(crate) fn on_network(self, network: NetworkInspect) -> Option<Self> {
        let endpoint = network.containers?.remove(&self.id)?;
        // Addresses have a prefix length here.
        let address = |text: String| text.split('/').next()?.parse().ok();
        let attachment = Attachment {
            network: network.name?,
            network_id: network.id?,
            mac: endpoint.mac_address.as_deref().and_then(mac),
            addresses: [endpoint.ipv4_address, endpoint.ipv6_address]
                .into_iter()
                .flatten()
                .filter_map(address)
                .collect(),
        };
        Some(Self {
            attachments: vec![attachment],
            ..self
        })
    }
}

/// `53/udp`; none for another protocol.
pub(crate) fn udp_port(text: &str) -> Option<u16> {
    text.strip_suffix("/udp")?.parse().ok()
}

fn bare(name: &str) -> String {
    name.strip_prefix('/').unwrap_or(name).to_owned()
}

fn sorted(labels: Option<HashMap<String, String>>) -> BTreeMap<String, String> {
    labels.unwrap_or_default().into_iter().collect()
}

fn mode(text: Option<&str>) -> Mode {
    match text {
        Some("host") => Mode::Host,
        Some(text) => match (text.strip_prefix("container:"), text.split(':').next()) {
            (Some(id), _) => Mode::Container(id.to_owned()),
            // Options follow a colon.
            (None, Some(program @ ("slirp4netns" | "pasta"))) => Mode::Process(program.to_owned()),
            (None, _) => Mode::Own,
        },
        None => Mode::Own,
    }
}

fn attachments(networks: Option<HashMap<String, EndpointSettings>>) -> Vec<Attachment> {
    let mut attachments: Vec<Attachment> = networks
        .unwrap_or_default()
        .into_iter()
        .map(|(network, settings)| Attachment {
            network,
            network_id: settings.network_id.unwrap_or_default(),
            mac: settings.mac_address.as_deref().and_then(mac),
            addresses: [settings.ip_address, settings.global_ipv6_address]
                .into_iter()
                .flatten()
                .filter_map(|address| address.parse().ok())
                .collect(),
        })
        .collect();
    attachments.sort_by(|a, b| a.network.cmp(&b.network));
    attachments
}

/// `02:42:ac:11:00:02`; none for an empty text.
fn mac(text: &str) -> Option<MacAddress> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(MacAddress(bytes))
}

/// RFC 3339 with up to nanoseconds; 0, older than everything, for what cannot be read.
fn nanoseconds(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>()
        .ok()
        .and_then(|time| i64::try_from(time.as_nanosecond()).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests;
