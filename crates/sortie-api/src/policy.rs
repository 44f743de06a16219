//! EgressPolicy: which workloads, towards which destinations, leave with which address.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// One policy, from a file of the policy folder or from a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressPolicy {
    /// `metadata.name`; unique on a host.
    pub name: PolicyName,
    /// Where it was written; decides precedence among equals.
    pub owner: Owner,
    /// 0–1000, higher first.
    pub priority: u16,
    /// Any of these selects a workload; empty selects nothing.
    pub workloads: Vec<Selector>,
    /// Any of these; empty means everything that is not local.
    pub destinations: Vec<Destination>,
    /// What happens to a selected packet.
    pub action: Action,
    /// What happens while the egress address cannot be used.
    pub on_unavailable: OnUnavailable,
}

/// A policy's name, as in `metadata.name`; a label's policy is named `label:WORKLOAD`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyName(pub String);

/// Who wrote a policy, most specific first (the order of precedence, step 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// A label of the container itself.
    Workload,
    /// A policy file.
    Policy,
    /// A label of the container's network.
    Network,
}

/// Which containers; the fields are all of, the entries of one field any of (labels: all of).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    /// Labels that must all be there with these values.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Globs (`*`, `?`) of which one must match the container's name.
    pub names: Vec<String>,
    /// Networks of which the container must be on one.
    pub networks: Vec<String>,
}

/// One entry of `destinations`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// For people: shown by `explain`.
    pub name: Option<String>,
    /// Empty: every address.
    pub cidrs: Vec<IpNet>,
    /// Parts of `cidrs` that are not meant.
    pub except: Vec<IpNet>,
    /// Empty: every protocol and port.
    pub ports: Vec<PortRange>,
}

/// `{protocol, port, endPort}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// First port.
    pub first: u16,
    /// Last port, included.
    pub last: u16,
}

/// A transport protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
}

/// `action`, with `egress` where it is `Egress`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Leave with these addresses; a family without one is dropped.
    Egress(Egress),
    /// As without Sortie.
    Bypass,
    /// Drop.
    Deny,
}

/// `egress`: at least one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Egress {
    /// The IPv4 egress address.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 egress address.
    pub v6: Option<Ipv6Addr>,
}

/// `onUnavailable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnUnavailable {
    /// Nothing leaves.
    #[default]
    Drop,
    /// As without Sortie, with the host's address.
    NodeAddress,
}

impl PortRange {
    /// Whether a packet to this port is meant.
    pub fn contains(&self, (protocol, port): (Protocol, u16)) -> bool {
        self.protocol == protocol && (self.first..=self.last).contains(&port)
    }
}

impl Egress {
    /// The egress address of a family.
    pub fn of_family(&self, v6: bool) -> Option<std::net::IpAddr> {
        if v6 { self.v6.map(Into::into) } else { self.v4.map(Into::into) }
    }
}
