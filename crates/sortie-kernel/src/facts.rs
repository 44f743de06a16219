//! What the host is like: links, addresses, default routes, and the way the kernel would take.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage, State,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use sortie_api::workload::{IfIndex, MacAddress};

use crate::error::Error;
use crate::network::OURS;
use crate::rtnl::{Rtnetlink, Task};

/// What the planner must know of a network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// By index.
    pub links: Vec<Link>,
    /// Of all links and both families.
    pub addresses: Vec<Address>,
    /// Of the main table and both families; one per next hop.
    pub defaults: Vec<DefaultRoute>,
    /// Of every other table but ours.
    pub other_defaults: Vec<DefaultRoute>,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Never used again while the namespace lives.
    pub index: IfIndex,
    /// May change.
    pub name: String,
    /// `bridge`, `veth` and so on; none for real devices and the loopback.
    pub kind: Option<String>,
    /// Set up by somebody (`IFF_UP`).
    pub up: bool,
    /// Able to send: `operstate` up, or unknown for devices that do not tell.
    pub carrier: bool,
    /// The bridge, bond or VRF that it belongs to.
    pub master: Option<IfIndex>,
    /// The text of `ip link set alias`.
    pub alias: Option<String>,
    /// Of Ethernet devices.
    pub mac: Option<MacAddress>,
    /// The largest packet, in bytes.
    pub mtu: u32,
}

/// One address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The interface.
    pub link: IfIndex,
    /// The address with its prefix length: `192.0.2.1/24`.
    pub net: IpNet,
    /// IPv6: not usable before duplicate address detection ends.
    pub tentative: bool,
    /// IPv6: somebody else has it.
    pub duplicate: bool,
    /// Not chosen as the source of new connections.
    pub deprecated: bool,
}

/// A default route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultRoute {
    /// IPv6 instead of IPv4.
    pub v6: bool,
    /// The output interface.
    pub link: IfIndex,
    /// The next hop; none where everything is on the link.
    pub gateway: Option<IpAddr>,
    /// Lower is preferred.
    pub metric: u32,
}

/// A question for the routing tables: `ip route get DESTINATION [from SOURCE] [iif INPUT]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteQuery {
    /// Where a packet goes.
    pub destination: IpAddr,
    /// Where it comes from; none for what this host sends.
    pub source: Option<IpAddr>,
    /// The interface that it came in by; none for what this host sends.
    pub input: Option<IfIndex>,
    /// The mark that it carries; 0 for none.
    pub mark: u32,
}

/// The way a packet would take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteTaken {
    /// The output interface.
    pub link: IfIndex,
    /// The next hop; none where the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The source that the host would choose.
    pub source: Option<IpAddr>,
    /// The destination is this host.
    pub local: bool,
}

/// Reads all facts of the socket's namespace.
pub fn read(rtnl: &mut Rtnetlink) -> Result<Facts, Error> {
    let (defaults, other_defaults) = default_routes(rtnl)?;
    Ok(Facts {
        links: links(rtnl)?,
        addresses: addresses(rtnl)?,
        defaults,
        other_defaults,
    })
}

/// Every interface.
pub fn links(rtnl: &mut Rtnetlink) -> Result<Vec<Link>, Error> {
    let mut request = LinkMessage::default();
    // The counters are most of an answer, and nobody reads them here.
    request
        .attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let answers = rtnl.dump(
        &Task::new("list", "interfaces"),
        &RouteNetlinkMessage::GetLink(request),
    )?;
    Ok(answers
        .into_iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(message) => Some(link(message)),
            _ => None,
        })
        .collect())
}

/// The interface of this name, if there is one.
pub fn link_by_name(rtnl: &mut Rtnetlink, name: &str) -> Result<Option<Link>, Error> {
    let mut request = LinkMessage::default();
    request.attributes = vec![
        LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]),
        LinkAttribute::IfName(name.to_owned()),
    ];
    let task = Task::new("look up interface", name);
    match rtnl.get(&task, RouteNetlinkMessage::GetLink(request)) {
        Ok(Some(RouteNetlinkMessage::NewLink(message))) => Ok(Some(link(message))),
        Ok(_) => Ok(None),
        Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

fn link(message: LinkMessage) -> Link {
    let mut link = Link {
        index: IfIndex(message.header.index),
        name: String::new(),
        kind: None,
        up: message.header.flags.contains(LinkFlags::Up),
        carrier: false,
        master: None,
        alias: None,
        mac: None,
        mtu: 0,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Controller(index) => link.master = Some(IfIndex(index)),
            LinkAttribute::OperState(state) => {
                link.carrier = matches!(state, State::Up | State::Unknown);
            }
            LinkAttribute::Address(bytes) => {
                link.mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(MacAddress);
            }
            LinkAttribute::LinkInfo(infos) => {
                link.kind = infos.into_iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    link
}

/// Every address.
pub fn addresses(rtnl: &mut Rtnetlink) -> Result<Vec<Address>, Error> {
    let answers = rtnl.dump(
        &Task::new("list", "addresses"),
        &RouteNetlinkMessage::GetAddress(AddressMessage::default()),
    )?;
    Ok(answers
        .into_iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewAddress(message) => address(&message),
            _ => None,
        })
        .collect())
}

fn address(message: &AddressMessage) -> Option<Address> {
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    let mut local = None;
    let mut remote = None;
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point link IFA_ADDRESS is the other end, IFA_LOCAL is ours.
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => remote = Some(*ip),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    Some(Address {
        link: IfIndex(message.header.index),
        net: IpNet::new(local.or(remote)?, message.header.prefix_len).ok()?,
        tentative: flags.contains(AddressFlags::Tentative),
        duplicate: flags.contains(AddressFlags::Dadfailed),
        deprecated: flags.contains(AddressFlags::Deprecated),
    })
}

/// The default routes of the main table, and of every other one but ours, best first.
pub fn default_routes(
    rtnl: &mut Rtnetlink,
) -> Result<(Vec<DefaultRoute>, Vec<DefaultRoute>), Error> {
    let (mut main, mut others) = (Vec::new(), Vec::new());
    for message in routes(rtnl, RouteHeader::RT_TABLE_UNSPEC)? {
        let header = &message.header;
        let unicast = header.kind == RouteType::Unicast;
        if header.destination_prefix_length != 0 || !unicast || header.protocol == OURS {
            continue;
        }
        let found = if header.table == RouteHeader::RT_TABLE_MAIN {
            &mut main
        } else {
            &mut others
        };
        found.extend(next_hops(&message));
    }
    for found in [&mut main, &mut others] {
        found.sort_by_key(|route| (route.v6, route.metric));
    }
    Ok((main, others))
}

/// The routes of one table, or with 0 of all, of both families.
pub(crate) fn routes(rtnl: &mut Rtnetlink, table: u8) -> Result<Vec<RouteMessage>, Error> {
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        request.header.table = table;
        let answers = rtnl.dump(
            &Task::new("list", format!("routes of table {table}")),
            &RouteNetlinkMessage::GetRoute(request),
        );
        match answers {
            Ok(answers) => found.extend(answers.into_iter().filter_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(message) => Some(message),
                _ => None,
            })),
            // A table that nobody has made yet.
            Err(error) if error.errno() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn next_hops(message: &RouteMessage) -> Vec<DefaultRoute> {
    let v6 = message.header.address_family == AddressFamily::Inet6;
    let mut metric = 0;
    let mut single = (None, None);
    let mut several = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Oif(index) => single.0 = Some(*index),
            RouteAttribute::MultiPath(hops) => several.extend(hops.iter().map(|hop| {
                (
                    Some(hop.interface_index),
                    hop.attributes.iter().find_map(gateway),
                )
            })),
            other => single.1 = single.1.or_else(|| gateway(other)),
        }
    }
    several.push(single);
    several
        .into_iter()
        .filter_map(|(index, gateway)| {
            Some(DefaultRoute {
                v6,
                link: IfIndex(index?),
                gateway,
                metric,
            })
        })
        .collect()
}

/// The next hop in this attribute; an IPv4 route may have one of IPv6 (RFC 5549).
pub(crate) fn gateway(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(v4)) => Some((*v4).into()),
        RouteAttribute::Via(RouteVia::Inet6(v6)) => Some((*v6).into()),
        _ => None,
    }
}

pub(crate) fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

/// The way the kernel would take; none when it would not route the packet (no route, unreachable,
/// blackhole, or refused by `rp_filter`).
pub fn lookup(rtnl: &mut Rtnetlink, query: &RouteQuery) -> Result<Option<RouteTaken>, Error> {
    let mut request = RouteMessage::default();
    let (family, bits) = match query.destination {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    request.header.address_family = family;
    request.header.destination_prefix_length = bits;
    request
        .attributes
        .push(RouteAttribute::Destination(query.destination.into()));
    if let Some(source) = query.source {
        request.header.source_prefix_length = bits;
        request
            .attributes
            .push(RouteAttribute::Source(source.into()));
    }
    if let Some(IfIndex(index)) = query.input {
        request.attributes.push(RouteAttribute::Iif(index));
    }
    if query.mark != 0 {
        request.attributes.push(RouteAttribute::Mark(query.mark));
    }
    let task = Task::new("look up the route to", query.destination.to_string());
    match rtnl.get(&task, RouteNetlinkMessage::GetRoute(request)) {
        Ok(Some(RouteNetlinkMessage::NewRoute(message))) => Ok(taken(&message)),
        Ok(_) => Ok(None),
        Err(error) => match error.errno() {
            Some(
                libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL | libc::EXDEV,
            ) => Ok(None),
            _ => Err(error),
        },
    }
}

fn taken(message: &RouteMessage) -> Option<RouteTaken> {
    let mut link = None;
    let mut next_hop = None;
    let mut source = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => link = Some(IfIndex(*index)),
            RouteAttribute::PrefSource(address) => source = ip(address),
            other => next_hop = next_hop.or_else(|| gateway(other)),
        }
    }
    // IPv6 answers an unreachable destination with a route of that type instead of an error.
    matches!(
        message.header.kind,
        RouteType::Unicast | RouteType::Local | RouteType::Broadcast | RouteType::Multicast
    )
    .then_some(RouteTaken {
        link: link?,
        gateway: next_hop,
        source,
        local: message.header.kind == RouteType::Local,
    })
}
