//! What a check of the host looks at, as it was read.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sortie_api::mark_mask::MarkMask;
use sortie_api::workload::Engine;

/// All of it. Nothing here is decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Features of the kernel that are not there.
    pub missing: Vec<Feature>,
    /// Interfaces, ports of bridges left out.
    pub interfaces: Vec<Interface>,
    /// The addresses of those, link-local ones left out.
    pub addresses: Vec<Address>,
    /// Interfaces of default routes, the preferred first of each family.
    pub defaults: Vec<Default>,
    /// Sources that the host itself would choose.
    pub chosen: Vec<Chosen>,
    /// Kernel settings by their path below `/proc/sys`; those that are not there are left out.
    pub sysctls: BTreeMap<String, String>,
    /// The table of tracked flows.
    pub conntrack: Conntrack,
    /// Base chains of the IP families, ours left out.
    pub chains: Vec<BaseChain>,
    /// Our tables.
    pub tables: Vec<Table>,
    /// The interfaces that our last line is hooked in at.
    pub hooked: Vec<String>,
    /// The bits of marks that name our uplinks.
    pub mark_mask: MarkMask,
    /// Where others use packet marks.
    pub marks: Vec<MarkUse>,
    /// The tables of iptables-legacy.
    pub legacy: Vec<String>,
    /// How many containers users' own Podman runs, by the user's number.
    pub rootless: BTreeMap<u32, usize>,
    /// The OCI runtime, for each engine that it is installed for.
    pub runtimes: Vec<Runtime>,
    /// What the agent says; none when no agent was asked.
    pub agent: Agent,
}

/// A feature of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// As `sortie status` names it.
    pub name: &'static str,
    /// Whether nothing works without it.
    pub needed: bool,
    /// What its absence means, and after the last `; ` what to do.
    pub meaning: &'static str,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// A bridge with an address of its own, so packets are routed through it.
    pub bridge: bool,
    /// The largest packet, in bytes.
    pub mtu: u32,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub address: IpAddr,
    /// The length of its prefix, in bits.
    pub prefix: u8,
    /// The interface.
    pub interface: String,
    /// IPv6: not chosen for new connections.
    pub deprecated: bool,
    /// IPv6: another machine on the link has it.
    pub duplicate: bool,
}

/// A default route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Default {
    /// IPv6 instead of IPv4.
    pub v6: bool,
    /// Its output interface.
    pub interface: String,
}

/// A source that the host itself would choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The source.
    pub source: IpAddr,
    /// The route that it is chosen with, as `ip route` writes it.
    pub route: String,
}

/// The table of tracked flows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Conntrack {
    /// Flows now; of this network namespace.
    pub count: u64,
    /// As many as there may be; 0 when it could not be read.
    pub max: u64,
    /// Packets lost because the table was full, since the namespace was made.
    pub dropped: u64,
    /// Flows thrown out early to make room.
    pub early: u64,
}

/// A base chain of somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseChain {
    /// `ip`, `ip6` or `inet`.
    pub family: String,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// What it is for and where.
    pub hook: Hook,
    /// Lower is earlier.
    pub priority: i32,
    /// Whether its policy is drop.
    pub drops: bool,
    /// The interfaces that rules of its table name, those ending in `*` for all that begin so;
    /// none when its rules decide by what only a packet shows, such as sets.
    pub names: Option<Vec<String>>,
}

/// The kinds of chains that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Translation of sources.
    PostroutingNat,
    /// Filtering of what is routed through.
    Forward,
}

/// Somebody else's use of packet marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkUse {
    /// A routing rule, or a chain.
    pub by: String,
    /// The bits that it compares or sets.
    pub bits: u32,
    /// What it compares them with, or sets them to; none when only a packet shows that.
    pub value: Option<u32>,
}

/// A table named as ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// `inet`, `bridge` or `netdev`.
    pub family: String,
    /// The netlink port of the socket that owns it.
    pub owner: Option<u32>,
}

/// Sortie's OCI runtime as an engine has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runtime {
    /// Which engine.
    pub engine: Engine,
    /// The link that the engine calls.
    pub link: String,
    /// Where it leads; none when it is not there.
    pub program: Option<String>,
    /// Whether that program is there.
    pub found: bool,
    /// The program that asks.
    pub this: String,
    /// What the engine says; none when it does not answer.
    pub answer: Option<EngineRuntime>,
}

/// What the engine says of its runtimes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineRuntime {
    /// The name of its default one.
    pub default: String,
    /// Whether that is the link.
    pub is_default: bool,
    /// Whether a runtime of it is the link.
    pub known: bool,
    /// Containers that have another runtime, by name.
    pub others: Vec<String>,
    /// The runtime of an API service that runs since before the link was its default.
    pub older_service: Option<String>,
}

/// What the agent says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Agent {
    /// None runs.
    #[default]
    Absent,
    /// It listens, and does not answer as it should: why.
    Silent(String),
    /// It answers.
    Running {
        /// Whether the engine has told it all that it has, so that our tables must be there.
        settled: bool,
        /// How many workloads a policy or label concerns.
        workloads: u64,
        /// The interfaces that managed packets leave through.
        uplinks: Vec<String>,
        /// Every egress address that a policy names.
        egress: Vec<Egress>,
    },
}

/// An egress address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Egress {
    /// The address.
    pub address: IpAddr,
    /// The interface that its packets leave through, where there is one.
    pub uplink: Option<String>,
    /// The line that makes it usable, while it is not.
    pub fix: Option<String>,
    /// Its source ports, when they may soon be used up.
    pub scarce: Option<Scarce>,
}

/// Source ports towards one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scarce {
    /// `ADDRESS:PORT/PROTOCOL`.
    pub towards: String,
    /// Ports in use.
    pub used: u32,
    /// As many as there are.
    pub of: u32,
}

impl Facts {
    /// A setting's value; none when it is not there or is no number.
    pub(super) fn number(&self, sysctl: &str) -> Option<u64> {
        self.sysctls.get(sysctl)?.parse().ok()
    }

    /// What packets leave through: as the agent says, or else by each family's default
    /// route.
    pub(super) fn uplinks(&self) -> Vec<&str> {
        match &self.agent {
            Agent::Running { uplinks, .. } if !uplinks.is_empty() => {
                uplinks.iter().map(String::as_str).collect()
            }
            _ => {
                let of_family = |v6| self.defaults.iter().find(|route| route.v6 == v6);
                let mut names: Vec<&str> = [of_family(false), of_family(true)]
                    .into_iter()
                    .flatten()
                    .map(|route| route.interface.as_str())
                    .collect();
                names.dedup();
                names
            }
        }
    }

    /// The uplinks of egress addresses of a family that its default route does not lead to: their
    /// packets are marked.
    pub(super) fn steered(&self, v6: bool) -> Vec<&str> {
        let default = self.defaults.iter().find(|route| route.v6 == v6);
        let mut uplinks: Vec<&str> = self
            .egress()
            .iter()
            .filter(|egress| egress.address.is_ipv6() == v6)
            .filter_map(|egress| egress.uplink.as_deref())
            .filter(|uplink| default.is_none_or(|route| route.interface != *uplink))
            .collect();
        uplinks.sort_unstable();
        uplinks.dedup();
        uplinks
    }

    pub(super) fn egress(&self) -> &[Egress] {
        match &self.agent {
            Agent::Running { egress, .. } => egress,
            Agent::Absent | Agent::Silent(_) => &[],
        }
    }

    pub(super) fn bridges(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces.iter().filter(|interface| interface.bridge)
    }

    /// Whether an interface has an address of this family.
    pub(super) fn has_family(&self, interface: &str, v6: bool) -> bool {
        self.addresses
            .iter()
            .any(|a| a.interface == interface && a.address.is_ipv6() == v6)
    }
}
