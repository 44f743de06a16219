//! What workloads share, and what is outside nftables: [`skeleton`] for what changes rarely,
//! [`address`] and [`policy_set`](super::policy_set) for what comes and goes with policies.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use sortie_api::workload::{IfIndex, MacAddress};

use super::steering::{Steering, by_uplink};
use super::workload::{Element, named};
use super::{base, gateway, inbound, sockets};
use crate::environment::Environment;
use crate::nft::key::Key;
use crate::nft::rule::Verdict::Accept;
use crate::nft::set::Data;
use crate::nft::{Family, Name};
use crate::state::{Held, HostState, Network, OwnAddress, ProxyNeighbour, Route, RuleBy, Sysctl};

/// The main routing table (RT_TABLE_MAIN).
pub(crate) const MAIN_TABLE: u32 = 254;

/// Bytes and times in the events of flows; off by default (nf_conntrack-sysctl).
const FLOW_RECORDS: [&str; 2] = [
    "net/netfilter/nf_conntrack_acct",
    "net/netfilter/nf_conntrack_timestamp",
];

/// What the host looks like to the plan, workloads and policies reduced to interfaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// Bridges that workloads are on.
    pub bridges: BTreeSet<IfIndex>,
    /// The host's ends of direct workloads' veths.
    pub veths: BTreeSet<IfIndex>,
    /// The bridges of guarded networks by name, those that are not there included.
    pub guarded: BTreeSet<String>,
    /// Bridges of networks that `guard: All` leaves out.
    pub exempt: BTreeSet<IfIndex>,
    /// Interfaces that packets leave the host through.
    pub uplinks: BTreeSet<IfIndex>,
    /// Addresses that workloads have themselves.
    pub direct: Vec<Direct>,
    /// How deep in the tree the cgroups of managed workloads are.
    pub cgroup_levels: BTreeSet<u32>,
    /// Uplinks of egress addresses that the host's routes do not lead to.
    pub steering: Steering,
    /// Whether any workload needs the gateway, or clients may ask it.
    pub by_gateway: bool,
}

impl Topology {
    /// Whether an interface leads to workloads, not out.
    pub fn is_inside(&self, index: IfIndex) -> bool {
        self.bridges.contains(&index) || self.veths.contains(&index)
    }
}

/// One address of a workload in direct mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Direct {
    /// The egress address, on the workload's own interface.
    pub address: IpAddr,
    /// The host's interface that leads there: its end of the veth, or the engine's bridge.
    pub port: IfIndex,
    /// The uplink; none while there is no way out.
    pub uplink: Option<IfIndex>,
    /// What it is beside, on an engine's bridge.
    pub beside: Option<Beside>,
}

/// The engine's address that an address of a container's own is beside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    /// The host reaches the container by it.
    pub address: IpAddr,
    /// A process of the container; 0 while there is none.
    pub pid: u32,
    /// The container's interface with both.
    pub mac: MacAddress,
}

/// The base tables, interfaces, local ranges, and what direct workloads need of the host.
pub fn skeleton(environment: &Environment, topology: &Topology) -> HostState {
    let mut state = HostState {
        tables: base::tables(environment),
        network: Network::default(),
    };
    for (set, key, data) in interfaces(topology)
        .into_iter()
        .chain(local_ranges(environment))
        .chain(inbound::closed(environment, topology))
        .chain(topology.steering.answers(topology, environment))
    {
        if let Some(set) = state
            .tables
            .get_mut(&Family::Inet)
            .and_then(|inet| inet.sets.get_mut(&set))
        {
            set.elements.insert(key, data);
        }
    }
    if let Some(netdev) = state.tables.get_mut(&Family::Netdev) {
        let uplinks = topology.uplinks.iter();
        netdev
            .chains
            .extend(uplinks.map(|uplink| base::last_line(&environment.name_of(*uplink))));
    }
    for sysctl in FLOW_RECORDS {
        state
            .network
            .sysctls
            .insert(Sysctl(sysctl.to_owned()), "1".to_owned());
    }
    for direct in &topology.direct {
        direct_network(&mut state.network, direct, topology, environment);
    }
    let steering = &topology.steering;
    steering.network(&mut state.network, topology, environment);
    if let Some(inet) = state.tables.get_mut(&Family::Inet) {
        inet.chains.extend(steering.chains(environment));
        let levels = &topology.cgroup_levels;
        inet.chains.extend(sockets::chains(environment, levels));
        inet.chains.extend(inbound::chains(environment, topology));
        inet.chains.extend(gateway::chains(environment, topology));
    }
    state
}

/// The elements of one egress address that any policy names.
pub fn address(address: IpAddr, uplink: Option<IfIndex>) -> Vec<Element> {
    let own = Key::from(address);
    let mut elements = vec![(Family::Inet, named!("egress", address), own, Data::None)];
    if let Some(uplink) = uplink {
        elements.push((
            Family::Inet,
            named!("usable", address),
            own.interface(uplink),
            Data::None,
        ));
    }
    elements
}

fn interfaces(topology: &Topology) -> Vec<(Name, Key, Data)> {
    let in_set =
        |name: &'static str| move |index: &IfIndex| (name.into(), Key::from(*index), Data::None);
    // A bridge's ports are checked in the bridge family; a veth brings its own element.
    let bridges = topology.bridges.iter();
    let accepted =
        bridges.map(|index| ("ingress".into(), Key::from(*index), Data::Verdict(Accept)));
    let inside = topology
        .bridges
        .union(&topology.veths)
        .map(in_set("inside"));
    let guarded = topology.guarded.iter();
    let guarded = guarded.map(|name| {
        let key = Key::new().interface_name(name);
        ("guarded".into(), key, Data::None)
    });
    accepted
        .chain(inside)
        .chain(guarded)
        .chain(topology.exempt.iter().map(in_set("exempt")))
        .collect()
}

fn local_ranges(environment: &Environment) -> impl Iterator<Item = (Name, Key, Data)> {
    environment.local_ranges().into_iter().map(|range| {
        let through = Data::Through(Key::from(range.broadcast()));
        (
            named!("local", range.network()),
            Key::from(range.network()),
            through,
        )
    })
}

/// The host has a route to the workload, answers for its address on the uplink, and forwards. While
/// the interface that leads there is gone, as an engine's bridge is with its last container, nobody
/// can be reached by it: the rest comes with the interface.
fn direct_network(
    network: &mut Network,
    direct: &Direct,
    topology: &Topology,
    environment: &Environment,
) {
    let v6 = direct.address.is_ipv6();
    if let Some(beside) = direct.beside.as_ref().filter(|beside| beside.pid != 0) {
        let own = OwnAddress {
            pid: beside.pid,
            mac: beside.mac,
            address: direct.address,
        };
        network.own.insert(own, Held::Whole);
    }
    let Some(port) = environment.interfaces.get(&direct.port) else {
        return;
    };
    let port = port.name.clone();
    // Of its own bridges the engine forwards what their containers send, and its answers.
    if direct.beside.is_none() {
        network.forwarded.insert(port.clone());
    }
    network.routes.insert(Route {
        table: MAIN_TABLE,
        destination: IpNet::from(direct.address),
        device: port.clone(),
        gateway: direct.beside.as_ref().map(|beside| beside.address),
    });
    let mut set =
        |name: String, value: &str| network.sysctls.insert(Sysctl(name), value.to_owned());
    set(
        if v6 {
            "net/ipv6/conf/all/forwarding"
        } else {
            "net/ipv4/ip_forward"
        }
        .to_owned(),
        "1",
    );
    let Some(uplink) = direct.uplink else { return };
    let Some(device) = environment.interfaces.get(&uplink) else {
        return;
    };
    let device = device.name.clone();
    let family = if v6 { "ipv6" } else { "ipv4" };
    // Else the first reply waits up to 0.8 s (arp(7), proxy_delay).
    set(format!("net/{family}/neigh/{device}/proxy_delay"), "0");
    if v6 {
        set(format!("net/ipv6/conf/{device}/proxy_ndp"), "1");
        // A forwarding host takes no router's advertisements unless told to (ip-sysctl, accept_ra).
        set(format!("net/ipv6/conf/{device}/accept_ra"), "2");
    }
    network.neighbours.insert(ProxyNeighbour {
        address: direct.address,
        device: device.clone(),
    });
    // On a bridge it is told apart by its mark.
    if direct.beside.is_none() && !environment.is_default_uplink(uplink, v6) {
        let by = RuleBy::Input(port);
        by_uplink(network, by, (uplink, v6), topology, environment);
    }
}
