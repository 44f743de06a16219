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

fn draining(address: &str) -> EgressPolicy {
    EgressPolicy {
        destinations: Vec::new(),
        on_change: OnChange::Drain { seconds: 30 },
        ..policy("all", &[], &[], v4(address))
    }
}

/// The chain that an element of a verdict map leads to; none where it accepts.
fn way(planner: &Planner, map: &str) -> Vec<Option<Name>> {
    let inet = &planner.desired().tables[&Family::Inet];
    let elements = inet.sets[map].elements.iter();
    elements.map(|(_, data)| data.chain().cloned()).collect()
}

/// Old flows go by their own uplink, whichever of both needs the mark, and for their time only.
#[test]
fn what_drains_keeps_its_uplink() {
    let web = container("web", None, 20, &["172.17.0.2"]);
    let steered = || Some(Name::from("steer-0x10"));
    let mut planner = with_second_uplink(vec![web], vec![draining("203.0.113.12")]);
    let mut kernel = Observed::from(planner.desired());
    let mut change = |planner: &mut Planner, fact| {
        let ops = tell(planner, fact);
        fake::apply(&mut kernel, &ops);
        assert_eq!(
            timeless(&kernel),
            timeless(&Observed::from(planner.desired()))
        );
    };
    // No policy names the second uplink any more: only what drains needs it.
    change(&mut planner, Fact::Policies(vec![draining("203.0.113.11")]));
    assert_eq!(way(&planner, "steered4"), [steered()]);
    assert_eq!(way(&planner, "route4"), []);
    assert!(!planner.desired().network.rules.is_empty());
    // The other way round; and what drained is right again.
    change(&mut planner, Fact::Passed(10));
    change(&mut planner, Fact::Policies(vec![draining("203.0.113.12")]));
    assert_eq!(way(&planner, "steered4"), [None]);
    assert_eq!(way(&planner, "route4"), [steered()]);
    change(&mut planner, Fact::Passed(30));
    assert_eq!(way(&planner, "steered4"), []);
    change(&mut planner, Fact::Policies(vec![draining("203.0.113.11")]));
    change(&mut planner, Fact::Passed(30));
    assert_eq!(way(&planner, "steered4"), []);
    let desired = planner.desired();
    assert!(desired.network.rules.is_empty());
    assert!(
        !desired.tables[&Family::Inet]
            .chains
            .contains_key("classify")
    );
}

/// A new agent that does not know its workloads yet leaves the ways to uplinks alone.
#[test]
fn ways_to_uplinks_stay_until_the_workloads_are_known() {
    let second = container("mail", Some("203.0.113.12"), 20, &["172.17.0.2"]);
    let old = with_second_uplink(vec![second], Vec::new());
    let new = with_second_uplink(Vec::new(), Vec::new());
    let mut kernel = Observed::from(old.desired());
    let ops = new.missing(&kernel);
    fake::apply(&mut kernel, &ops);
    assert_eq!(kernel.network, old.desired().network);
    for ops in new.adopt(&kernel.clone()) {
        fake::apply(&mut kernel, &ops);
    }
    assert_eq!(kernel, Observed::from(new.desired()));
}

/// The gateway's own packets, while a policy asks for a name; before and after there is nothing.
#[test]
fn golden_what_the_gateway_sends() {
    use crate::precedence::tests::any::to_host;

    let web = container("web", Some("203.0.113.12"), 20, &["172.17.0.2"]);
    let mut planner = with_second_uplink(vec![web], Vec::new());
    let chains = |planner: &Planner| {
        let mut inet = planner.desired().tables.remove(&Family::Inet).unwrap();
        inet.sets.clear();
        inet.counters.clear();
        inet.chains.retain(|name, _| name.starts_with("gateway-"));
        text::table(Family::Inet, &inet)
    };
    let without = chains(&planner);
    assert!(!without.contains("chain"), "{without}");
    let mut named = policy("named", &[], &[], v4("203.0.113.11"));
    named.destinations = vec![to_host("api.test", &[])];
    planner.policies_changed(vec![named]);
    insta::assert_snapshot!(chains(&planner));
    planner.policies_changed(Vec::new());
    assert_eq!(chains(&planner), without);
}
