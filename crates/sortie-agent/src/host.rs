//! What the plan must know of the host, from the kernel's facts.

use std::collections::{BTreeMap, BTreeSet};

use sortie_api::config::AgentConfig;
use sortie_api::workload::IfIndex;
use sortie_kernel::facts::{self, Facts, Link};
use sortie_plan::environment::{DefaultRoute, Environment, Interface, Priorities};

/// Ports of bridges are left out: they are workloads' business, and come and go with them. So are
/// link-local addresses, and those that are still tentative.
pub fn environment(facts: &Facts, config: &AgentConfig) -> Environment {
    let bridges: BTreeSet<IfIndex> = facts
        .links
        .iter()
        .filter(|link| link.kind.as_deref() == Some("bridge"))
        .map(|link| link.index)
        .collect();
    let is_port = |link: &Link| link.master.is_some_and(|master| bridges.contains(&master));
    let mut interfaces: BTreeMap<IfIndex, Interface> = facts
        .links
        .iter()
        .filter(|link| !is_port(link))
        .map(|link| {
            let loopback = link.name == "lo" || link.kind.as_deref() == Some("dummy");
            (
                link.index,
                Interface {
                    name: link.name.clone(),
                    loopback,
                    subnets: Vec::new(),
                },
            )
        })
        .collect();
    let usable = facts
        .addresses
        .iter()
        .filter(|a| !a.tentative && !a.duplicate && !is_link_local(a.net.addr()));
    let mut addresses = BTreeMap::new();
    for address in usable {
        if let Some(interface) = interfaces.get_mut(&address.link) {
            interface.subnets.push(address.net);
            addresses.insert(address.net.addr(), address.link);
        }
    }
    for interface in interfaces.values_mut() {
        interface.subnets.sort_unstable();
    }
    let known = |routes: &[facts::DefaultRoute]| {
        let mut routes: Vec<_> = routes
            .iter()
            .filter(|route| interfaces.contains_key(&route.link))
            .map(|route| DefaultRoute {
                v6: route.v6,
                device: route.link,
                gateway: route.gateway,
                metric: route.metric,
            })
            .collect();
        routes.sort_by_key(|route| route.metric);
        routes
    };
    Environment {
        default_routes: known(&facts.defaults),
        other_default_routes: known(&facts.other_defaults),
        interfaces,
        addresses,
        gated: false,
        config: config.clone(),
        priorities: Priorities::default(),
    }
}

fn is_link_local(address: std::net::IpAddr) -> bool {
    match address {
        std::net::IpAddr::V4(v4) => v4.is_link_local(),
        std::net::IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
