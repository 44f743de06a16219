//! EgressPolicy: which workloads, towards which destinations, leave with which address.
//!
//! [`parse`] reads it from YAML, and Istio's VirtualService as the same; serialising gives the same YAML's structure back, and
//! [`EgressPolicy::to_yaml`] its text.

mod carried;
mod certificates;
mod clients;
mod destinations;
mod host;
mod http;
mod parse;
mod path_regex;
mod selector;
mod set;
mod virtual_service;
mod workloads;
mod write;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use carried::Carried;
pub use certificates::{Lacking, certified, lacking};
pub use clients::Client;
pub(crate) use destinations::cidrs;
pub use host::HostPattern;
pub(crate) use http::certificate_name;
pub use http::{
    Headers, Http, HttpMatch, Inspect, Originate, PathPattern, Request, Tls, WhenEncrypted,
};
pub use parse::parse;
pub use path_regex::PathRegex;
pub use set::{PolicyFile, PolicySet, without};
pub(crate) use workloads::names;

/// One policy, from a file of the policy folder or from a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressPolicy {
    /// `metadata.name`; unique on a host.
    pub name: PolicyName,
    /// Where it was written; decides precedence among equals.
    pub owner: Owner,
    /// 0–1000, higher first.
    pub priority: u16,
    /// Any of these selects a workload; empty selects nothing. Always empty for a label's
    /// policy, which belongs to the workload, or to the network's workloads, that has it.
    pub workloads: Vec<Selector>,
    /// Any of these; empty means everything that is not local.
    pub destinations: Vec<Destination>,
    /// What happens to a selected packet.
    pub action: Action,
    /// What happens while the egress address cannot be used.
    pub on_unavailable: OnUnavailable,
    /// What happens to open connections when this policy gives them another address.
    pub on_change: OnChange,
    /// Whether it decides, or only tells what it would change.
    pub enforcement: Enforcement,
    /// What becomes of addresses that no look-up through the resolver gave.
    pub unlearned: Unlearned,
    /// The resolver refuses its workloads every name that none of their policies names.
    pub only_these_hosts: bool,
}

/// A policy's name, as in `metadata.name`; a label's policy is named `label:WORKLOAD` or
/// `network-label:NETWORK`, a VirtualService's `virtualservice/NAME`, and `virtualservice/NAME/2` and so
/// on where its routes have further sources.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolicyName(pub String);

/// Who wrote a policy, most specific first (the order of precedence, step 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Owner {
    /// A label of the container itself.
    Workload,
    /// A policy file.
    Policy,
    /// A VirtualService in a policy file.
    VirtualService,
    /// A label of the container's network.
    Network,
}

/// Which containers, or which clients; the fields are all of, the entries of one field any of
/// (labels: all of).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Selector {
    /// Labels that must all be there with these values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Globs (`*`, `?`) of which one must match the container's name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Networks of which the container must be on one: their full names, or the names that
    /// a compose file gives them (label `com.docker.compose.network`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    /// Clients of the gateway's explicit listener, from outside; where it is there, no container is
    /// meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clients: Option<Clients>,
}

/// `clients`: the fields are all of, the entries of one field any of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clients {
    /// Names of tokens, of which one must be shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<String>,
    /// Subjects of certificates, of which one must be shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<String>,
}

/// One entry of `destinations`: by address, or by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Destination {
    /// For people: shown by `explain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Empty: every address, if `hosts` is empty too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<IpNet>,
    /// Parts of `cidrs` that are not meant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<IpNet>,
    /// Any of these names; where there are some, `cidrs` is empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostPattern>,
    /// Empty: every protocol and port; with `http`, TCP to 80 and 443.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortRange>,
    /// Of what goes to `hosts`, these requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
}

/// `{protocol, port, endPort}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "write::Ports", into = "write::Ports")]
pub struct PortRange {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// First port.
    pub first: u16,
    /// Last port, included.
    pub last: u16,
}

/// A transport protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
}

/// `action`, with `egress` where it is `Egress`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", content = "egress")]
pub enum Action {
    /// Leave with these addresses; a family without one is dropped.
    Egress(Egress),
    /// As without Sortie.
    Bypass,
    /// Drop.
    Deny,
}

/// `egress`: at least one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "write::Addresses", into = "write::Addresses")]
pub struct Egress {
    /// The IPv4 egress address.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 egress address.
    pub v6: Option<Ipv6Addr>,
    /// How packets get it.
    pub mode: Mode,
}

/// `egress.mode`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub enum Mode {
    /// As the workload's network makes it best: on an engine's bridge, [`Mode::Translate`].
    #[default]
    Auto,
    /// The host has the address, and translates.
    Translate,
    /// The workload has the address itself.
    Direct,
}

/// `onUnavailable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OnUnavailable {
    /// Nothing leaves.
    #[default]
    Drop,
    /// As without Sortie, with the host's address.
    NodeAddress,
}

/// `onChange`: what becomes of connections that are open when the egress address changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "write::Connections", into = "write::Connections")]
pub enum OnChange {
    /// They end at once.
    #[default]
    Reset,
    /// Those that were answered go on with the old address for this long.
    Drain {
        /// 1–3600.
        seconds: u16,
    },
}

/// `enforcement`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Enforcement {
    /// It decides.
    #[default]
    Enforce,
    /// Packets leave as if it were not there; what it would change is counted.
    Audit,
}

/// `unlearned`: addresses that no look-up through the resolver gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Unlearned {
    /// The gateway looks for the name in what is sent to ports 80 and 443; the rest goes by address.
    #[default]
    Sniff,
    /// They are denied, but for those that a CIDR means.
    Deny,
}

impl OnChange {
    /// How long answered connections go on with the old address.
    pub fn drain(self) -> Option<Duration> {
        match self {
            Self::Reset => None,
            Self::Drain { seconds } => Some(Duration::from_secs(seconds.into())),
        }
    }
}

impl EgressPolicy {
    /// The address of a family that it gives workloads as their own.
    pub fn direct(&self, v6: bool) -> Option<IpAddr> {
        match &self.action {
            Action::Egress(egress) if egress.mode == Mode::Direct => egress.of_family(v6),
            _ => None,
        }
    }
}

impl PortRange {
    /// Whether a packet to this port is meant.
    pub fn contains(&self, (protocol, port): (Protocol, u16)) -> bool {
        self.protocol == protocol && (self.first..=self.last).contains(&port)
    }
}

impl Egress {
    /// Without an address yet.
    pub(crate) fn without_address() -> Self {
        Self {
            v4: None,
            v6: None,
            mode: Mode::Auto,
        }
    }

    /// The egress address of a family.
    pub fn of_family(&self, v6: bool) -> Option<IpAddr> {
        if v6 {
            self.v6.map(IpAddr::V6)
        } else {
            self.v4.map(IpAddr::V4)
        }
    }

    /// The addresses that are there, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.v4.map(IpAddr::V4);
        v4.into_iter().chain(self.v6.map(IpAddr::V6))
    }
}

#[cfg(test)]
mod tests;
