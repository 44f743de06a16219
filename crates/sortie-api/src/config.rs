//! The agent's configuration: `/etc/sortie/agent.yaml`.

mod dns_over_tls;
mod gateway;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::address;
use crate::address::egress_address;
use crate::mark_mask::MarkMask;
use crate::name;
use crate::policy::{cidrs, names};
use crate::problem::{Fault, FileErrors, quoted};
use crate::reader::{Fields, Names, Reader};
use crate::yaml::{self, Entry, Node};

pub use dns_over_tls::DnsOverTls;
pub use gateway::{Gateway, Proxy, ProxyTls};
pub use tls::{CertificateFiles, Tls};

const CONFIG: Names = Names {
    known: &[
        "guard",
        "guardedNetworks",
        "guardExceptions",
        "unidentified",
        "uplinks",
        "localRanges",
        "inbound",
        "docker",
        "podman",
        "metrics",
        "markMask",
        "gateway",
        "tls",
    ],
    later: &[],
};
const UPLINK: Names = Names {
    known: &["interface", "gateway4", "gateway6"],
    later: &["table"],
};
const ENGINE: Names = Names {
    known: &["socket"],
    later: &[],
};

const METRICS: Names = Names {
    known: &["listen"],
    later: &[],
};

/// What the agent is told about its host. Everything has a default; so has a missing file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentConfig {
    /// Where a packet without a decision is dropped.
    pub guard: Guard,
    /// With [`Guard::Networks`]: guarded besides those that a policy or a label names.
    pub guarded_networks: BTreeSet<String>,
    /// With [`Guard::All`]: not guarded.
    pub guard_exceptions: BTreeSet<String>,
    /// What a guarded bridge's port without a known container may do.
    pub unidentified: Unidentified,
    /// Where egress addresses leave; empty means what the host's routes say.
    pub uplinks: Vec<Uplink>,
    /// Local besides what the host is connected to: no policy without destinations means it.
    pub local_ranges: Vec<IpNet>,
    /// What may come from outside to an egress address; where nothing is said, as without Sortie.
    #[serde(default)]
    pub inbound: BTreeMap<IpAddr, Inbound>,
    /// Docker.
    pub docker: Docker,
    /// Podman.
    #[serde(default)]
    pub podman: Podman,
    /// For Prometheus.
    pub metrics: Metrics,
    /// The bits of packet marks that name uplinks.
    #[serde(default)]
    pub mark_mask: MarkMask,
    /// The gateway beside the agent.
    #[serde(default)]
    pub gateway: Gateway,
    /// Certificates of the gateway's own.
    #[serde(default)]
    pub tls: Tls,
}

/// `guard`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Guard {
    /// Every bridge, those made later included.
    All,
    /// Chosen networks, and those that a policy or a label names.
    #[default]
    Networks,
}

/// `unidentified`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Unidentified {
    /// Nothing leaves.
    #[default]
    Drop,
    /// As without Sortie, with the host's address.
    NodeAddress,
}

/// One address of `inbound`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Inbound {
    /// Nothing but answers to what was sent with the address.
    Drop,
    /// As without Sortie.
    Allow,
}

/// An interface to the outside, with its next hops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uplink {
    /// Its name in the host's network namespace.
    pub interface: String,
    /// The IPv4 next hop; none means what the host's routes say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway4: Option<Ipv4Addr>,
    /// The IPv6 next hop; none means what the host's routes say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway6: Option<Ipv6Addr>,
}

/// `docker`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Docker {
    /// The engine's Unix socket.
    pub socket: PathBuf,
}

/// `podman`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Podman {
    /// The Unix socket of its API service.
    pub socket: PathBuf,
}

/// `metrics`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metrics {
    /// Where scrapes are answered; nowhere by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
}

impl Default for Docker {
    fn default() -> Self {
        Self {
            socket: PathBuf::from("/var/run/docker.sock"),
        }
    }
}

impl Default for Podman {
    fn default() -> Self {
        Self {
            socket: PathBuf::from("/run/podman/podman.sock"),
        }
    }
}

impl AgentConfig {
    /// Reads the file, of which an empty one says nothing. A file with a mistake is refused
    /// whole, and all its mistakes are told. `file` is only for messages.
    pub fn parse(file: &str, text: &str) -> Result<Self, FileErrors> {
        let mut reader = Reader::new(file, text);
        let documents = yaml::documents(&mut reader);
        if let Some(second) = documents.get(1) {
            let message = "a second document; the agent's configuration is one";
            reader.report(second.span, Fault::new(message, "remove the line `---`"));
        }
        let mut config = Self::default();
        if let Some(node) = documents.first()
            && let Some(fields) = reader.fields(node, None, CONFIG)
        {
            config.read(&mut reader, &fields);
        }
        reader.finish(config)
    }

    fn read(&mut self, reader: &mut Reader<'_>, fields: &Fields<'_>) {
        let choices = [("All", Guard::All), ("Networks", Guard::Networks)];
        let guard = match fields.get("guard") {
            Some(entry) => reader.choice(entry, &choices, &[]),
            None => Some(Guard::default()),
        };
        self.guard = guard.unwrap_or_default();
        let (guarded, exceptions) = (fields.get("guardedNetworks"), fields.get("guardExceptions"));
        if let Some(entry) = guarded {
            self.guarded_networks = names(reader, entry, "", name::network)
                .into_iter()
                .collect();
        }
        if let Some(entry) = exceptions {
            self.guard_exceptions = names(reader, entry, "", name::network)
                .into_iter()
                .collect();
        }
        let (idle, other) = match guard {
            Some(Guard::All) => (guarded, "Networks"),
            Some(Guard::Networks) => (exceptions, "All"),
            None => (None, ""),
        };
        if let Some(entry) = idle {
            let message = format!(
                "`{}` has no meaning with `guard: {:?}`",
                entry.key, self.guard
            );
            let help = format!("remove it, or write `guard: {other}`");
            reader.report(entry.key_span, Fault::new(message, help));
        }
        if let Some(entry) = fields.get("unidentified") {
            let choices = [
                ("Drop", Unidentified::Drop),
                ("NodeAddress", Unidentified::NodeAddress),
            ];
            self.unidentified = reader.choice(entry, &choices, &[]).unwrap_or_default();
        }
        if let Some(entry) = fields.get("uplinks") {
            self.uplinks = uplinks(reader, entry);
        }
        if let Some(entry) = fields.get("localRanges") {
            self.local_ranges = local_ranges(reader, entry);
        }
        if let Some(entry) = fields.get("inbound") {
            self.inbound = inbound(reader, entry);
        }
        if let Some(socket) = engine_socket(reader, fields.get("docker")) {
            self.docker.socket = socket;
        }
        if let Some(socket) = engine_socket(reader, fields.get("podman")) {
            self.podman.socket = socket;
        }
        if let Some(entry) = fields.get("metrics")
            && let Some(fields) = reader.fields(&entry.value, Some(entry.key_span), METRICS)
            && let Some(entry) = fields.get("listen")
        {
            let help = "write one such as `listen: 127.0.0.1:9469`";
            self.metrics.listen = listen(reader, &entry.value, help);
        }
        if let Some(entry) = fields.get("markMask") {
            self.mark_mask = mark_mask(reader, entry).unwrap_or_default();
        }
        if let Some(entry) = fields.get("gateway") {
            self.gateway = gateway::gateway(reader, entry).unwrap_or_default();
        }
        if let Some(entry) = fields.get("tls") {
            self.tls = tls::read(reader, entry);
        }
    }
}

fn engine_socket(reader: &mut Reader<'_>, entry: Option<&Entry>) -> Option<PathBuf> {
    let entry = entry?;
    let fields = reader.fields(&entry.value, Some(entry.key_span), ENGINE)?;
    socket(reader, fields.get("socket")?)
}

fn uplinks(reader: &mut Reader<'_>, entry: &Entry) -> Vec<Uplink> {
    let mut uplinks: Vec<Uplink> = Vec::new();
    for node in reader.list(entry, "; without the field the host's routes decide") {
        if let Some(uplink) = uplink(reader, node, &uplinks) {
            uplinks.push(uplink);
        }
    }
    uplinks
}

fn uplink(reader: &mut Reader<'_>, node: &Node, before: &[Uplink]) -> Option<Uplink> {
    let fields = reader.fields(node, None, UPLINK)?;
    let mut uplink = Uplink {
        interface: String::new(),
        gateway4: None,
        gateway6: None,
    };
    for (field, wanted) in [("gateway4", "IPv4"), ("gateway6", "IPv6")] {
        let Some(entry) = fields.get(field) else {
            continue;
        };
        let Some(text) = reader.text(&entry.value) else {
            continue;
        };
        match (address::gateway(text.text), wanted) {
            (Ok(IpAddr::V4(v4)), "IPv4") => uplink.gateway4 = Some(v4),
            (Ok(IpAddr::V6(v6)), "IPv6") => uplink.gateway6 = Some(v6),
            (Ok(_), _) => {
                let other = if field == "gateway4" {
                    "gateway6"
                } else {
                    "gateway4"
                };
                let message = format!("{} is no {wanted} address", quoted(text.text));
                reader.report(
                    text.span,
                    Fault::new(message, format!("write it as `{other}`")),
                );
            }
            (Err(fault), _) => reader.report(text.span, fault),
        }
    }
    let entry = fields.require(
        reader,
        "interface",
        "add `interface: NAME`, as `ip link` shows it",
    )?;
    let text = reader.text(&entry.value)?;
    if let Err(fault) = name::interface(text.text) {
        reader.report(text.span, fault);
    } else if before.iter().any(|u| u.interface == text.text) {
        let message = format!("the uplink {} is written twice", quoted(text.text));
        reader.report(text.span, Fault::new(message, "remove one of them"));
    }
    text.text.clone_into(&mut uplink.interface);
    Some(uplink)
}

fn inbound(reader: &mut Reader<'_>, entry: &Entry) -> BTreeMap<IpAddr, Inbound> {
    let mut addresses = BTreeMap::new();
    for entry in reader.entries(entry, "write `inbound: {203.0.113.11: Drop}`") {
        let choices = [("Drop", Inbound::Drop), ("Allow", Inbound::Allow)];
        let inbound = reader.choice(entry, &choices, &[]);
        match (egress_address(&entry.key), inbound) {
            (Ok(address), Some(inbound)) => {
                if addresses.insert(address, inbound).is_some() {
                    let message = format!("the address `{address}` is written twice");
                    reader.report(entry.key_span, Fault::new(message, "remove one of them"));
                }
            }
            (Err(fault), _) => reader.report(entry.key_span, fault),
            (Ok(_), None) => {}
        }
    }
    addresses
}

fn local_ranges(reader: &mut Reader<'_>, entry: &Entry) -> Vec<IpNet> {
    let ranges = cidrs(reader, entry, "");
    if let Some(all) = ranges.iter().find(|net| net.prefix_len() == 0) {
        let message = format!("with `{all}` every address is local, and no policy has an effect");
        reader.report(
            entry.key_span,
            Fault::new(message, "write the ranges that are yours"),
        );
    }
    ranges
}

/// `help` is how such an address is written.
fn listen(reader: &mut Reader<'_>, node: &Node, help: &str) -> Option<SocketAddr> {
    let text = reader.text(node)?;
    match text.text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => return Some(address),
        _ => {
            let message = format!("{} is no address with a port", quoted(text.text));
            reader.report(text.span, Fault::new(message, help));
        }
    }
    None
}

/// As `ip rule` and nft write masks: 0xf0, or in decimal.
fn mark_mask(reader: &mut Reader<'_>, entry: &Entry) -> Option<MarkMask> {
    let yaml::Value::Scalar { text, .. } = &entry.value.value else {
        let help = "write one such as `markMask: 0xf0`";
        let message = "`markMask` is a number";
        reader.report(entry.value.span, Fault::new(message, help));
        return None;
    };
    let number = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    let mask = number.and_then(|bits| MarkMask::try_from(bits).ok());
    if mask.is_none() {
        let message = format!("`markMask` cannot be {}", quoted(text));
        let help = "write 4 to 8 bits that follow each other, such as `markMask: 0xf0`";
        reader.report(entry.value.span, Fault::new(message, help));
    }
    mask
}

fn socket(reader: &mut Reader<'_>, entry: &Entry) -> Option<PathBuf> {
    let text = reader.text(&entry.value)?;
    if is_path(text.text) {
        return Some(PathBuf::from(text.text));
    }
    let help = match text.text.strip_prefix("unix://") {
        Some(path) if path.starts_with('/') => format!("write `socket: {path}`"),
        _ => "write the path of a Unix socket from the root, such as `/var/run/docker.sock`"
            .to_owned(),
    };
    let message = format!("{} is no path from the root", quoted(text.text));
    reader.report(text.span, Fault::new(message, help));
    None
}

/// Whether it is a path from the root.
fn is_path(text: &str) -> bool {
    text.starts_with('/') && !text.contains('\0')
}

#[cfg(test)]
mod tests;
