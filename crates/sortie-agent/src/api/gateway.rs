//! What the agent and `sortie gateway` say to each other: who needs the gateway, what the host is
//! like, and which addresses names have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sortie_api::config;
use sortie_api::policy::Carried;
use sortie_api::workload::{IfIndex, WorkloadId};
use sortie_kernel::netns::Identity;
use sortie_plan::planner::audit::Outcome;

/// One line of `GET /v1/gateway`: first all that there is, then what changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GatewayLine {
    /// A workload needs the gateway, or is another now.
    Workload(ByName),
    /// What workloads were told of names before: by this or a former gateway, or by their servers.
    Names(Vec<KnownName>),
    /// It needs it no longer.
    WorkloadGone(WorkloadId),
    /// The host, as it is now.
    Host(GatewayHost),
    /// Where clients ask it as a proxy, and whom policies mean.
    Proxy(GatewayProxy),
    /// A managed container, which may ask the proxy from these addresses.
    Asker(ByName),
    /// It may no longer.
    AskerGone(WorkloadId),
    /// All that there was has been told.
    Synced(bool),
    /// Who has read this far answers with it ([`Heard`]): somebody waits for what was told before.
    Round(u64),
}

/// A workload whose policies speak of names, or that may ask the proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ByName {
    /// Which.
    pub id: WorkloadId,
    /// For people.
    pub name: String,
    /// A process in its network namespace; 0 for a client from outside.
    pub pid: u32,
    /// The namespace, so that another process with this number is not taken for it.
    pub namespace: Identity,
    /// Its own addresses; of one that asks the proxy those that are bound at its ports.
    pub addresses: Vec<IpAddr>,
    /// Every policy that selects it and decides.
    pub policies: Vec<Carried>,
    /// Those that select it and only audit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audits: Vec<Carried>,
}

/// How the gateway serves clients.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayProxy {
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// The file of tokens' hashes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<PathBuf>,
    /// Where it listens for TLS, with which certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<config::ProxyTls>,
    /// Every policy that means clients and decides.
    pub policies: Vec<Carried>,
    /// Those that mean clients and only audit. They make nobody a client.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audits: Vec<Carried>,
}

/// What decides besides policies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayHost {
    /// Destinations that are no policy's business.
    pub local: Vec<IpNet>,
    /// The host's own addresses.
    #[serde(default)]
    pub own: BTreeSet<IpAddr>,
    /// Every egress address that a policy names.
    pub addresses: BTreeMap<IpAddr, EgressAddress>,
    /// Those that only policies name which audit. Nothing leaves with them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub audited: BTreeMap<IpAddr, EgressAddress>,
    /// The files of its certificates.
    #[serde(default)]
    pub tls: config::Tls,
    /// Name servers that are asked over TLS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_over_tls: Vec<config::DnsOverTls>,
}

/// An egress address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EgressAddress {
    /// Whether it is on the host and has a way out.
    pub usable: bool,
    /// The interface that packets with this source leave through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<IfIndex>,
    /// What sockets with this source carry: it leads their packets there, and keeps other programs'
    /// translations away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<PacketMark>,
}

/// Bits of a packet's mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PacketMark {
    /// Their value.
    pub value: u32,
    /// Which they are.
    pub mask: u32,
}

/// A name that a workload has looked up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Learned {
    /// Who.
    pub workload: WorkloadId,
    /// As it was asked for, in small letters and without a dot at its end.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// A name that a workload was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownName {
    /// Who.
    pub workload: WorkloadId,
    /// In small letters and without a dot at its end.
    pub name: String,
    /// One address of it.
    pub told: Told,
}

/// What a policy that only audits would have changed about what the gateway carried or answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditedThere {
    /// The policy.
    pub policy: String,
    /// For whom.
    pub workload: WorkloadId,
    /// What would have differed.
    pub outcome: Outcome,
    /// How often.
    pub count: u64,
}

/// A workload's lookups are answered from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Opened {
    /// Who.
    pub workload: WorkloadId,
    /// The process in whose network namespace the sockets are.
    pub pid: u32,
}

/// All is in force that was told before this round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Heard {
    /// As [`GatewayLine::Round`] told it.
    pub round: u64,
}

/// What the workload is to be told of one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// The address.
    pub address: IpAddr,
    /// The same, one that the kernel leads there, or none: it may not be told.
    pub answered: Option<IpAddr>,
}
