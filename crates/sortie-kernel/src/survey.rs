//! What `sortie doctor` looks at, read from the kernel and never changed.

mod rules;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use ipnet::IpNet;
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage};
use nfnetlink::chain::{ChainType, HookPoint, Policy};
use nfnetlink::{Chain, Family, Socket};
use sortie_api::mark_mask::MarkMask;
use sortie_api::workload::IfIndex;
use sortie_plan::doctor::facts::{
    Address, BaseChain, Chosen, Conntrack, Default, Facts, Feature, Hook, Interface, Table,
};
use sortie_plan::nft;
use sortie_plan::state::Sysctl;

use crate::error::{Error, netfilter};
use crate::facts::{self, RouteQuery};
use crate::failpoint::Failpoints;
use crate::lower::{self, TABLE};
use crate::rtnl::Rtnetlink;
use crate::{network, probe, sysctl};

/// Far away by any host's routes (RFC 5737, RFC 3849).
const FAR: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1)),
];
/// Settings of the whole namespace that are looked at.
const SYSCTLS: [&str; 7] = [
    "net/bridge/bridge-nf-call-ip6tables",
    "net/bridge/bridge-nf-call-iptables",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/netfilter/nf_conntrack_acct",
    "net/netfilter/nf_conntrack_max",
];
/// Settings of each interface.
const INTERFACE_SYSCTLS: [&str; 2] = ["forwarding", "rp_filter"];
/// In the calling thread's network namespace, as all of these.
const LEGACY_TABLES: [&str; 2] = [
    "/proc/thread-self/net/ip_tables_names",
    "/proc/thread-self/net/ip6_tables_names",
];
/// Counters of each processor, in hexadecimal below a line of names.
const CONNTRACK_STATISTICS: &str = "/proc/thread-self/net/stat/nf_conntrack";

/// Reads all but what only an agent knows, in the calling thread's network namespace.
pub fn read(mark_mask: MarkMask) -> Result<Facts, Error> {
    let mut rtnl = Rtnetlink::open()?;
    let mut nft = Socket::open().map_err(netfilter("open an nftables socket"))?;
    let host = facts::read(&mut rtnl)?;
    let mut survey = Facts {
        missing: missing()?,
        chosen: chosen(&mut rtnl, &host)?,
        conntrack: conntrack(),
        legacy: legacy(),
        rootless: rootless(),
        mark_mask,
        marks: network::marks(&mut rtnl)?,
        ..Facts::default()
    };
    host_network(&host, &mut survey);
    sysctls(&mut survey)?;
    netfilter_objects(&mut nft, &mut survey)?;
    Ok(survey)
}

/// Each container of Podman has a monitor. A user's own runs in the host's network namespace, as
/// that user; those of a Podman within a container do not.
fn rootless() -> BTreeMap<u32, usize> {
    let namespace = |process: &Path| fs::read_link(process.join("ns/net")).ok();
    let here = namespace(Path::new("/proc/thread-self"));
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut users = BTreeMap::new();
    for process in processes.map(|entry| entry.path()) {
        let name = fs::read(process.join("comm")).unwrap_or_default();
        if name != b"conmon\n" || namespace(&process) != here {
            continue;
        }
        let user = fs::metadata(&process).map_or(0, |it| it.uid());
        if user != 0 {
            *users.entry(user).or_default() += 1;
        }
    }
    users
}

fn missing() -> Result<Vec<Feature>, Error> {
    let missing = probe::missing(&Failpoints::default())?;
    let feature = |feature: probe::Feature| Feature {
        name: feature.name(),
        needed: feature.is_needed(),
        meaning: feature.meaning(),
    };
    Ok(missing.into_iter().map(feature).collect())
}

fn host_network(host: &facts::Facts, survey: &mut Facts) {
    let bridges: BTreeSet<IfIndex> = host
        .links
        .iter()
        .filter(|link| link.kind.as_deref() == Some("bridge"))
        .map(|link| link.index)
        .collect();
    let routed: BTreeSet<IfIndex> = host
        .addresses
        .iter()
        .filter(|address| !is_link_local(address.net.addr()))
        .map(|address| address.link)
        .collect();
    let mut names = BTreeMap::new();
    for link in &host.links {
        if link.master.is_some_and(|master| bridges.contains(&master)) {
            continue;
        }
        names.insert(link.index, link.name.clone());
        survey.interfaces.push(Interface {
            name: link.name.clone(),
            bridge: bridges.contains(&link.index) && routed.contains(&link.index),
            mtu: link.mtu,
        });
    }
    for address in &host.addresses {
        if let Some(interface) = names.get(&address.link)
            && !is_link_local(address.net.addr())
        {
            survey.addresses.push(Address {
                address: address.net.addr(),
                prefix: address.net.prefix_len(),
                interface: interface.clone(),
                deprecated: address.deprecated,
                duplicate: address.duplicate,
            });
        }
    }
    for route in &host.defaults {
        if let Some(interface) = names.get(&route.link) {
            survey.defaults.push(Default {
                v6: route.v6,
                interface: interface.clone(),
            });
        }
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// Sources that routes of the main table name, and what the host would choose towards far away.
fn chosen(rtnl: &mut Rtnetlink, host: &facts::Facts) -> Result<Vec<Chosen>, Error> {
    let name = |index: IfIndex| {
        let mut links = host.links.iter();
        links
            .find(|link| link.index == index)
            .map_or_else(|| format!("if{}", index.0), |link| link.name.clone())
    };
    let mut found = Vec::new();
    for message in facts::routes(rtnl, RouteHeader::RT_TABLE_MAIN)? {
        if let Some((source, route)) = named_source(&message, &name) {
            found.push(Chosen { source, route });
        }
    }
    for destination in FAR {
        let query = RouteQuery {
            destination,
            source: None,
            input: None,
            mark: 0,
        };
        let Some(taken) = facts::lookup(rtnl, &query)? else {
            continue;
        };
        let best = host
            .defaults
            .iter()
            .find(|route| route.v6 == destination.is_ipv6() && route.link == taken.link);
        if let (Some(source), Some(best)) = (taken.source, best) {
            let via = best.gateway.map(|hop| format!("via {hop} "));
            let route = format!(
                "default {}dev {} metric {}",
                via.unwrap_or_default(),
                name(best.link),
                best.metric
            );
            found.push(Chosen { source, route });
        }
    }
    Ok(found)
}

fn named_source(
    message: &RouteMessage,
    name: &impl Fn(IfIndex) -> String,
) -> Option<(IpAddr, String)> {
    let mut source = None;
    let mut destination = None;
    let mut device = None;
    let mut metric = None;
    let mut hop = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::PrefSource(address) => source = facts::ip(address),
            RouteAttribute::Destination(address) => destination = facts::ip(address),
            RouteAttribute::Oif(index) => device = Some(name(IfIndex(*index))),
            RouteAttribute::Priority(number) => metric = Some(*number),
            other => hop = hop.or_else(|| facts::gateway(other)),
        }
    }
    let destination = destination
        .and_then(|address| IpNet::new(address, message.header.destination_prefix_length).ok())
        .map_or_else(|| "default".to_owned(), |net| net.to_string());
    let mut route = destination;
    route.extend(hop.map(|hop| format!(" via {hop}")));
    route.extend(device.map(|device| format!(" dev {device}")));
    route.extend(metric.map(|metric| format!(" metric {metric}")));
    Some((source?, route))
}

fn sysctls(survey: &mut Facts) -> Result<(), Error> {
    let of_interfaces = survey.interfaces.iter().flat_map(|interface| {
        INTERFACE_SYSCTLS.map(|setting| format!("net/ipv4/conf/{}/{setting}", interface.name))
    });
    let names: Vec<String> = SYSCTLS
        .map(str::to_owned)
        .into_iter()
        .chain(of_interfaces)
        .collect();
    for name in names {
        match sysctl::read(&Sysctl(name.clone())) {
            Ok(value) => drop(survey.sysctls.insert(name, value)),
            // Its module is not loaded, or its interface went meanwhile.
            Err(error) if error.errno() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What cannot be read counts as nothing: the module need not be loaded yet.
fn conntrack() -> Conntrack {
    let number = |file: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/netfilter/{file}"));
        text.ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or_default()
    };
    let statistics = fs::read_to_string(CONNTRACK_STATISTICS).unwrap_or_default();
    Conntrack {
        count: number("nf_conntrack_count"),
        max: number("nf_conntrack_max"),
        dropped: statistic(&statistics, "drop"),
        early: statistic(&statistics, "early_drop"),
    }
}

/// The sum over all processors (`ct_cpu_seq_show` in net/netfilter/nf_conntrack_standalone.c).
fn statistic(text: &str, name: &str) -> u64 {
    let mut lines = text.lines();
    let names = lines.next().unwrap_or_default();
    let Some(column) = names.split_whitespace().position(|column| column == name) else {
        return 0;
    };
    lines
        .filter_map(|line| line.split_whitespace().nth(column))
        .filter_map(|number| u64::from_str_radix(number, 16).ok())
        .sum()
}

fn legacy() -> Vec<String> {
    let texts = LEGACY_TABLES.map(|file| fs::read_to_string(file).unwrap_or_default());
    let tables: BTreeSet<String> = texts
        .iter()
        .flat_map(|text| text.lines().map(str::to_owned))
        .collect();
    tables.into_iter().collect()
}

fn netfilter_objects(nft: &mut Socket, survey: &mut Facts) -> Result<(), Error> {
    let failed = netfilter("list tables, chains and rules");
    for family in nft::Family::ALL {
        let family = lower::family(family);
        if let Some(table) = nft.table(family, TABLE).map_err(failed)? {
            survey.tables.push(Table {
                family: family.to_string(),
                owner: table.owner,
            });
        }
    }
    for chain in nft.chains(Family::Netdev).map_err(failed)? {
        if let (TABLE, Some(hook)) = (chain.table.as_str(), chain.hook) {
            survey.hooked.extend(hook.devices);
        }
    }
    for family in [Family::Ip, Family::Ip6, Family::Inet, Family::Bridge] {
        for table in nft.tables(family).map_err(failed)? {
            if table.name != TABLE {
                let rules = nft.rules(family, &table.name, None).map_err(failed)?;
                survey.marks.extend(rules::marks(&rules, survey.mark_mask));
            }
        }
    }
    for family in [Family::Ip, Family::Ip6, Family::Inet] {
        for chain in nft.chains(family).map_err(failed)? {
            survey.chains.extend(base_chain(nft, &chain)?);
        }
    }
    Ok(())
}

/// Somebody else's chain, if it is of a kind that matters.
fn base_chain(nft: &mut Socket, chain: &Chain) -> Result<Option<BaseChain>, Error> {
    let Some(place) = chain.hook.as_ref().filter(|_| chain.table != TABLE) else {
        return Ok(None);
    };
    let hook = match (place.chain_type, place.point) {
        (ChainType::Nat, HookPoint::POSTROUTING) => Hook::PostroutingNat,
        (ChainType::Filter, HookPoint::FORWARD) => Hook::Forward,
        _ => return Ok(None),
    };
    let drops = place.policy == Policy::Drop;
    let names = if hook == Hook::Forward && drops {
        let rules = nft
            .rules(chain.family, &chain.table, None)
            .map_err(netfilter("list rules"))?;
        rules::interfaces(&rules)
    } else {
        Some(Vec::new())
    };
    Ok(Some(BaseChain {
        family: chain.family.to_string(),
        table: chain.table.clone(),
        name: chain.name.clone(),
        hook,
        priority: place.priority,
        drops,
        names,
    }))
}
