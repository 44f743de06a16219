//! Workloads and networks, as a source (an engine, `sortie run`) reports them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::labels::Labels;

/// `ENGINE/ID`: stable for the workload's life, unique on a host. Shared by all that name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct WorkloadId(Arc<str>);

impl WorkloadId {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for WorkloadId {
    fn from(id: String) -> Self {
        Self(id.into())
    }
}

impl From<&str> for WorkloadId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl From<WorkloadId> for String {
    fn from(WorkloadId(id): WorkloadId) -> Self {
        String::from(&*id)
    }
}

/// An interface's index in the host's network namespace. Never reused while the host is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IfIndex(pub u32);

/// A 48-bit Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MacAddress(pub [u8; 6]);

/// A version 2 cgroup's number: never reused while the host is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CgroupId(pub u64);

impl CgroupId {
    /// As a flow's conntrack label has it: the upper 64 of its 128 bits. Other programs that use
    /// labels number their bits from 0 (connlabel.conf).
    pub fn label(self) -> [u8; 16] {
        let mut label = [0; 16];
        label[8..].copy_from_slice(&self.0.to_ne_bytes());
        label
    }

    /// The one in a flow's label; none where it is of no cgroup.
    pub fn of_label(label: [u8; 16]) -> Option<Self> {
        let id = label.last_chunk().map(|upper| u64::from_ne_bytes(*upper));
        id.filter(|id| *id != 0).map(Self)
    }
}

/// The cgroup that a workload's sockets are made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cgroup {
    /// Which.
    pub id: CgroupId,
    /// How far below the root: 1 for the root's children.
    pub level: u32,
}

/// A container or process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Stable for its life.
    pub id: WorkloadId,
    /// The engine's name for it, without a leading slash.
    pub name: String,
    /// What kind of thing it is.
    pub kind: WorkloadKind,
    /// The engine's labels.
    pub labels: Labels,
    /// A process inside its network namespace, for `verify`; 0 while it is only being started.
    pub pid: u32,
    /// Nanoseconds since the epoch at which it started: of two that claim one IP, the later has it.
    pub started: i64,
    /// One per interface that crosses the host.
    pub endpoints: Vec<Endpoint>,
    /// Its own UDP ports that the engine publishes on the host.
    pub published_udp: BTreeSet<u16>,
    /// What its packets are known by where it is in the host's network namespace: it has no
    /// endpoints there.
    pub cgroup: Option<Cgroup>,
    /// Why it cannot be managed although it may be selected (macvlan, …).
    pub unmanageable: Option<String>,
}

/// A container engine.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Docker.
    #[default]
    Docker,
    /// Podman of the host's root; each user's own is another one, and not seen here.
    Podman,
}

impl Engine {
    /// All that are followed.
    pub const ALL: [Self; 2] = [Self::Docker, Self::Podman];

    /// As it begins ids, and as commands and files name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }

    /// The id on this host of the workload that the engine calls `id`.
    pub fn workload_id(self, id: &str) -> WorkloadId {
        format!("{}/{id}", self.name()).into()
    }

    /// What a network of this engine is called here. Docker's have their own names; others begin
    /// with the engine's, because both may have one of the same name. No engine takes a `/`.
    pub fn network_name(self, name: &str) -> String {
        match self {
            Self::Docker => name.to_owned(),
            Self::Podman => format!("{}/{name}", self.name()),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker => "Docker",
            Self::Podman => "Podman",
        })
    }
}

/// What kind of thing a workload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkloadKind {
    /// A container of Docker.
    Docker,
    /// A container of Podman.
    Podman,
    /// A process started by `sortie run`, or a container given an interface by `sortie attach`.
    Process,
    /// A client of the gateway's explicit listener. It has no packets of its own on this host.
    Client,
}

impl WorkloadKind {
    /// Its engine; none for a process and a client.
    pub fn engine(self) -> Option<Engine> {
        match self {
            Self::Docker => Some(Engine::Docker),
            Self::Podman => Some(Engine::Podman),
            Self::Process | Self::Client => None,
        }
    }

    /// As commands show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => Engine::Docker.name(),
            Self::Podman => Engine::Podman.name(),
            Self::Process => "process",
            Self::Client => "client",
        }
    }
}

impl From<Engine> for WorkloadKind {
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::Docker => Self::Docker,
            Engine::Podman => Self::Podman,
        }
    }
}

/// One interface of a workload, as the host sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    /// The network's name ([`Network::name`]); empty for an interface made by `run` or `attach`.
    pub network: String,
    /// The host's end: a bridge port, or a veth of its own.
    pub port: IfIndex,
    /// The bridge that `port` belongs to; none for a veth of its own.
    pub bridge: Option<IfIndex>,
    /// The workload's end.
    pub mac: MacAddress,
    /// The workload's addresses on this interface, link-local ones left out.
    pub addresses: Vec<IpAddr>,
    /// The families whose default route, inside, is by this interface.
    pub default_route: Families,
}

/// IP families.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Families {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

impl Families {
    /// Whether a family is among them.
    pub fn has(self, v6: bool) -> bool {
        if v6 { self.v6 } else { self.v4 }
    }
}

/// A network of an engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The engine's name for it, as [`Engine::network_name`] makes it unique on a host.
    pub name: String,
    /// The engine's labels.
    pub labels: BTreeMap<String, String>,
    /// The bridge's interface; none for drivers without one, and while it is not there.
    pub bridge: Option<IfIndex>,
    /// The bridge's name, also while it is not there: Podman makes it with the first container and
    /// removes it with the last.
    pub bridge_name: Option<String>,
    /// What it hands out.
    pub subnets: Vec<IpNet>,
}

impl Network {
    /// Whether a policy or the configuration means this network by `wanted`: its own name, the
    /// engine's for it, or the engine's after `docker/` or `podman/`.
    pub fn is_called(&self, wanted: &str) -> bool {
        is_called(&self.name, wanted)
    }
}

/// [`Network::is_called`] for a network of which only the name is known.
pub fn is_called(name: &str, wanted: &str) -> bool {
    wanted == name
        || match name.split_once('/') {
            Some((_, bare)) => wanted == bare,
            None => wanted.strip_prefix("docker/") == Some(name),
        }
}

/// All that one source knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Every running workload.
    pub workloads: Vec<Workload>,
    /// Every network.
    pub networks: Vec<Network>,
}

/// What a source says, in order. The first after a connection is always `Snapshot`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// All that there is: whatever the source said before and is not in here is gone.
    Snapshot(Snapshot),
    /// Started, or changed (a network more or less).
    Workload(Workload),
    /// Ended.
    WorkloadGone(WorkloadId),
    /// Made, or changed.
    Network(Network),
    /// Removed, by name.
    NetworkGone(String),
    /// The source cannot be reached: what it said stays valid. The reason is for people.
    Away(String),
    /// There is no such engine on this host: nothing is where its socket would be. The reason is
    /// for people.
    Absent(String),
}
