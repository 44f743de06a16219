//! Addresses that containers on an engine's bridge have themselves, beside the engine's: given, taken
//! back, looked at. Each is an address on the container's interface and the source of its default
//! routes.
//!
//! What was given is noted first, with its namespace: a later process knows where to look, and what
//! is gone with its container is forgotten.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, CacheInfo,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use serde::{Deserialize, Serialize};
use sortie_api::workload::MacAddress;
use sortie_plan::state::{Held, OwnAddress};

use crate::error::Error;
use crate::facts::{self, Link};
use crate::netns::{Identity, Namespace};
use crate::network::unless;
use crate::notes;
use crate::rtnl::{Rtnetlink, Task};

/// The file's name in the state folder.
const FILE: &str = "own-addresses.json";
/// `INFINITY_LIFE_TIME` (include/net/addrconf.h).
const FOR_EVER: u32 = u32::MAX;

/// All that were given.
#[derive(Debug)]
pub(crate) struct OwnAddresses {
    file: PathBuf,
    notes: Vec<Note>,
    /// What was there of each when it was looked at last.
    found: BTreeMap<OwnAddress, Held>,
}

/// Which containers' namespaces are looked into. A look takes some 0.4 ms, and the host
/// changes with each container that anybody starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Every one.
    Everywhere,
    /// That of this process, and those that were given something since the last look.
    Into(u32),
    /// Only the latter; of the others what was found last is believed.
    Nowhere,
}

impl Look {
    /// Whether that of a process is looked into in any case.
    pub(crate) fn is_into(self, pid: u32) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Into(into) => pid == into,
            Self::Nowhere => false,
        }
    }
}

/// One that was given, or is about to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    pid: u32,
    /// The namespace's identity, so that another process with this number is not taken for it.
    device: u64,
    inode: u64,
    mac: MacAddress,
    address: IpAddr,
}

impl Note {
    fn own(&self) -> OwnAddress {
        OwnAddress {
            pid: self.pid,
            mac: self.mac,
            address: self.address,
        }
    }

    /// The namespace, if it is still that one.
    fn namespace(&self) -> Result<Option<Namespace>, Error> {
        let found = Namespace::foreign(self.pid)?;
        let identity = Identity {
            device: self.device,
            inode: self.inode,
        };
        Ok(found.filter(|namespace| namespace.identity() == identity))
    }
}

impl OwnAddresses {
    /// Those noted in a state folder.
    pub(crate) fn load(state: &Path) -> Result<Self, Error> {
        let file = state.join(FILE);
        let notes = notes::load(&file, "containers keep the addresses that they have")?;
        Ok(Self {
            file,
            notes,
            found: BTreeMap::new(),
        })
    }

    /// Gives an address. A container that has ended, or has lost the interface, needs none.
    pub(crate) fn add(&mut self, own: &OwnAddress) -> Result<(), Error> {
        self.found.remove(own);
        let Some(namespace) = Namespace::foreign(own.pid)? else {
            return Ok(());
        };
        let identity = namespace.identity();
        let note = Note {
            pid: own.pid,
            device: identity.device,
            inode: identity.inode,
            mac: own.mac,
            address: own.address,
        };
        if !self.notes.contains(&note) {
            self.notes.push(note);
            notes::save(&self.file, &self.notes)?;
        }
        namespace.enter(|| give(own))?
    }

    /// Takes it back.
    pub(crate) fn delete(&mut self, own: &OwnAddress) -> Result<(), Error> {
        self.found.remove(own);
        for note in self.notes.iter().filter(|note| note.own() == *own) {
            if let Some(namespace) = note.namespace()? {
                namespace.enter(|| take(own))??;
            }
        }
        let before = self.notes.len();
        self.notes.retain(|note| note.own() != *own);
        if self.notes.len() == before {
            return Ok(());
        }
        notes::save(&self.file, &self.notes)
    }

    /// Those that there is anything of. The others are forgotten.
    pub(crate) fn observe(&mut self, look: Look) -> Result<BTreeMap<OwnAddress, Held>, Error> {
        let mut found = BTreeMap::new();
        for note in &self.notes {
            if !look.is_into(note.pid)
                && let Some(held) = self.found.get(&note.own())
            {
                found.insert(note.own(), *held);
                continue;
            }
            let Some(namespace) = note.namespace()? else {
                continue;
            };
            let own = note.own();
            if let Some(there) = namespace.enter(|| held(&own))?? {
                found.insert(own, there);
            }
        }
        self.notes.retain(|note| found.contains_key(&note.own()));
        self.found.clone_from(&found);
        Ok(found)
    }
}

fn give(own: &OwnAddress) -> Result<(), Error> {
    let mut rtnl = Rtnetlink::open()?;
    let Some(link) = interface(&mut rtnl, own.mac)? else {
        return Ok(());
    };
    let task = Task::new("add address", format!("{} dev {}", own.address, link.name));
    let message = RouteNetlinkMessage::NewAddress(address(own.address, &link));
    rtnl.change(&task, message, NLM_F_CREATE | NLM_F_REPLACE)?;
    for route in default_routes(&mut rtnl, own.address.is_ipv6())? {
        if leaves_by(&route, &link) && source(&route) != Some(own.address) {
            replace(&mut rtnl, &route, Some(own.address))?;
        }
    }
    Ok(())
}

/// The routes first: the kernel deletes those whose source goes (`fib_sync_down_addr`).
fn take(own: &OwnAddress) -> Result<(), Error> {
    let mut rtnl = Rtnetlink::open()?;
    for route in default_routes(&mut rtnl, own.address.is_ipv6())? {
        if source(&route) == Some(own.address) {
            replace(&mut rtnl, &route, None)?;
        }
    }
    let Some(link) = interface(&mut rtnl, own.mac)? else {
        return Ok(());
    };
    let task = Task::new(
        "delete address",
        format!("{} dev {}", own.address, link.name),
    );
    let message = RouteNetlinkMessage::DelAddress(address(own.address, &link));
    unless(libc::EADDRNOTAVAIL, rtnl.change(&task, message, 0))
}

fn held(own: &OwnAddress) -> Result<Option<Held>, Error> {
    let mut rtnl = Rtnetlink::open()?;
    let Some(link) = interface(&mut rtnl, own.mac)? else {
        return Ok(None);
    };
    let addresses = facts::addresses(&mut rtnl)?;
    let there = addresses
        .iter()
        .any(|found| found.link == link.index && found.net.addr() == own.address);
    let routes = default_routes(&mut rtnl, own.address.is_ipv6())?;
    let is_source = |route: &RouteMessage| source(route) == Some(own.address);
    let of_link = |route: &&RouteMessage| leaves_by(route, &link);
    if there && routes.iter().filter(of_link).all(is_source) {
        return Ok(Some(Held::Whole));
    }
    Ok((there || routes.iter().any(is_source)).then_some(Held::Partly))
}

fn interface(rtnl: &mut Rtnetlink, mac: MacAddress) -> Result<Option<Link>, Error> {
    let links = facts::links(rtnl)?;
    Ok(links.into_iter().find(|link| link.mac == Some(mac)))
}

/// Without duplicate address detection: the uplink answers for it already. An IPv6 address is
/// deprecated, so that only the default routes, which name it, choose it.
fn address(address: IpAddr, link: &Link) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = link.index.0;
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
    ];
    match address {
        IpAddr::V4(_) => {
            message.header.family = AddressFamily::Inet;
            message.header.prefix_len = 32;
        }
        IpAddr::V6(_) => {
            message.header.family = AddressFamily::Inet6;
            message.header.prefix_len = 128;
            message.header.flags = AddressHeaderFlags::Nodad;
            let mut lifetime = CacheInfo::default();
            lifetime.ifa_valid = FOR_EVER;
            message
                .attributes
                .push(AddressAttribute::CacheInfo(lifetime));
        }
    }
    message
}

/// The default routes of a family in the main table.
fn default_routes(rtnl: &mut Rtnetlink, v6: bool) -> Result<Vec<RouteMessage>, Error> {
    let family = if v6 {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    let mut routes = facts::routes(rtnl, RouteHeader::RT_TABLE_MAIN)?;
    routes.retain(|route| {
        route.header.address_family == family
            && route.header.destination_prefix_length == 0
            && route.header.kind == RouteType::Unicast
    });
    Ok(routes)
}

fn leaves_by(route: &RouteMessage, link: &Link) -> bool {
    route
        .attributes
        .contains(&RouteAttribute::Oif(link.index.0))
}

fn source(route: &RouteMessage) -> Option<IpAddr> {
    route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::PrefSource(address) => facts::ip(address),
            _ => None,
        })
}

/// The same route with another source, or none.
fn replace(
    rtnl: &mut Rtnetlink,
    route: &RouteMessage,
    source: Option<IpAddr>,
) -> Result<(), Error> {
    let mut message = RouteMessage::default();
    message.header = route.header.clone();
    // The rest says how the route stands today.
    message.header.flags = route.header.flags & RouteFlags::from_bits_retain(ONLINK);
    let kept = route.attributes.iter().filter(|attribute| {
        matches!(
            attribute,
            RouteAttribute::Table(_)
                | RouteAttribute::Oif(_)
                | RouteAttribute::Gateway(_)
                | RouteAttribute::Via(_)
                | RouteAttribute::Priority(_)
                | RouteAttribute::Metrics(_)
        )
    });
    message.attributes = kept.cloned().collect();
    let from = source.map_or_else(String::new, |source| format!(" src {source}"));
    message
        .attributes
        .extend(source.map(|source| RouteAttribute::PrefSource(source.into())));
    let task = Task::new("replace route", format!("default{from}"));
    let message = RouteNetlinkMessage::NewRoute(message);
    rtnl.change(&task, message, NLM_F_CREATE | NLM_F_REPLACE)
}

/// `RTNH_F_ONLINK`.
const ONLINK: u32 = 4;
