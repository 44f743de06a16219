//! Routes, routing rules and proxy neighbours of ours, told apart by their protocol number.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use sortie_plan::doctor::facts::MarkUse;
use sortie_plan::mark::Mark;
use sortie_plan::state::{ProxyNeighbour, ROUTE_PROTOCOL, Route, RoutingRule, RuleBy};

use crate::error::Error;
use crate::facts;
use crate::rtnl::{Rtnetlink, Task};

pub(crate) const OURS: RouteProtocol = RouteProtocol::Other(ROUTE_PROTOCOL);
/// `RTNH_F_ONLINK`: the gateway is on the link although no address of the interface says so, as
/// with the /32 addresses of some clouds.
const ONLINK: RouteFlags = RouteFlags::from_bits_retain(4);
pub(crate) const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// Interface names by index.
pub(crate) type Names = BTreeMap<u32, String>;

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// Numbers above 255 stand in an attribute only.
fn header_table(table: u32) -> u8 {
    u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC)
}

fn describe(route: &Route) -> String {
    let Route {
        table,
        destination,
        device,
        gateway,
    } = route;
    let via = gateway.map(|ip| format!(" via {ip}")).unwrap_or_default();
    format!("{destination}{via} dev {device} table {table}")
}

fn route_message(route: &Route, index: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(route.destination.addr());
    message.header.destination_prefix_length = route.destination.prefix_len();
    message.header.table = header_table(route.table);
    message.header.protocol = OURS;
    message.header.kind = RouteType::Unicast;
    message.header.scope = match route.gateway {
        Some(_) => RouteScope::Universe,
        None => RouteScope::Link,
    };
    message.attributes = vec![
        RouteAttribute::Table(route.table),
        RouteAttribute::Oif(index),
        RouteAttribute::Destination(route.destination.network().into()),
    ];
    if let Some(gateway) = route.gateway {
        message.header.flags = ONLINK;
        message
            .attributes
            .push(RouteAttribute::Gateway(gateway.into()));
    }
    message
}

/// Adds a route, or replaces one of ours to the same destination in the same table.
pub(crate) fn add_route(rtnl: &mut Rtnetlink, route: &Route) -> Result<(), Error> {
    let task = Task::new("add route", describe(route));
    let index = index(rtnl, &route.device, || {
        format!("add route {}", describe(route))
    })?;
    let message = RouteNetlinkMessage::NewRoute(route_message(route, index));
    match rtnl.change(&task, message.clone(), NLM_F_CREATE | NLM_F_EXCL) {
        Err(error) if error.errno() == Some(libc::EEXIST) => {}
        other => return other,
    }
    let names = Names::new();
    let ours = routes(rtnl, &names)?;
    let same = |found: &Route| {
        found.table == route.table && found.destination == route.destination.trunc()
    };
    if !ours.iter().any(same) {
        return Err(Error::RouteTaken {
            route: describe(route),
        });
    }
    rtnl.change(&task, message, NLM_F_CREATE | NLM_F_REPLACE)
}

/// Removes a route of ours; none is left where there is none, or its interface is gone.
pub(crate) fn delete_route(rtnl: &mut Rtnetlink, route: &Route) -> Result<(), Error> {
    let Some(link) = facts::link_by_name(rtnl, &route.device)? else {
        return Ok(());
    };
    let task = Task::new("delete route", describe(route));
    let message = RouteNetlinkMessage::DelRoute(route_message(route, link.index.0));
    unless(libc::ESRCH, rtnl.change(&task, message, 0))
}

/// All routes of ours, in all tables. A route whose interface is not among the names keeps none.
pub(crate) fn routes(rtnl: &mut Rtnetlink, names: &Names) -> Result<BTreeSet<Route>, Error> {
    let mut found = BTreeSet::new();
    for family in FAMILIES {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        request.header.protocol = OURS;
        let request = RouteNetlinkMessage::GetRoute(request);
        let answers = list(rtnl, &Task::new("list", "our routes"), &request)?;
        for answer in answers {
            if let RouteNetlinkMessage::NewRoute(message) = answer
                && message.header.protocol == OURS
            {
                found.extend(lift_route(&message, names));
            }
        }
    }
    Ok(found)
}

fn lift_route(message: &RouteMessage, names: &Names) -> Option<Route> {
    let any: IpAddr = match message.header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        _ => Ipv6Addr::UNSPECIFIED.into(),
    };
    let mut table = u32::from(message.header.table);
    let mut destination = any;
    let mut device = String::new();
    let mut gateway = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(address) => destination = facts::ip(address)?,
            RouteAttribute::Oif(index) => device = names.get(index).cloned().unwrap_or_default(),
            other => gateway = gateway.or_else(|| facts::gateway(other)),
        }
    }
    Some(Route {
        table,
        destination: IpNet::new(destination, message.header.destination_prefix_length).ok()?,
        device,
        gateway,
    })
}

fn rule_message(rule: &RoutingRule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = if rule.v6 {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    message.header.table = header_table(rule.table);
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::Table(rule.table),
        RuleAttribute::Protocol(OURS),
    ];
    message.attributes.extend(match &rule.by {
        RuleBy::Input(device) => vec![RuleAttribute::Iifname(device.clone())],
        RuleBy::Mark(mark) => vec![
            RuleAttribute::FwMark(mark.value()),
            RuleAttribute::FwMask(mark.mask()),
        ],
    });
    message
}

/// Adds a rule. Its input need not be there yet.
pub(crate) fn add_rule(rtnl: &mut Rtnetlink, rule: &RoutingRule) -> Result<(), Error> {
    let task = Task::new("add rule", rule.to_string());
    let message = RouteNetlinkMessage::NewRule(rule_message(rule));
    unless(
        libc::EEXIST,
        rtnl.change(&task, message, NLM_F_CREATE | NLM_F_EXCL),
    )
}

/// Removes a rule of ours, if it is there.
pub(crate) fn delete_rule(rtnl: &mut Rtnetlink, rule: &RoutingRule) -> Result<(), Error> {
    let task = Task::new("delete rule", rule.to_string());
    let message = RouteNetlinkMessage::DelRule(rule_message(rule));
    unless(libc::ENOENT, rtnl.change(&task, message, 0))
}

/// All rules of ours.
pub(crate) fn rules(rtnl: &mut Rtnetlink) -> Result<BTreeSet<RoutingRule>, Error> {
    let mut found = BTreeSet::new();
    for family in FAMILIES {
        let mut request = RuleMessage::default();
        request.header.family = family;
        let request = RouteNetlinkMessage::GetRule(request);
        let answers = list(rtnl, &Task::new("list", "rules"), &request)?;
        for answer in answers {
            if let RouteNetlinkMessage::NewRule(message) = answer
                && message.attributes.contains(&RuleAttribute::Protocol(OURS))
            {
                found.extend(lift_rule(&message));
            }
        }
    }
    Ok(found)
}

/// None for a rule that this version does not make.
/// The marks that others' rules ask for.
pub(crate) fn marks(rtnl: &mut Rtnetlink) -> Result<Vec<MarkUse>, Error> {
    let mut found = Vec::new();
    for family in FAMILIES {
        let mut request = RuleMessage::default();
        request.header.family = family;
        let request = RouteNetlinkMessage::GetRule(request);
        for answer in list(rtnl, &Task::new("list", "rules"), &request)? {
            if let RouteNetlinkMessage::NewRule(message) = answer
                && !message.attributes.contains(&RuleAttribute::Protocol(OURS))
            {
                found.extend(mark_of(&message));
            }
        }
    }
    Ok(found)
}

fn mark_of(message: &RuleMessage) -> Option<MarkUse> {
    let (mut priority, mut value, mut bits) = (0, None, u32::MAX);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(number) => priority = *number,
            RuleAttribute::FwMark(mark) => value = Some(*mark),
            RuleAttribute::FwMask(mask) => bits = *mask,
            _ => {}
        }
    }
    let value = value?;
    let v6 = if message.header.family == AddressFamily::Inet6 {
        "-6 "
    } else {
        ""
    };
    Some(MarkUse {
        by: format!("ip {v6}rule pref {priority} fwmark {value:#x}/{bits:#x}"),
        bits,
        value: Some(value),
    })
}

fn lift_rule(message: &RuleMessage) -> Option<RoutingRule> {
    let mut by = None;
    let (mut value, mut mask) = (None, u32::MAX);
    let mut priority = 0;
    let mut table = u32::from(message.header.table);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(number) => priority = *number,
            RuleAttribute::Iifname(name) => by = Some(RuleBy::Input(name.clone())),
            RuleAttribute::FwMark(number) => value = Some(*number),
            RuleAttribute::FwMask(bits) => mask = *bits,
            RuleAttribute::Table(number) => table = *number,
            _ => {}
        }
    }
    Some(RoutingRule {
        v6: message.header.family == AddressFamily::Inet6,
        priority,
        by: value
            .map(|value| RuleBy::Mark(Mark::of_rule(value, mask)))
            .or(by)?,
        table,
    })
}

fn neighbour_message(neighbour: &ProxyNeighbour, index: u32) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(neighbour.address);
    message.header.ifindex = index;
    message.header.flags = NeighbourFlags::Proxy;
    message.attributes = vec![
        NeighbourAttribute::Destination(neighbour.address.into()),
        NeighbourAttribute::Protocol(OURS),
    ];
    message
}

fn describe_neighbour(neighbour: &ProxyNeighbour) -> String {
    format!("{} dev {}", neighbour.address, neighbour.device)
}

/// Lets an interface answer for an address. An entry that another program made stays its own.
pub(crate) fn add_neighbour(rtnl: &mut Rtnetlink, neighbour: &ProxyNeighbour) -> Result<(), Error> {
    let task = Task::new("add proxy neighbour", describe_neighbour(neighbour));
    let index = index(rtnl, &neighbour.device, || {
        format!("add proxy neighbour {}", neighbour.address)
    })?;
    let message = neighbour_message(neighbour, index);
    let there = proxies(rtnl)?.into_iter().any(|found| {
        found.header.ifindex == index && found.attributes.contains(&message.attributes[0])
    });
    if there {
        return Ok(());
    }
    rtnl.change(
        &task,
        RouteNetlinkMessage::NewNeighbour(message),
        NLM_F_CREATE,
    )
}

/// Takes that back.
pub(crate) fn delete_neighbour(
    rtnl: &mut Rtnetlink,
    neighbour: &ProxyNeighbour,
) -> Result<(), Error> {
    let Some(link) = facts::link_by_name(rtnl, &neighbour.device)? else {
        return Ok(());
    };
    let task = Task::new("delete proxy neighbour", describe_neighbour(neighbour));
    let message = RouteNetlinkMessage::DelNeighbour(neighbour_message(neighbour, link.index.0));
    unless(libc::ENOENT, rtnl.change(&task, message, 0))
}

/// All proxy neighbours of ours.
pub(crate) fn neighbours(
    rtnl: &mut Rtnetlink,
    names: &Names,
) -> Result<BTreeSet<ProxyNeighbour>, Error> {
    Ok(proxies(rtnl)?
        .iter()
        .filter(|message| {
            message
                .attributes
                .contains(&NeighbourAttribute::Protocol(OURS))
        })
        .filter_map(|message| {
            Some(ProxyNeighbour {
                address: proxied(message)?,
                device: names.get(&message.header.ifindex)?.clone(),
            })
        })
        .collect())
}

/// The addresses of all proxy neighbours.
pub(crate) fn answered(rtnl: &mut Rtnetlink) -> Result<BTreeSet<IpAddr>, Error> {
    Ok(proxies(rtnl)?.iter().filter_map(proxied).collect())
}

fn proxied(message: &NeighbourMessage) -> Option<IpAddr> {
    let mut attributes = message.attributes.iter();
    attributes.find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some((*v4).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some((*v6).into()),
        _ => None,
    })
}

fn proxies(rtnl: &mut Rtnetlink) -> Result<Vec<NeighbourMessage>, Error> {
    let mut found = Vec::new();
    for family in FAMILIES {
        let mut request = NeighbourMessage::default();
        request.header.family = family;
        request.header.flags = NeighbourFlags::Proxy;
        let request = RouteNetlinkMessage::GetNeighbour(request);
        let answers = list(rtnl, &Task::new("list", "proxy neighbours"), &request)?;
        found.extend(answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewNeighbour(message) => Some(message),
            _ => None,
        }));
    }
    Ok(found)
}

/// Lists one family's objects; none on hosts that were started without the family.
pub(crate) fn list(
    rtnl: &mut Rtnetlink,
    task: &Task,
    request: &RouteNetlinkMessage,
) -> Result<Vec<RouteNetlinkMessage>, Error> {
    match rtnl.dump(task, request) {
        Err(error) if matches!(error.errno(), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) => {
            Ok(Vec::new())
        }
        other => other,
    }
}

/// The index of an interface that must be there.
pub(crate) fn index(
    rtnl: &mut Rtnetlink,
    name: &str,
    operation: impl FnOnce() -> String,
) -> Result<u32, Error> {
    match facts::link_by_name(rtnl, name)? {
        Some(link) => Ok(link.index.0),
        None => Err(Error::NoInterface {
            operation: operation(),
            name: name.to_owned(),
        }),
    }
}

/// Takes one answer for success.
pub(crate) fn unless(errno: i32, result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.errno() == Some(errno) => Ok(()),
        other => other,
    }
}
