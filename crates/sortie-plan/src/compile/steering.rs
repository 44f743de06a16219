//! Leaving by an uplink that the host's own routes would not take: a mark for each such uplink, the
//! chain that sets it, a routing table, and the rule that leads from the mark to the table.
//!
//! Packets are marked one by one and from what they say, so nothing is kept in conntrack. What drains
//! is led by the source that conntrack knows anyway. Replies of flows that others began leave by the
//! uplink whose address was called, which conntrack knows too, if that uplink has a mark; else they
//! follow the host's routes, as without Sortie.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sortie_api::mark_mask::MarkMask;
use sortie_api::workload::IfIndex;

use super::shared::{Direct, Topology};
use super::statement::{is, lookup, on, plain};
use super::workload::named;
use crate::environment::{Environment, NextHop};
use crate::mark::Mark;
use crate::nft::key::Key;
use crate::nft::rule::Field::{
    CtDirection, CtOriginalIp6Daddr, CtOriginalIpDaddr, CtReplyIp6Daddr, CtReplyIpDaddr, Ip6Daddr,
    Ip6Saddr, IpDaddr, IpSaddr,
};
use crate::nft::rule::Statement::{SetMark, VerdictMap};
use crate::nft::rule::Value;
use crate::nft::rule::Verdict::{Accept, Goto};
use crate::nft::set::Data;
use crate::nft::{Chain, Hook, HookKind, HookPoint, Name};
use crate::state::{Network, Route, RoutingRule, RuleBy, Sysctl};

/// An uplink's own table is this plus its interface index.
const UPLINK_TABLES: u32 = 83_000;
/// Asked before the main table (32766), behind what administrators usually add.
const UPLINK_RULE_PRIORITY: u32 = 8_300;
/// `ct direction reply` (enum `ip_conntrack_dir`).
const REPLY: u8 = 1;

/// The uplinks that need a mark, each for one family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Steering {
    mask: MarkMask,
    uplinks: BTreeSet<(IfIndex, bool)>,
}

impl Steering {
    /// Uplinks with whether it is for IPv6, and the bits that name them.
    pub fn new(mask: MarkMask, uplinks: impl IntoIterator<Item = (IfIndex, bool)>) -> Self {
        let uplinks = uplinks.into_iter().collect();
        Self { mask, uplinks }
    }

    /// The mark that leads a family's packets to an uplink; none where the host's routes do, and
    /// where there are more uplinks than marks.
    pub fn mark(&self, uplink: IfIndex, v6: bool) -> Option<Mark> {
        self.uplinks.get(&(uplink, v6))?;
        let uplinks: BTreeSet<IfIndex> = self.uplinks.iter().map(|(uplink, _)| *uplink).collect();
        let number = uplinks.iter().position(|other| *other == uplink)?;
        Mark::nth(self.mask, number)
    }

    /// Every mark that leads to an uplink.
    pub fn marks(&self) -> BTreeSet<Mark> {
        let uplinks = self.uplinks.iter();
        uplinks
            .filter_map(|(uplink, v6)| self.mark(*uplink, *v6))
            .collect()
    }

    /// The base chain, and one for each mark; none at all where no uplink needs one.
    pub fn chains(&self, environment: &Environment) -> Vec<(Name, Chain)> {
        let marks = self.marks();
        if marks.is_empty() {
            return Vec::new();
        }
        let classify = Chain {
            hook: Some(Hook {
                kind: HookKind::Filter,
                point: HookPoint::Prerouting,
                priority: environment.priorities.classify,
                device: None,
            }),
            rules: vec![
                on(
                    is(CtDirection, Value::Byte(REPLY)),
                    vec![Goto("answers".into()).into()],
                ),
                vec![VerdictMap {
                    fields: vec![IpSaddr, CtReplyIpDaddr],
                    map: "steered4".into(),
                }],
                vec![VerdictMap {
                    fields: vec![Ip6Saddr, CtReplyIp6Daddr],
                    map: "steered6".into(),
                }],
                vec![VerdictMap {
                    fields: vec![IpSaddr],
                    map: "route4".into(),
                }],
                vec![VerdictMap {
                    fields: vec![Ip6Saddr],
                    map: "route6".into(),
                }],
            ],
        };
        let steer = marks.into_iter().map(|mark| (steer(mark), by_mark(mark)));
        [("classify".into(), classify), ("answers".into(), answers())]
            .into_iter()
            .chain(steer)
            .collect()
    }

    /// Which way answers leave, by the address that was called: the host's own and containers' own.
    pub fn answers<'a>(
        &'a self,
        topology: &'a Topology,
        environment: &'a Environment,
    ) -> impl Iterator<Item = (Name, Key, Data)> + 'a {
        let host = environment.addresses.iter();
        let host = host.map(|(address, uplink)| (*address, *uplink));
        let own = topology.direct.iter();
        let own = own.filter(|direct| direct.beside.is_some());
        let own = own.filter_map(|direct| Some((direct.address, direct.uplink?)));
        host.chain(own).filter_map(|(address, uplink)| {
            let mark = self.mark(uplink, address.is_ipv6())?;
            let way = Data::Verdict(Goto(steer(mark)));
            Some((named!("answers", address), Key::from(address), way))
        })
    }

    /// Tables, rules and settings.
    pub fn network(&self, network: &mut Network, topology: &Topology, environment: &Environment) {
        for (uplink, v6) in &self.uplinks {
            let Some(mark) = self.mark(*uplink, *v6) else {
                continue;
            };
            let by = RuleBy::Mark(mark);
            by_uplink(network, by, (*uplink, *v6), topology, environment);
        }
    }
}

/// What others' containers answer is not ours to lead.
fn answers() -> Chain {
    plain(vec![
        vec![
            lookup(&[IpSaddr], "managed4"),
            VerdictMap {
                fields: vec![CtOriginalIpDaddr],
                map: "answers4".into(),
            },
        ],
        vec![
            lookup(&[Ip6Saddr], "managed6"),
            VerdictMap {
                fields: vec![CtOriginalIp6Daddr],
                map: "answers6".into(),
            },
        ],
    ])
}

/// The chain that sets a mark.
pub fn steer(mark: Mark) -> Name {
    format!("steer-{:#x}", mark.value()).into()
}

/// Local ranges and who is let by are left to the host's routes; networks inside are in the
/// uplink's table too.
fn by_mark(mark: Mark) -> Chain {
    plain(vec![
        on(lookup(&[IpDaddr], "local4"), vec![Accept.into()]),
        on(lookup(&[Ip6Daddr], "local6"), vec![Accept.into()]),
        on(lookup(&[IpSaddr], "bypass4"), vec![Accept.into()]),
        on(lookup(&[Ip6Saddr], "bypass6"), vec![Accept.into()]),
        vec![SetMark(mark), Accept.into()],
    ])
}

/// What a rule selects is routed by the uplink's own table.
pub(super) fn by_uplink(
    network: &mut Network,
    by: RuleBy,
    (uplink, v6): (IfIndex, bool),
    topology: &Topology,
    environment: &Environment,
) {
    let table = UPLINK_TABLES + uplink.0;
    network.rules.insert(RoutingRule {
        v6,
        priority: UPLINK_RULE_PRIORITY,
        by,
        table,
    });
    for (destination, device, gateway) in routes(uplink, v6, topology, environment) {
        let taken = |route: &Route| route.table == table && route.destination == destination;
        if !network.routes.iter().any(taken) {
            network.routes.insert(Route {
                table,
                destination,
                device: environment.name_of(device),
                gateway,
            });
        }
    }
    if !v6 && environment.default_route(false).is_some() {
        // Replies come from where the main table would not send: loose (RFC 3704, section 2.4).
        // That asks the main table for any way back, so it is nothing for a host without one.
        let device = environment.name_of(uplink);
        network.sysctls.insert(
            Sysctl(format!("net/ipv4/conf/{device}/rp_filter")),
            "2".to_owned(),
        );
    }
}

/// A table for an uplink: what is inside and on its link, and everything else by its next hop.
/// Without a next hop the host's routes are asked, and the guard drops what leaves elsewhere.
///
/// What is inside is there for packets to other containers, and because the kernel asks with the
/// mark whether a source may come from where it came, when `src_valid_mark` is set (ip-sysctl).
fn routes(
    uplink: IfIndex,
    v6: bool,
    topology: &Topology,
    environment: &Environment,
) -> Vec<(IpNet, IfIndex, Option<IpAddr>)> {
    let on_link = topology.bridges.iter().chain([&uplink]).flat_map(|device| {
        let interface = environment.interfaces.get(device);
        let subnets = interface.map_or(&[][..], |interface| &interface.subnets);
        let networks = subnets
            .iter()
            .filter(|subnet| subnet.prefix_len() < subnet.max_prefix_len());
        networks.map(|subnet| (subnet.trunc(), *device, None))
    });
    let there = |direct: &&Direct| environment.interfaces.contains_key(&direct.port);
    let direct = topology.direct.iter().filter(there);
    let direct = direct.map(|direct| (IpNet::from(direct.address), direct.port, None));
    let everything = if v6 {
        IpNet::V6(Ipv6Net::default())
    } else {
        IpNet::V4(Ipv4Net::default())
    };
    let default = environment
        .next_hop(uplink, v6)
        .map(|next_hop| match next_hop {
            NextHop::Via(gateway) => (everything, uplink, Some(gateway)),
            NextHop::OnLink => (everything, uplink, None),
        });
    let of_family = |(destination, ..): &(IpNet, _, _)| destination.addr().is_ipv6() == v6;
    let all = direct.chain(on_link).filter(of_family);
    all.chain(default).collect()
}
