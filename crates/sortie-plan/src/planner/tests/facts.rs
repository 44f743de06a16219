//! Facts that tests tell a planner: chosen ones, and any.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;
use sortie_api::config::{AgentConfig, Guard};
use sortie_api::labels::Labels;
use sortie_api::policy::{
    Action, Destination, Egress, EgressPolicy, Enforcement, HostPattern, Mode, OnChange,
    OnUnavailable, Owner, PolicyName, PortRange, Protocol, Selector, Unlearned,
};
use sortie_api::workload::{
    Cgroup, CgroupId, Endpoint, Families, IfIndex, MacAddress, Network, Workload, WorkloadId,
    WorkloadKind,
};

use crate::environment::{DefaultRoute, Environment, Interface};
use crate::op::Op;
use crate::planner::Planner;

pub(in crate::planner) const UPLINK: IfIndex = IfIndex(2);
pub(in crate::planner) const SECOND_UPLINK: IfIndex = IfIndex(3);
pub(in crate::planner) const BRIDGE: IfIndex = IfIndex(10);
pub(in crate::planner) const SECOND_BRIDGE: IfIndex = IfIndex(11);
/// What workloads look up.
pub(in crate::planner) const NAMES: [&str; 3] = ["bank.example", "shop.example", "elsewhere.test"];

#[derive(Debug, Clone)]
pub(in crate::planner) enum Fact {
    Workload(Workload),
    Gone(WorkloadId),
    Containers(Vec<Workload>, Vec<WorkloadId>),
    Networks(Vec<Network>),
    Policies(Vec<EgressPolicy>),
    Environment(Box<Environment>),
    Passed(u64),
    Bypass(WorkloadId, u64),
    Bypassed(WorkloadId),
    Learned(WorkloadId, &'static str, Vec<IpAddr>),
}

pub(in crate::planner) fn tell(planner: &mut Planner, fact: Fact) -> Vec<Op> {
    match fact {
        Fact::Workload(workload) => planner.workload(workload, None),
        Fact::Gone(id) => planner.workload_gone(&id),
        Fact::Containers(there, gone) => planner.containers(there, &gone),
        Fact::Networks(networks) => planner.networks(networks),
        Fact::Policies(policies) => planner.policies_changed(policies),
        Fact::Environment(environment) => planner.environment_changed(*environment),
        Fact::Passed(seconds) => planner.at(planner.now + Duration::from_secs(seconds)),
        Fact::Bypass(id, seconds) => planner.bypass(&id, Duration::from_secs(seconds)),
        Fact::Bypassed(id) => planner.end_bypass(&id),
        Fact::Learned(id, name, addresses) => planner.learned(&id, name, &addresses).1,
    }
}

pub(in crate::planner) fn environment(egress: &[&str], guard: Guard) -> Environment {
    let interface = |name: &str| Interface {
        name: name.into(),
        loopback: false,
        subnets: Vec::new(),
    };
    Environment {
        interfaces: BTreeMap::from([
            (
                IfIndex(1),
                Interface {
                    name: "lo".into(),
                    loopback: true,
                    subnets: Vec::new(),
                },
            ),
            (UPLINK, interface("up0")),
            (SECOND_UPLINK, interface("up1")),
            (BRIDGE, interface("docker0")),
            (SECOND_BRIDGE, interface("br-shop")),
        ]),
        addresses: egress
            .iter()
            .map(|ip| (ip.parse().unwrap(), UPLINK))
            .collect(),
        default_routes: vec![
            DefaultRoute {
                v6: false,
                device: UPLINK,
                gateway: None,
                metric: 0,
            },
            DefaultRoute {
                v6: true,
                device: UPLINK,
                gateway: None,
                metric: 0,
            },
        ],
        config: AgentConfig {
            guard,
            ..AgentConfig::default()
        },
        ..Environment::default()
    }
}

pub(in crate::planner) fn container(
    name: &str,
    label: Option<&str>,
    port: u32,
    addresses: &[&str],
) -> Workload {
    Workload {
        id: WorkloadId::from(format!("docker/{name}")),
        name: name.into(),
        kind: WorkloadKind::Docker,
        labels: label
            .iter()
            .map(|value| ("sortie.egress".to_owned(), (*value).to_owned()))
            .collect(),
        pid: port,
        started: i64::from(port),
        endpoints: vec![Endpoint {
            network: "bridge".into(),
            port: IfIndex(port),
            bridge: Some(BRIDGE),
            mac: MacAddress([2, 66, 172, 17, 0, u8::try_from(port % 256).unwrap()]),
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
            default_route: Families::default(),
        }],
        published_udp: [].into(),
        cgroup: None,
        unmanageable: None,
    }
}

/// A container in the host's network namespace.
pub(in crate::planner) fn on_host(
    name: &str,
    label: Option<&str>,
    id: u32,
    level: u32,
) -> Workload {
    let id = CgroupId(u64::from(id));
    Workload {
        endpoints: Vec::new(),
        cgroup: Some(Cgroup { id, level }),
        ..container(name, label, 0, &[])
    }
}

/// Where a random workload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::planner) enum Kind {
    Bridged,
    Process,
    Host,
}

pub(in crate::planner) fn network(name: &str, bridge: IfIndex, guard: bool) -> Network {
    let labels = if guard {
        BTreeMap::from([("sortie.guard".into(), "true".into())])
    } else {
        BTreeMap::new()
    };
    Network {
        name: name.into(),
        labels,
        bridge: Some(bridge),
        bridge_name: None,
        subnets: Vec::new(),
    }
}

pub(in crate::planner) fn policy(
    name: &str,
    cidrs: &[&str],
    ports: &[u16],
    action: Action,
) -> EgressPolicy {
    EgressPolicy {
        name: PolicyName(name.into()),
        owner: Owner::Policy,
        priority: 0,
        workloads: vec![Selector {
            names: vec!["*".into()],
            ..Selector::default()
        }],
        destinations: vec![destination(cidrs, ports)],
        action,
        on_unavailable: OnUnavailable::Drop,
        on_change: OnChange::Reset,
        enforcement: Enforcement::Enforce,
        unlearned: Unlearned::Sniff,
        only_these_hosts: false,
    }
}

pub(in crate::planner) fn destination(cidrs: &[&str], ports: &[u16]) -> Destination {
    Destination {
        cidrs: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
        ports: ports
            .iter()
            .map(|p| PortRange {
                protocol: Protocol::Tcp,
                first: *p,
                last: *p,
            })
            .collect(),
        ..Destination::default()
    }
}

pub(in crate::planner) fn v4(address: &str) -> Action {
    Action::Egress(Egress {
        v4: Some(address.parse().unwrap()),
        v6: None,
        mode: Mode::Auto,
    })
}

pub(in crate::planner) fn direct(address: &str) -> Action {
    Action::Egress(Egress {
        v4: Some(address.parse().unwrap()),
        v6: None,
        mode: Mode::Direct,
    })
}

pub(in crate::planner) fn any_workload() -> impl Strategy<Value = Workload> {
    let label = prop::sample::select(vec![
        None,
        Some("203.0.113.11"),
        Some("203.0.113.12,2001:db8::12"),
        Some("bypass"),
        Some("nonsense"),
    ]);
    let addresses = prop::sample::subsequence(
        vec!["172.17.0.2", "172.17.0.3", "fd00::2", "fd00::3"],
        0..=3,
    );
    (
        prop::sample::select(vec!["web", "mail", "batch"]),
        label,
        0u32..4,
        addresses,
        any::<bool>(),
        prop::sample::select(vec![
            Kind::Bridged,
            Kind::Bridged,
            Kind::Process,
            Kind::Host,
        ]),
    )
        .prop_map(|(name, label, port, addresses, second, kind)| {
            let process = kind == Kind::Process;
            // An interface index is one workload's only.
            let base = 20 + 10 * u32::try_from(name.len()).unwrap() + if process { 100 } else { 0 };
            let mut workload = container(name, label, base + port, &addresses);
            if port == 3 {
                workload.published_udp.insert(53);
            }
            if second {
                workload.endpoints[0].bridge = Some(SECOND_BRIDGE);
                workload.endpoints[0].network = "shop".into();
            }
            if kind == Kind::Host {
                workload = on_host(name, label, base + port, 2 + u32::from(second));
            }
            if process {
                workload.id = WorkloadId::from(format!("process/{name}"));
                workload.kind = WorkloadKind::Process;
                workload.labels = Labels::default();
                workload.endpoints[0].bridge = None;
                workload.endpoints[0].network.clear();
            }
            workload
        })
}

pub(in crate::planner) fn any_policy() -> impl Strategy<Value = EgressPolicy> {
    let cidr = prop::sample::select(vec![
        "0.0.0.0/0",
        "203.0.113.0/24",
        "203.0.113.64/26",
        "203.0.113.70/32",
        "2001:db8::/32",
    ]);
    let action = prop::sample::select(vec![
        v4("203.0.113.11"),
        Action::Egress(Egress {
            v4: Some([203, 0, 113, 13].into()),
            v6: "2001:db8::13".parse().ok(),
            mode: Mode::Auto,
        }),
        direct("203.0.113.12"),
        direct("203.0.113.14"),
        Action::Bypass,
        Action::Deny,
    ]);
    (
        0u8..3,
        prop::collection::vec(cidr, 0..3),
        prop::collection::vec(prop::sample::select(vec![80, 443]), 0..2),
        action,
        any::<bool>(),
        0u16..2,
        any::<bool>(),
        0u16..3,
        prop::sample::select(vec![None, None, Some("*.example"), Some("bank.example")]),
    )
        .prop_map(
            |(name, cidrs, ports, action, node, priority, by_network, drain, host)| {
                let mut policy = policy(&format!("p{name}"), &cidrs, &ports, action);
                policy.priority = priority;
                let direct = policy.direct(false).is_some();
                if direct || cidrs.is_empty() && ports.is_empty() {
                    policy.destinations.clear();
                }
                if !direct && cidrs.contains(&"203.0.113.0/24") {
                    policy.destinations[0].except = vec!["203.0.113.128/25".parse().unwrap()];
                }
                if let Some(host) = host.filter(|_| !direct) {
                    let hosts = vec![HostPattern::try_from(host.to_owned()).unwrap()];
                    policy.destinations.push(Destination {
                        hosts,
                        ..destination(&[], &ports)
                    });
                    if priority > 0 {
                        policy.unlearned = Unlearned::Deny;
                    }
                }
                if node {
                    policy.on_unavailable = OnUnavailable::NodeAddress;
                }
                if drain > 0 && matches!(policy.action, Action::Egress(_)) {
                    let seconds = 10 * drain;
                    policy.on_change = OnChange::Drain { seconds };
                }
                if by_network {
                    policy.workloads[0].networks = vec!["shop".into()];
                }
                policy
            },
        )
}

pub(in crate::planner) fn any_environment() -> impl Strategy<Value = Environment> {
    let addresses = vec![
        "203.0.113.11",
        "203.0.113.12",
        "203.0.113.13",
        "2001:db8::12",
        "2001:db8::13",
    ];
    (
        prop::sample::subsequence(addresses, 0..=5),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        0u32..3,
    )
        .prop_map(|(addresses, all, second, routed, metric)| {
            let mut environment =
                environment(&addresses, if all { Guard::All } else { Guard::Networks });
            if let Some(uplink) = environment.addresses.values_mut().next().filter(|_| second) {
                *uplink = SECOND_UPLINK;
            }
            if !routed {
                environment.default_routes.clear();
            }
            // None, one as good as the first's, and one that is behind it.
            if metric > 0 {
                environment.default_routes.push(DefaultRoute {
                    v6: false,
                    device: SECOND_UPLINK,
                    gateway: Some([203, 0, 114, 1].into()),
                    metric: metric - 1,
                });
            }
            environment
        })
}

pub(in crate::planner) fn any_fact() -> impl Strategy<Value = Fact> {
    let networks = (any::<bool>(), any::<bool>()).prop_map(|(first, second)| {
        vec![
            network("bridge", BRIDGE, first),
            network("shop", SECOND_BRIDGE, second),
        ]
    });
    let ids = vec!["docker/web", "docker/mail", "process/batch"];
    let known = ids.clone();
    let told = prop::sample::subsequence(vec!["203.0.113.70", "192.0.2.7", "2001:db8::7"], 1..=3);
    let id = || prop::sample::select(known.clone()).prop_map(WorkloadId::from);
    let several = (
        prop::collection::vec(any_workload(), 0..4),
        prop::sample::subsequence(ids, 0..=2),
    );
    prop_oneof![
        4 => any_workload().prop_map(Fact::Workload),
        2 => id().prop_map(Fact::Gone),
        2 => several.prop_map(|(there, gone)| Fact::Containers(there, gone.into_iter().map(Into::into).collect())),
        1 => networks.prop_map(Fact::Networks),
        2 => prop::collection::btree_map(0u8..3, any_policy(), 0..3)
            .prop_map(|policies| Fact::Policies(policies.into_iter().map(|(i, p)| EgressPolicy { name: PolicyName(format!("p{i}")), ..p }).collect())),
        1 => any_environment().prop_map(|it| Fact::Environment(Box::new(it))),
        1 => (1u64..15).prop_map(Fact::Passed),
        1 => (id(), 1u64..15).prop_map(|(id, seconds)| Fact::Bypass(id, seconds)),
        1 => id().prop_map(Fact::Bypassed),
        4 => (id(), prop::sample::select(NAMES.to_vec()), told)
            .prop_map(|(id, name, told)| Fact::Learned(id, name, told.into_iter().map(|ip| ip.parse().unwrap()).collect())),
    ]
}
