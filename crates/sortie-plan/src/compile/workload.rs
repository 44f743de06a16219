//! The elements of one workload: at most nine for each of its addresses, and seven for each family
//! of its cgroup.

use std::net::IpAddr;
use std::sync::Arc;

use sortie_api::workload::{Cgroup, CgroupId, Families, IfIndex, MacAddress};

use super::statement::drop_chain;
use super::steering::steer;
use super::treatment::{Treated, Treatment};
use crate::flow::Source;
use crate::nft::key::Key;
use crate::nft::rule::Verdict::{Goto, Jump};
use crate::nft::set::Data;
use crate::nft::{Family, Name};

/// The set of an address's family: `bound4` or `bound6`.
macro_rules! named {
    ($set:literal, $address:expr) => {
        Name::Borrowed(if $address.is_ipv6() {
            concat!($set, "6")
        } else {
            concat!($set, "4")
        })
    };
}
pub(crate) use named;

/// What a workload is to the kernel, both families. What many have in common is shared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    /// What becomes of its IPv4 packets.
    pub v4: Arc<Treated>,
    /// What becomes of its IPv6 packets.
    pub v6: Arc<Treated>,
    /// Its interfaces.
    pub endpoints: Box<[Endpoint]>,
    /// Where its sockets are, in the host's network namespace.
    pub cgroup: Option<Cgroup>,
}

/// An interface of a workload as the kernel must know it: a network's name is nothing to it, and
/// one for each of so many takes memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The host's end: a bridge port, or a veth of its own.
    pub port: IfIndex,
    /// The bridge that `port` belongs to; none for a veth of its own.
    pub bridge: Option<IfIndex>,
    /// The workload's end.
    pub mac: MacAddress,
    /// The families whose default route, inside, is by this interface.
    pub default_route: Families,
    /// Whether its network is guarded.
    pub guarded: bool,
    /// The addresses that are this workload's alone.
    pub addresses: Box<[IpAddr]>,
}

/// One element of one set.
pub type Element = (Family, Name, Key, Data);

impl Placement {
    /// The treatment of a family.
    pub fn of_family(&self, v6: bool) -> &Treatment {
        &self.treated(v6).treatment
    }

    /// The same, with what it means for old flows.
    pub fn treated(&self, v6: bool) -> &Treated {
        if v6 { &self.v6 } else { &self.v4 }
    }

    /// The endpoint that has this address.
    pub fn endpoint_of(&self, address: IpAddr) -> Option<&Endpoint> {
        let mut endpoints = self.endpoints.iter();
        endpoints.find(|endpoint| endpoint.addresses.contains(&address))
    }

    /// The endpoint that the workload sends to the outside by: that of its default route, else the
    /// first with an address of the family.
    pub fn own_endpoint(&self, v6: bool) -> Option<&Endpoint> {
        let endpoints = || {
            let endpoints = self.endpoints.iter();
            endpoints.filter(move |endpoint| of_family(endpoint, v6).is_some())
        };
        endpoints()
            .find(|endpoint| endpoint.default_route.has(v6))
            .or_else(|| endpoints().next())
    }

    /// Whether any packet of it is restricted by a policy.
    pub fn is_managed(&self) -> bool {
        self.v4.treatment.is_managed() || self.v6.treatment.is_managed()
    }

    /// Its endpoints that the kernel must know.
    fn known(&self) -> impl Iterator<Item = &Endpoint> {
        let managed = self.is_managed();
        let endpoints = self.endpoints.iter();
        endpoints.filter(move |endpoint| managed || endpoint.guarded)
    }

    /// Whose flows are its: by the addresses that the kernel must know, and by its cgroup.
    pub fn sources(&self) -> impl Iterator<Item = Source> {
        let addresses = self
            .known()
            .flat_map(|endpoint| endpoint.addresses.iter().copied());
        let families = [false, true].into_iter();
        let managed = families.filter(|v6| self.of_family(*v6).is_managed());
        let of_cgroup = managed.filter_map(|v6| {
            let id = self.cgroup?.id;
            Some(Source::Cgroup { id, v6 })
        });
        addresses.map(Source::Address).chain(of_cgroup)
    }

    /// Its bridge ports together with its addresses on other bridges: with several default routes,
    /// as Podman makes them, or a reply on another way than the question's, its kernel sends with
    /// one interface's address through another.
    fn crossed(&self) -> impl Iterator<Item = (&Endpoint, IpAddr)> {
        let on_bridges = || self.known().filter(|endpoint| endpoint.bridge.is_some());
        on_bridges().flat_map(move |endpoint| {
            let others = on_bridges().filter(|other| other.port != endpoint.port);
            others.flat_map(move |other| other.addresses.iter().map(move |it| (endpoint, *it)))
        })
    }

    /// Everything the kernel holds for it.
    pub fn elements(&self) -> Vec<Element> {
        let crossed = self
            .crossed()
            .map(|(port, address)| bound_at(port, address));
        // Of one interface with an address of each family there are 13.
        let mut elements = Vec::with_capacity(16);
        elements.extend(crossed);
        for endpoint in self.known() {
            elements.push(port(endpoint));
            for address in &endpoint.addresses {
                let treatment = self.of_family(address.is_ipv6());
                identity(&mut elements, endpoint, *address, treatment);
                treated(&mut elements, *address, treatment, endpoint.guarded);
            }
        }
        for v6 in [false, true] {
            if let (Treatment::Own { address, .. }, Some(endpoint)) =
                (self.of_family(v6), self.own_endpoint(v6))
            {
                let treatment = self.of_family(v6);
                bound(&mut elements, endpoint, *address);
                treated(&mut elements, *address, treatment, false);
            }
        }
        if let Some(cgroup) = self.cgroup.filter(|_| self.is_managed()) {
            of_cgroup(&mut elements, cgroup.id, self);
        }
        elements
    }
}

fn port(endpoint: &Endpoint) -> Element {
    let port = Key::from(endpoint.port);
    match endpoint.bridge {
        Some(_) => (Family::Bridge, "ports".into(), port, Data::None),
        None => (
            Family::Inet,
            "ingress".into(),
            port,
            Data::Verdict(Goto("port".into())),
        ),
    }
}

/// The first address of a family.
pub(crate) fn of_family(endpoint: &Endpoint, v6: bool) -> Option<IpAddr> {
    let mut addresses = endpoint.addresses.iter();
    addresses.find(|address| address.is_ipv6() == v6).copied()
}

/// Where it may come from, that nobody else may claim it, and that it stays inside.
fn identity(
    elements: &mut Vec<Element>,
    endpoint: &Endpoint,
    address: IpAddr,
    treatment: &Treatment,
) {
    bound(elements, endpoint, address);
    if !matches!(treatment, Treatment::Direct { .. }) {
        let own = Key::from(address);
        elements.push((Family::Netdev, named!("own", address), own, Data::None));
    }
}

/// Where it may come from, and that nobody else may claim it.
fn bound(elements: &mut Vec<Element>, endpoint: &Endpoint, address: IpAddr) {
    let own = Key::from(address);
    elements.push(bound_at(endpoint, address));
    // On a bridge too where the workload is on none: a neighbour there may not claim it.
    elements.push((Family::Bridge, named!("known", address), own, Data::None));
}

fn bound_at(endpoint: &Endpoint, address: IpAddr) -> Element {
    let key = Key::new().interface(endpoint.port);
    let key = key.mac(endpoint.mac).ip(address);
    let family = if endpoint.bridge.is_some() {
        Family::Bridge
    } else {
        Family::Inet
    };
    (family, named!("bound", address), key, Data::None)
}

/// What it may leave with.
fn treated(elements: &mut Vec<Element>, address: IpAddr, treatment: &Treatment, guarded: bool) {
    let own = Key::from(address);
    let sets = if address.is_ipv6() { &OF_V6 } else { &OF_V4 };
    let mut add = |set, key, data| elements.push((Family::Inet, set, key, data));
    match treatment {
        Treatment::Unmanaged if guarded => add(named!("plain", address), own, Data::None),
        Treatment::Own {
            address: egress,
            uplink,
            mark,
        } => {
            if let Some(mark) = mark {
                add(sets.route.into(), own, Data::Verdict(Goto(steer(*mark))));
            }
            // Its bridge's address is translated, for sockets that are bound to it; its own to
            // itself, so that nobody else's rule decides.
            add(sets.snat.into(), own, Data::Value(Key::from(*egress)));
            if let Some(uplink) = uplink.filter(|_| address == *egress) {
                add(named!("direct", address), own.interface(uplink), Data::None);
            }
            add(sets.managed.into(), own, Data::None);
        }
        Treatment::Direct { uplink } => {
            // Translated to itself, so that nobody else's rule decides.
            add(sets.snat.into(), own, Data::Value(own));
            if let Some(uplink) = uplink {
                add(
                    named!("direct", address),
                    own.interface(*uplink),
                    Data::None,
                );
            }
            add(sets.managed.into(), own, Data::None);
        }
        _ => decided(elements, own, sets, treatment),
    }
}

/// The same for its sockets in the host's network namespace.
fn of_cgroup(elements: &mut Vec<Element>, id: CgroupId, placement: &Placement) {
    let own = Key::new().cgroup(id);
    let both = own.cgroup(id);
    elements.push((Family::Inet, "own-flows".into(), both, Data::None));
    for (treated, sockets, sets) in [
        (&placement.v4, "cgroups4", &OF_CGROUP_V4),
        (&placement.v6, "cgroups6", &OF_CGROUP_V6),
    ] {
        if treated.treatment.is_managed() {
            elements.push((Family::Inet, sockets.into(), own, Data::None));
            decided(elements, own, sets, &treated.treatment);
        }
    }
}

/// The sets that say what becomes of one family's packets.
struct Sets {
    managed: &'static str,
    route: &'static str,
    snat: &'static str,
    translate: &'static str,
    allowed: &'static str,
    check: &'static str,
}

macro_rules! sets {
    ($prefix:literal, $digit:literal) => {
        Sets {
            managed: concat!($prefix, "managed", $digit),
            route: concat!($prefix, "route", $digit),
            snat: concat!($prefix, "snat", $digit),
            translate: concat!($prefix, "translate", $digit),
            allowed: concat!($prefix, "allowed", $digit),
            check: concat!($prefix, "check", $digit),
        }
    };
}

/// By the workload's own address.
const OF_V4: Sets = sets!("", "4");
const OF_V6: Sets = sets!("", "6");
/// By the cgroup that the flow is of.
const OF_CGROUP_V4: Sets = sets!("cgroup-", "4");
const OF_CGROUP_V6: Sets = sets!("cgroup-", "6");

/// What policies decide, for what is known as `own`.
fn decided(elements: &mut Vec<Element>, own: Key, sets: &Sets, treatment: &Treatment) {
    let mut add =
        |set: &'static str, key, data| elements.push((Family::Inet, set.into(), key, data));
    match treatment {
        Treatment::Unmanaged => return,
        // Without an interface of its own there is nothing that it may have.
        Treatment::Direct { .. } | Treatment::Own { .. } => {}
        Treatment::Blocked(refusal) => {
            let why = drop_chain((*refusal).into());
            add(sets.check, own, Data::Verdict(Goto(why)));
        }
        Treatment::Translate {
            address: egress,
            uplink,
            mark,
        } => {
            if let Some(mark) = mark {
                add(sets.route, own, Data::Verdict(Goto(steer(*mark))));
            }
            add(sets.snat, own, Data::Value(Key::from(*egress)));
            if let Some(uplink) = uplink {
                add(sets.allowed, own.ip(*egress).interface(*uplink), Data::None);
            }
        }
        Treatment::Set(set) => {
            if let Some(route) = set.route_chain() {
                add(sets.route, own, Data::Verdict(Goto(route)));
            }
            add(
                sets.translate,
                own,
                Data::Verdict(Goto(set.translate_chain())),
            );
            // A chain has no rules yet for a packet that was on its way when it was made: back in the
            // guard, that is refused.
            add(sets.check, own, Data::Verdict(Jump(set.check_chain())));
        }
    }
    add(sets.managed, own, Data::None);
}
