//! Egress addresses on an uplink that the default route does not use.

use super::*;

/// The egress addresses .12 and ::12 are on the second uplink.
fn with_second_uplink(workloads: Vec<Workload>, policies: Vec<EgressPolicy>) -> Planner {
    let mut environment = environment(
        &["203.0.113.11", "203.0.113.12", "2001:db8::12"],
        Guard::Networks,
    );
    for (address, uplink) in &mut environment.addresses {
        if address.to_string().ends_with("12") {
            *uplink = SECOND_UPLINK;
        }
    }
    let interface = environment.interfaces.get_mut(&SECOND_UPLINK).unwrap();
    interface.subnets = vec![
        "203.0.114.5/24".parse().unwrap(),
        "203.0.113.12/32".parse().unwrap(),
    ];
    let bridge = environment.interfaces.get_mut(&BRIDGE).unwrap();
    bridge.subnets = vec![
        "172.17.0.1/16".parse().unwrap(),
        "fd00::1/64".parse().unwrap(),
    ];
    for (v6, gateway) in [(false, "203.0.114.1"), (true, "fe80::1")] {
        environment.other_default_routes.push(DefaultRoute {
            v6,
            device: SECOND_UPLINK,
            gateway: gateway.parse().ok(),
            metric: 0,
        });
    }
    let mut planner = Planner::new(environment);
    planner.networks(vec![network("bridge", BRIDGE, false)]);
    planner.policies_changed(policies);
    for workload in workloads {
        planner.workload(workload, None);
    }
    planner
}

/// What is outside nftables, as `ip` and `sysctl` would write it.
fn network_text(planner: &Planner) -> String {
    let network = planner.desired().network;
    let routes = network.routes.iter().map(|route| format!("route {route}"));
    let rules = network.rules.iter().map(|rule| format!("rule {rule}"));
    let sysctls = network.sysctls.iter();
    let sysctls = sysctls.map(|(sysctl, value)| format!("sysctl {}={value}", sysctl.0));
    let lines: Vec<String> = routes.chain(rules).chain(sysctls).collect();
    lines.join("\n")
}

#[test]
fn golden_second_uplink() {
    let bank = policy("bank", &["203.0.113.0/24"], &[443], v4("203.0.113.12"));
    let planner = with_second_uplink(
        vec![
            container("first", Some("203.0.113.11"), 20, &["172.17.0.2"]),
            container(
                "second",
                Some("203.0.113.12,2001:db8::12"),
                21,
                &["172.17.0.3", "fd00::3"],
            ),
            container("bank", None, 22, &["172.17.0.4"]),
        ],
        vec![EgressPolicy {
            workloads: vec![Selector {
                names: vec!["bank".into()],
                ..Selector::default()
            }],
            ..bank
        }],
    );
    insta::assert_snapshot!(network_text(&planner) + "\n\n" + &ruleset(&planner));
}

/// What the host's routes do by themselves costs nothing: no chain, no element, no rule.
#[test]
fn without_a_second_uplinks_address_nothing_is_marked() {
    let first = container("web", Some("203.0.113.11"), 20, &["172.17.0.2"]);
    let mut planner = with_second_uplink(vec![first], Vec::new());
    let unmarked = |planner: &Planner| {
        let desired = planner.desired();
        let inet = &desired.tables[&Family::Inet];
        let marked = &inet.sets["route4"].elements;
        marked.is_empty()
            && !inet.chains.contains_key("classify")
            && desired.network.rules.is_empty()
    };
    assert!(unmarked(&planner));
    planner.workload(
        container("mail", Some("203.0.113.12"), 21, &["172.17.0.3"]),
        None,
    );
    assert!(!unmarked(&planner));
    assert!(planner.unusable([203, 0, 113, 12].into()).is_none());
    planner.workload_gone(&WorkloadId::from("docker/mail"));
    assert!(unmarked(&planner));
}

#[test]
fn an_uplink_without_a_gateway_says_what_to_add() {
    let second = container("mail", Some("203.0.113.12"), 20, &["172.17.0.2"]);
    let mut planner = with_second_uplink(vec![second], Vec::new());
    let mut environment = planner.environment().clone();
    environment.other_default_routes.clear();
    planner.environment_changed(environment);
    let unusable = planner.unusable([203, 0, 113, 12].into()).unwrap();
    assert_eq!(
        unusable.reason,
        "203.0.113.12 is on up1, and no gateway is known there"
    );
    assert_eq!(
        unusable.fix,
        "ip route add default via GATEWAY dev up1 metric 20000"
    );
}
