//! All that Sortie wants of one host, and what it found there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use sortie_api::workload::MacAddress;

use crate::mark::Mark;
use crate::nft::{Elements, Family, Name, Table};
use crate::redirect::Redirect;

/// The routing protocol number of our routes and rules (`/etc/iproute2/rt_protos`: unassigned).
pub const ROUTE_PROTOCOL: u8 = 83;

/// What the kernel must hold, complete: all that is ours and not in here must go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostState {
    /// The nftables tables.
    pub tables: BTreeMap<Family, Table>,
    /// Everything else.
    pub network: Network,
}

/// What we add to the host outside nftables. All of it is given back by `down`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// Routes, with [`ROUTE_PROTOCOL`].
    pub routes: BTreeSet<Route>,
    /// Policy routing rules, with [`ROUTE_PROTOCOL`].
    pub rules: BTreeSet<RoutingRule>,
    /// Addresses that an interface answers for.
    pub neighbours: BTreeSet<ProxyNeighbour>,
    /// Kernel settings; the value they had before is kept and put back.
    pub sysctls: BTreeMap<Sysctl, String>,
    /// Interfaces whose forwarded packets other programs' chains must let through: a tagged accept
    /// goes into each forward chain whose policy is drop.
    pub forwarded: BTreeSet<String>,
    /// Egress addresses that containers on an engine's bridge have themselves.
    pub own: BTreeMap<OwnAddress, Held>,
    /// What workloads' own network namespaces hold for names, by a process in each. One that was
    /// changed by somebody else is observed as empty.
    pub redirects: BTreeMap<u32, Redirect>,
}

/// `ip addr add ADDRESS dev DEVICE` and `ip route replace default … src ADDRESS`, in a workload's
/// network namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnAddress {
    /// A process in the namespace.
    pub pid: u32,
    /// The interface that gets it. Its default routes of the address's family get it as source.
    pub mac: MacAddress,
    /// Added as /32 or /128.
    pub address: IpAddr,
}

/// How much of an [`OwnAddress`] is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// The address, and as source of every default route by its interface.
    Whole,
    /// Somebody has changed it, or nobody finished.
    Partly,
}

/// `ip route DESTINATION [via GATEWAY] dev DEVICE table TABLE proto sortie`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// 254 is main.
    pub table: u32,
    /// A default route is `0.0.0.0/0` or `::/0`.
    pub destination: IpNet,
    /// The output device.
    pub device: String,
    /// The next hop; none where the destination is on the link.
    pub gateway: Option<IpAddr>,
}

/// `ip rule pref PRIORITY SELECTOR lookup TABLE proto sortie`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoutingRule {
    /// IPv6 instead of IPv4.
    pub v6: bool,
    /// Lower is asked first.
    pub priority: u32,
    /// Which packets.
    pub by: RuleBy,
    /// The table that is asked.
    pub table: u32,
}

/// Which packets a rule is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleBy {
    /// `iif DEVICE`.
    Input(String),
    /// `fwmark MARK/MASK`, with our mask.
    Mark(Mark),
}

/// `ip neigh add proxy ADDRESS dev DEVICE`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProxyNeighbour {
    /// Answered for by ARP or neighbour discovery.
    pub address: IpAddr,
    /// The interface that answers.
    pub device: String,
}

/// A path below `/proc/sys`, such as `net/ipv4/ip_forward`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sysctl(pub String);

/// What was found of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// The tables named `sortie`.
    pub tables: BTreeMap<Family, ObservedTable>,
    /// Everything else; `sysctls` holds those that we changed, with today's values.
    pub network: Network,
}

/// A table of ours as the kernel has it. Rules are not read back: the tag and the names of chains
/// stand for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedTable {
    /// The table's comment.
    pub tag: String,
    /// Chains by name.
    pub chains: BTreeSet<Name>,
    /// Sets and maps by name, with their elements.
    pub sets: BTreeMap<Name, Elements>,
}

impl From<HostState> for Observed {
    /// What would be observed if the kernel held exactly this.
    fn from(state: HostState) -> Self {
        let tables = state.tables.into_iter().map(|(family, table)| {
            let chains = table.chains.into_keys().collect();
            let sets = table
                .sets
                .into_iter()
                .map(|(name, set)| (name, set.elements))
                .collect();
            (
                family,
                ObservedTable {
                    tag: table.tag,
                    chains,
                    sets,
                },
            )
        });
        Self {
            tables: tables.collect(),
            network: state.network,
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.destination)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        write!(
            f,
            " dev {} table {} proto {ROUTE_PROTOCOL}",
            self.device, self.table
        )
    }
}

impl fmt::Display for OwnAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of process {}, at ", self.address, self.pid)?;
        let separators = [""].into_iter().chain(std::iter::repeat(":"));
        for (byte, separator) in self.mac.0.iter().zip(separators) {
            write!(f, "{separator}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Display for RoutingRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.v6 { "-6 " } else { "" };
        write!(
            f,
            "{family}pref {} {} lookup {}",
            self.priority, self.by, self.table
        )
    }
}

impl fmt::Display for RuleBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(device) => write!(f, "iif {device}"),
            Self::Mark(mark) => write!(f, "fwmark {mark}"),
        }
    }
}
