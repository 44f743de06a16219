//! What the plan must know of the host: its addresses, its uplinks, its settings.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use sortie_api::config::AgentConfig;
use sortie_api::workload::IfIndex;

/// The host as a plan sees it; all of it is observed or configured, never decided here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// By index.
    pub interfaces: BTreeMap<IfIndex, Interface>,
    /// The host's usable addresses (IPv6 ones that are still tentative left out).
    pub addresses: BTreeMap<IpAddr, IfIndex>,
    /// Default routes of the main table, best metric first.
    pub default_routes: Vec<DefaultRoute>,
    /// Default routes of other tables than the main one, ours left out: they tell next hops only.
    pub other_default_routes: Vec<DefaultRoute>,
    /// What the operator configured.
    pub config: AgentConfig,
    /// Where our chains sit among others'.
    pub priorities: Priorities,
    /// Our tables end with this process, and what is left closes by itself: a gate behind the guard
    /// lets through only what the guard has marked ([`Mark::PASS`](crate::mark::Mark::PASS)).
    pub gated: bool,
}

/// A network interface of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name today.
    pub name: String,
    /// `lo`, and others that nothing leaves through.
    pub loopback: bool,
    /// The networks its addresses are in.
    pub subnets: Vec<IpNet>,
}

/// `default [via GATEWAY] dev DEVICE metric METRIC`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultRoute {
    /// IPv6 instead of IPv4.
    pub v6: bool,
    /// The output device.
    pub device: IfIndex,
    /// The next hop, where there is one.
    pub gateway: Option<IpAddr>,
    /// Lower is preferred.
    pub metric: u32,
}

/// How an uplink reaches what is not on its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextHop {
    /// By this router.
    Via(IpAddr),
    /// Everything is on the link, as on a tunnel.
    OnLink,
}

/// Hook priorities (include/uapi/linux/netfilter_ipv4.h and netfilter_bridge.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Priorities {
    /// Bridge prerouting: before the bridge's own NAT.
    pub bridge_identify: i32,
    /// Inet prerouting: right after raw, before connection tracking.
    pub identify: i32,
    /// Inet prerouting: behind connection tracking, before any translation of the destination.
    pub inbound: i32,
    /// Inet prerouting: before every engine's translation of destinations.
    pub stand_ins: i32,
    /// Inet prerouting: right after the destination's translation, so that marks are set for the
    /// same destination that is translated and checked later.
    pub classify: i32,
    /// Inet postrouting: before every other source NAT.
    pub translate: i32,
    /// Inet postrouting: after every source NAT.
    pub guard: i32,
}

impl Default for Priorities {
    fn default() -> Self {
        Self {
            bridge_identify: -300,
            identify: -299,
            inbound: -150,
            stand_ins: -101,
            classify: -90,
            translate: 99,
            guard: 150,
        }
    }
}

/// Link-local, multicast and loopback: RFC 3927, 5771, 1122; RFC 4291, sections 2.5.3, 2.5.6, 2.7.
const BUILT_IN_LOCAL_RANGES: [&str; 7] = [
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "255.255.255.255/32",
    "::1/128",
    "fe80::/10",
    "ff00::/8",
];

impl Environment {
    /// Every range that is never a policy's business, engines' networks left out.
    pub fn local_ranges(&self) -> Vec<IpNet> {
        let built_in = BUILT_IN_LOCAL_RANGES
            .iter()
            .filter_map(|range| range.parse().ok());
        let mut ranges: Vec<IpNet> = built_in
            .chain(self.config.local_ranges.iter().copied())
            .collect();
        ranges.sort_unstable();
        IpNet::aggregate(&ranges)
    }

    /// The interface that packets with this source leave through: the one that holds the address,
    /// or, where none does, whose subnet it is in, unless nothing leaves through that one; else that
    /// of the family's best default route.
    pub fn uplink_of(&self, address: IpAddr, inside: &impl Fn(IfIndex) -> bool) -> Option<IfIndex> {
        let near = || {
            let near = |interface: &Interface| {
                let mut subnets = interface.subnets.iter();
                subnets.any(|subnet| subnet.contains(&address))
            };
            let mut interfaces = self.interfaces.iter();
            let found = interfaces.find(|(index, i)| !inside(**index) && !i.loopback && near(i));
            found.map(|(index, _)| *index)
        };
        let holder = self.addresses.get(&address).copied().or_else(near);
        holder
            .filter(|index| {
                !inside(*index) && self.interfaces.get(index).is_some_and(|i| !i.loopback)
            })
            .or_else(|| {
                self.default_route(address.is_ipv6())
                    .map(|route| route.device)
            })
    }

    /// The best default route of a family.
    pub fn default_route(&self, v6: bool) -> Option<&DefaultRoute> {
        self.default_routes.iter().find(|route| route.v6 == v6)
    }

    /// Whether the host's routes send everything by this uplink that no other route is for.
    pub fn is_default_uplink(&self, uplink: IfIndex, v6: bool) -> bool {
        let mut routes = self.default_routes.iter().filter(|route| route.v6 == v6);
        let Some(best) = self.default_route(v6) else {
            return false;
        };
        routes.all(|route| route.metric > best.metric || route.device == uplink)
    }

    /// The next hop of an uplink for a family, in this order: configured, that of its best default
    /// route in the main table, that of its default route in another one.
    pub fn next_hop(&self, uplink: IfIndex, v6: bool) -> Option<NextHop> {
        let name = &self.interfaces.get(&uplink)?.name;
        let configured = self
            .config
            .uplinks
            .iter()
            .find(|configured| configured.interface == *name);
        let configured = configured.and_then(|uplink| {
            if v6 {
                uplink.gateway6.map(IpAddr::V6)
            } else {
                uplink.gateway4.map(IpAddr::V4)
            }
        });
        if let Some(gateway) = configured {
            return Some(NextHop::Via(gateway));
        }
        let routes = self.default_routes.iter().chain(&self.other_default_routes);
        let mut own = routes.filter(|route| route.v6 == v6 && route.device == uplink);
        own.next()
            .map(|route| route.gateway.map_or(NextHop::OnLink, NextHop::Via))
    }

    /// The interface with this name.
    pub fn interface_named(&self, name: &str) -> Option<IfIndex> {
        self.interfaces
            .iter()
            .find(|(_, interface)| interface.name == name)
            .map(|(index, _)| *index)
    }

    /// The name of an interface; its number where it is gone.
    pub fn name_of(&self, index: IfIndex) -> String {
        self.interfaces
            .get(&index)
            .map_or_else(|| format!("#{}", index.0), |i| i.name.clone())
    }
}
