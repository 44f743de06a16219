//! What the plan must know of the host: its addresses, its uplinks, its settings.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
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
    /// The operator's settings.
    pub settings: Settings,
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

/// `default [via GATEWAY] dev DEVICE` in the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultRoute {
    /// IPv6 instead of IPv4.
    pub v6: bool,
    /// The output device.
    pub device: IfIndex,
    /// The next hop, where there is one.
    pub gateway: Option<IpAddr>,
}

/// What the operator configured, with defaults that need no file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Which bridges are guarded beyond those of networks that ask for it.
    pub guard: Guard,
    /// What a guarded bridge's unknown sources may do.
    pub unidentified: Unidentified,
    /// Never a policy's business, besides the built-in ranges.
    pub local_ranges: Vec<IpNet>,
    /// Interfaces that packets leave the host through, besides those with a default route.
    pub uplinks: BTreeMap<String, Gateways>,
    /// Where our chains sit among others'.
    pub priorities: Priorities,
}

/// The next hops of a configured uplink; absent ones are taken from its default routes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gateways {
    /// For IPv4.
    pub v4: Option<Ipv4Addr>,
    /// For IPv6.
    pub v6: Option<Ipv6Addr>,
}

/// The reach of the guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// Networks with the label `sortie.guard`, those that a policy names, and these.
    Networks(BTreeSet<String>),
    /// Every bridge, now or later, but these networks.
    AllExcept(BTreeSet<String>),
}

/// What happens to a source on a guarded bridge that belongs to no known workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unidentified {
    /// Nothing of it leaves.
    Drop,
    /// As without Sortie.
    NodeAddress,
}

/// Hook priorities (include/uapi/linux/netfilter_ipv4.h and netfilter_bridge.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Priorities {
    /// Bridge prerouting: before the bridge's own NAT.
    pub bridge_identify: i32,
    /// Inet prerouting: right after raw, before connection tracking.
    pub identify: i32,
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
            translate: 99,
            guard: 150,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            guard: Guard::Networks(BTreeSet::new()),
            unidentified: Unidentified::Drop,
            local_ranges: Vec::new(),
            uplinks: BTreeMap::new(),
            priorities: Priorities::default(),
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

impl Settings {
    /// Every range that is never a policy's business, engines' networks left out.
    pub fn local_ranges(&self) -> Vec<IpNet> {
        let built_in = BUILT_IN_LOCAL_RANGES
            .iter()
            .filter_map(|range| range.parse().ok());
        let mut ranges: Vec<IpNet> = built_in.chain(self.local_ranges.iter().copied()).collect();
        ranges.sort_unstable();
        IpNet::aggregate(&ranges)
    }
}

impl Environment {
    /// The interface that packets with this source leave through: the one that holds the address,
    /// unless nothing leaves through that one; else that of the family's best default route.
    pub fn uplink_of(&self, address: IpAddr, inside: &impl Fn(IfIndex) -> bool) -> Option<IfIndex> {
        let holder = self.addresses.get(&address).copied();
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

    /// The next hop of an uplink for a family: configured, or that of its best default route.
    pub fn gateway(&self, uplink: IfIndex, v6: bool) -> Option<IpAddr> {
        let configured = self.interfaces.get(&uplink).and_then(|i| self.settings.uplinks.get(&i.name));
        let configured = configured.and_then(|gateways| {
            if v6 { gateways.v6.map(IpAddr::from) } else { gateways.v4.map(IpAddr::from) }
        });
        configured.or_else(|| {
            let mut routes = self.default_routes.iter().filter(|r| r.v6 == v6 && r.device == uplink);
            routes.find_map(|route| route.gateway)
        })
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
