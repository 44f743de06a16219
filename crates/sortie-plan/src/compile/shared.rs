//! What workloads share: the base tables, policy sets, bridges, uplinks, egress addresses, and
//! everything outside nftables.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use sortie_api::workload::IfIndex;

use super::base;
use super::policy_set::{PolicySet, leaves_as};
use super::workload::named;
use crate::environment::Environment;
use crate::nft::key::Key;
use crate::nft::rule::Verdict::Accept;
use crate::nft::set::Data;
use crate::nft::{Family, Name};
use crate::state::{HostState, Network, ProxyNeighbour, Route, RoutingRule, Sysctl};

/// The main routing table (RT_TABLE_MAIN).
const MAIN_TABLE: u32 = 254;
/// An uplink's own table is this plus its interface index.
const UPLINK_TABLES: u32 = 83_000;
/// Asked before the main table (32766), behind what administrators usually add.
const UPLINK_RULE_PRIORITY: u32 = 8_300;

/// What the shared part is compiled from.
#[derive(Debug, Clone, Copy)]
pub struct Shared<'a> {
    /// The host.
    pub environment: &'a Environment,
    /// Interfaces that lead to workloads, not out: bridges, and veths of direct workloads.
    pub inside: &'a BTreeSet<IfIndex>,
    /// Bridges of guarded networks.
    pub guarded: &'a BTreeSet<IfIndex>,
    /// Bridges of networks that `guard: all` leaves out.
    pub exempt: &'a BTreeSet<IfIndex>,
    /// Every egress address of a policy, with its uplink.
    pub egress: &'a BTreeMap<IpAddr, Option<IfIndex>>,
    /// The policy sets of all workloads.
    pub sets: &'a BTreeMap<Name, (Arc<PolicySet>, usize)>,
    /// The workloads that have their address themselves.
    pub direct: &'a [Direct],
}

/// One address of a workload in direct mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Direct {
    /// The egress address, on the workload's own interface.
    pub address: IpAddr,
    /// The host's end.
    pub port: IfIndex,
    /// The uplink; none while there is no way out.
    pub uplink: Option<IfIndex>,
}

/// Compiles it.
pub fn shared(from: Shared<'_>) -> HostState {
    let mut state =
        HostState { tables: base::tables(&from.environment.settings), network: Network::default() };
    interfaces(&mut state, from);
    addresses(&mut state, from);
    for (set, _) in from.sets.values() {
        policy_set(&mut state, set);
    }
    for uplink in uplinks(from) {
        let (name, chain) = base::last_line(&from.environment.name_of(uplink));
        table(&mut state, Family::Netdev).chains.insert(name, chain);
    }
    for direct in from.direct {
        direct_network(&mut state.network, direct, from.environment);
    }
    state
}

/// Every interface that packets leave the host through.
pub fn uplinks(from: Shared<'_>) -> BTreeSet<IfIndex> {
    let environment = from.environment;
    let routes = environment.default_routes.iter().map(|route| route.device);
    let configured = environment.settings.uplinks.keys().filter_map(|name| environment.interface_named(name));
    let addresses = from.egress.values().copied().flatten();
    let direct = from.direct.iter().filter_map(|direct| direct.uplink);
    let all = routes.chain(configured).chain(addresses).chain(direct);
    all.filter(|index| !from.inside.contains(index) && environment.interfaces.contains_key(index)).collect()
}

fn interfaces(state: &mut HostState, from: Shared<'_>) {
    let direct: BTreeSet<IfIndex> = from.direct.iter().map(|direct| direct.port).collect();
    for index in from.inside {
        element(state, "inside".into(), Key::from(*index), Data::None);
        // A bridge's ports are checked in the bridge family; a direct port brings its own element.
        if !direct.contains(index) {
            element(state, "ingress".into(), Key::from(*index), Data::Verdict(Accept));
        }
    }
    for index in from.guarded {
        element(state, "guarded".into(), Key::from(*index), Data::None);
    }
    for index in from.exempt {
        element(state, "exempt".into(), Key::from(*index), Data::None);
    }
}

fn addresses(state: &mut HostState, from: Shared<'_>) {
    for range in from.environment.settings.local_ranges() {
        let last = Data::Through(Key::from(range.broadcast()));
        element(state, named("local", range.network()), Key::from(range.network()), last);
    }
    for (address, uplink) in from.egress {
        element(state, named("egress", *address), Key::from(*address), Data::None);
        if let Some(uplink) = uplink {
            element(state, named("usable", *address), Key::from(*address).interface(*uplink), Data::None);
        }
    }
}

fn policy_set(state: &mut HostState, set: &PolicySet) {
    let table = table(state, Family::Inet);
    table.sets.extend(set.maps());
    table.chains.extend(set.chains());
    table.chains.extend(set.egress_addresses().into_iter().map(leaves_as));
}

/// The host has a route to the workload, answers for its address on the uplink, and forwards.
fn direct_network(network: &mut Network, direct: &Direct, environment: &Environment) {
    let v6 = direct.address.is_ipv6();
    let port = environment.name_of(direct.port);
    network.forwarded.insert(port.clone());
    network.routes.insert(Route {
        table: MAIN_TABLE,
        destination: IpNet::from(direct.address),
        device: port.clone(),
        gateway: None,
    });
    let mut set = |name: String, value: &str| network.sysctls.insert(Sysctl(name), value.to_owned());
    set(if v6 { "net/ipv6/conf/all/forwarding" } else { "net/ipv4/ip_forward" }.to_owned(), "1");
    let Some(uplink) = direct.uplink else { return };
    let device = environment.name_of(uplink);
    let family = if v6 { "ipv6" } else { "ipv4" };
    // Else the first reply waits up to 0.8 s (arp(7), proxy_delay).
    set(format!("net/{family}/neigh/{device}/proxy_delay"), "0");
    if v6 {
        set(format!("net/ipv6/conf/{device}/proxy_ndp"), "1");
        // A forwarding host takes no router's advertisements unless told to (ip-sysctl, accept_ra).
        set(format!("net/ipv6/conf/{device}/accept_ra"), "2");
    }
    network.neighbours.insert(ProxyNeighbour { address: direct.address, device: device.clone() });
    if environment.default_route(v6).is_none_or(|route| route.device != uplink) {
        if !v6 {
            // Replies come from where the main table would not send: loose (RFC 3704, section 2.4).
            network.sysctls.insert(Sysctl(format!("net/ipv4/conf/{device}/rp_filter")), "2".to_owned());
        }
        by_uplink(network, uplink, &port, v6, environment);
    }
}

/// Packets that enter through `port` are routed by the uplink's own table.
fn by_uplink(network: &mut Network, uplink: IfIndex, port: &str, v6: bool, environment: &Environment) {
    let table = UPLINK_TABLES + uplink.0;
    let device = environment.name_of(uplink);
    network.rules.insert(RoutingRule { v6, priority: UPLINK_RULE_PRIORITY, input: port.to_owned(), table });
    let subnets = environment.interfaces.get(&uplink).map_or(&[][..], |interface| &interface.subnets);
    for subnet in subnets.iter().filter(|subnet| matches!(subnet, IpNet::V6(_)) == v6) {
        network.routes.insert(Route { table, destination: *subnet, device: device.clone(), gateway: None });
    }
    if let Some(gateway) = environment.gateway(uplink, v6) {
        let everything = if v6 { IpNet::V6(ipnet::Ipv6Net::default()) } else { IpNet::V4(ipnet::Ipv4Net::default()) };
        network.routes.insert(Route { table, destination: everything, device, gateway: Some(gateway) });
    }
}

fn element(state: &mut HostState, set: Name, key: Key, data: Data) {
    if let Some(set) = table(state, Family::Inet).sets.get_mut(&set) {
        set.elements.insert(key, data);
    }
}

fn table(state: &mut HostState, family: Family) -> &mut crate::nft::Table {
    state.tables.entry(family).or_default()
}
