use std::net::IpAddr;

use super::facts::*;
use super::*;
use sortie_api::workload::Engine;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn interface(name: &str, bridge: bool) -> Interface {
    Interface {
        name: name.to_owned(),
        bridge,
        mtu: 1500,
    }
}

fn address(text: &str, prefix: u8, interface: &str) -> Address {
    Address {
        address: ip(text),
        prefix,
        interface: interface.to_owned(),
        deprecated: false,
        duplicate: false,
    }
}

fn egress(text: &str, uplink: &str) -> Egress {
    Egress {
        address: ip(text),
        uplink: Some(uplink.to_owned()),
        fix: None,
        scarce: None,
    }
}

fn chain(hook: Hook, priority: i32) -> BaseChain {
    BaseChain {
        family: "ip".to_owned(),
        table: "other".to_owned(),
        name: "chain".to_owned(),
        hook,
        priority,
        drops: false,
        names: Some(Vec::new()),
    }
}

/// A host with Docker, an agent and two egress addresses, where nothing is wrong.
fn healthy() -> Facts {
    let sysctls = [
        ("net/bridge/bridge-nf-call-iptables", "0"),
        ("net/ipv4/conf/all/rp_filter", "1"),
        ("net/ipv4/conf/docker0/forwarding", "1"),
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
        ("net/netfilter/nf_conntrack_acct", "1"),
    ];
    let deprecated = Address {
        deprecated: true,
        ..address("2001:db8:113::11", 128, "eth0")
    };
    let table = |family: &str| Table {
        family: family.to_owned(),
        owner: Some(7),
    };
    Facts {
        interfaces: vec![
            interface("eth0", false),
            interface("eth1", false),
            interface("docker0", true),
        ],
        addresses: vec![
            address("203.0.113.5", 24, "eth0"),
            address("203.0.113.11", 32, "eth0"),
            deprecated,
            address("172.17.0.1", 16, "docker0"),
        ],
        defaults: [false, true]
            .map(|v6| Default {
                v6,
                interface: "eth0".to_owned(),
            })
            .into(),
        chosen: vec![Chosen {
            source: ip("203.0.113.5"),
            route: "default via 203.0.113.1 dev eth0 metric 0".to_owned(),
        }],
        sysctls: sysctls
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        conntrack: Conntrack {
            count: 79,
            max: 100,
            ..Conntrack::default()
        },
        chains: vec![chain(Hook::PostroutingNat, 100), chain(Hook::Forward, 0)],
        tables: vec![table("bridge"), table("inet"), table("netdev")],
        hooked: vec!["eth0".to_owned()],
        agent: Agent::Running {
            settled: true,
            workloads: 0,
            uplinks: vec!["eth0".to_owned()],
            egress: vec![
                egress("203.0.113.11", "eth0"),
                egress("2001:db8:113::11", "eth0"),
            ],
        },
        ..Facts::default()
    }
}

/// The only finding, as `name object`, and its fix.
fn only(facts: &Facts) -> (String, String) {
    let found = findings(facts);
    assert_eq!(found.len(), 1, "{found:#?}");
    let finding = &found[0];
    assert!(!finding.why.is_empty() && !finding.fix.is_empty());
    (
        format!("{} {}", finding.name, finding.object),
        finding.fix.clone(),
    )
}

fn set(facts: &mut Facts, sysctl: &str, value: &str) {
    facts.sysctls.insert(sysctl.to_owned(), value.to_owned());
}

fn of_agent(facts: &mut Facts) -> (&mut Vec<String>, &mut Vec<Egress>) {
    match &mut facts.agent {
        Agent::Running {
            uplinks, egress, ..
        } => (uplinks, egress),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_healthy_host_has_no_finding() {
    assert_eq!(findings(&healthy()), []);
}

#[test]
fn a_feature_that_is_missing() {
    let mut facts = healthy();
    let feature = |name, needed| Feature {
        name,
        needed,
        meaning: "it is bad; use kernel 9",
    };
    facts.missing = vec![feature("persist", false), feature("fib", true)];
    let found = findings(&facts);
    let texts: Vec<_> = found
        .iter()
        .map(|f| (f.name, f.severity, &*f.object, &*f.why, &*f.fix))
        .collect();
    let (why, fix) = ("it is bad", "use kernel 9");
    assert_eq!(
        texts,
        [
            ("feature-missing", Severity::Error, "fib", why, fix),
            ("feature-missing", Severity::Warning, "persist", why, fix),
        ]
    );
}

#[test]
fn forwarding_is_needed_by_bridges_only() {
    let mut facts = healthy();
    set(&mut facts, "net/ipv6/conf/all/forwarding", "0");
    assert_eq!(findings(&facts), [], "no bridge has an IPv6 address");
    set(&mut facts, "net/ipv4/conf/docker0/forwarding", "0");
    let (found, fix) = only(&facts);
    assert_eq!(found, "forwarding-off net/ipv4/conf/docker0/forwarding");
    assert_eq!(fix, "sysctl -w net/ipv4/conf/docker0/forwarding=1");
    set(&mut facts, "net/ipv4/ip_forward", "0");
    assert_eq!(only(&facts).0, "forwarding-off net/ipv4/ip_forward");
    facts.addresses.push(address("fd00::1", 64, "docker0"));
    assert_eq!(findings(&facts).len(), 2);
}

#[test]
fn strict_rp_filter_matters_off_the_default_route_only() {
    let mut facts = healthy();
    facts.addresses.push(address("192.0.2.11", 32, "eth1"));
    facts.hooked.push("eth1".to_owned());
    let (uplinks, addresses) = of_agent(&mut facts);
    uplinks.push("eth1".to_owned());
    addresses.push(egress("192.0.2.11", "eth1"));
    let (found, fix) = only(&facts);
    assert_eq!(found, "rp-filter-strict eth1");
    assert_eq!(fix, "sysctl -w net/ipv4/conf/eth1/rp_filter=2");
    set(&mut facts, "net/ipv4/conf/eth1/rp_filter", "2");
    assert_eq!(findings(&facts), []);
}

#[test]
fn bridged_packets_in_others_chains_are_a_note() {
    let mut facts = healthy();
    set(&mut facts, "net/bridge/bridge-nf-call-iptables", "1");
    assert_eq!(
        only(&facts).0,
        "bridge-nf-call net/bridge/bridge-nf-call-iptables"
    );
    assert_eq!(findings(&facts)[0].severity, Severity::Note);
}

#[test]
fn the_table_of_flows() {
    let mut facts = healthy();
    facts.conntrack.count = 80;
    let (found, fix) = only(&facts);
    assert_eq!(found, "conntrack-small net/netfilter/nf_conntrack_max");
    assert_eq!(fix, "sysctl -w net/netfilter/nf_conntrack_max=200");
    let mut many = healthy();
    if let Agent::Running { workloads, .. } = &mut many.agent {
        *workloads = 1;
    }
    let (found, fix) = only(&many);
    assert_eq!(found, "conntrack-small net/netfilter/nf_conntrack_max");
    assert_eq!(fix, "sysctl -w net/netfilter/nf_conntrack_max=120");
    assert_eq!(findings(&many)[0].severity, Severity::Note);
    facts.conntrack = Conntrack {
        dropped: 1,
        ..Conntrack::default()
    };
    assert_eq!(
        only(&facts).0,
        "conntrack-full net/netfilter/nf_conntrack_max"
    );
}

#[test]
fn accounting_is_the_agents_business() {
    let mut facts = healthy();
    set(&mut facts, "net/netfilter/nf_conntrack_acct", "0");
    assert_eq!(
        only(&facts).0,
        "conntrack-acct-off net/netfilter/nf_conntrack_acct"
    );
    facts.agent = Agent::Silent("it hangs".to_owned());
    assert_eq!(only(&facts).0, "agent-silent agent");
}

#[test]
fn a_bridge_with_larger_packets_than_its_uplink() {
    let mut facts = healthy();
    facts.interfaces[0].mtu = 1400;
    let (found, fix) = only(&facts);
    assert_eq!(found, "mtu-mismatch docker0");
    assert!(fix.starts_with("ip link set docker0 mtu 1400"), "{fix}");
}

#[test]
fn an_address_that_is_not_there() {
    let mut facts = healthy();
    facts.addresses.remove(1);
    of_agent(&mut facts).1[0].fix = Some("ip addr add".to_owned());
    let (found, fix) = only(&facts);
    assert_eq!(found, "address-missing 203.0.113.11");
    assert_eq!(fix, "ip addr add");
}

#[test]
fn an_address_that_another_machine_has() {
    let mut facts = healthy();
    facts.addresses[2].duplicate = true;
    assert_eq!(only(&facts).0, "address-duplicate 2001:db8:113::11");
}

#[test]
fn an_address_that_others_could_choose() {
    let mut facts = healthy();
    facts.addresses[1].prefix = 24;
    let (found, fix) = only(&facts);
    assert_eq!(found, "address-selectable 203.0.113.11");
    assert_eq!(
        fix,
        "ip addr add 203.0.113.11/32 dev eth0 && ip addr del 203.0.113.11/24 dev eth0"
    );

    let mut facts = healthy();
    facts.addresses[2].deprecated = false;
    let (found, fix) = only(&facts);
    assert_eq!(found, "address-selectable 2001:db8:113::11");
    assert_eq!(
        fix,
        "ip addr change 2001:db8:113::11/128 dev eth0 preferred_lft 0"
    );

    let mut facts = healthy();
    facts.chosen[0].source = ip("203.0.113.11");
    let (found, fix) = only(&facts);
    assert_eq!(found, "address-selectable 203.0.113.11");
    assert_eq!(
        fix,
        "ip route change default via 203.0.113.1 dev eth0 metric 0 src HOST_ADDRESS"
    );
}

#[test]
fn source_ports_that_run_out() {
    let mut facts = healthy();
    of_agent(&mut facts).1[0].scarce = Some(Scarce {
        towards: "198.51.100.9:443/tcp".to_owned(),
        used: 60_000,
        of: 64_512,
    });
    assert_eq!(only(&facts).0, "ports-scarce 203.0.113.11");
    assert_eq!(findings(&facts)[0].severity, Severity::Warning);
}

#[test]
fn another_translation_before_ours() {
    for (priority, order) in [(99, "may decide"), (50, "decides before")] {
        let mut facts = healthy();
        facts.chains[0].priority = priority;
        assert_eq!(only(&facts).0, "nat-before-ours ip other chain");
        assert!(findings(&facts)[0].why.contains(order));
    }
}

#[test]
fn a_forward_chain_that_knows_no_bridge() {
    let mut facts = healthy();
    facts.chains[1].drops = true;
    let (found, fix) = only(&facts);
    assert_eq!(found, "forward-drop ip other chain");
    assert_eq!(fix, "nft insert rule ip other chain iifname docker0 accept");
    for names in [Some(vec!["docker*".to_owned()]), None] {
        facts.chains[1].names = names;
        assert_eq!(findings(&facts), []);
    }
    facts.chains[1].names = Some(vec!["docker1".to_owned()]);
    facts.chains[1].family = "ip6".to_owned();
    assert_eq!(findings(&facts), [], "docker0 has no IPv6 address");
}

#[test]
fn marks_of_others() {
    let mark = |bits, value| MarkUse {
        by: "ip rule pref 5".to_owned(),
        bits,
        value,
    };
    let mut facts = healthy();
    // kube-proxy; wg-quick, whose value is none of ours; a whole mark without our bits.
    facts.marks = vec![
        mark(0x4000, Some(0x4000)),
        mark(u32::MAX, Some(0xca6c)),
        mark(u32::MAX, Some(0x100)),
    ];
    assert_eq!(findings(&facts), []);
    for clash in [mark(u32::MAX, Some(0x10)), mark(u32::MAX, None)] {
        facts.marks = vec![clash];
        assert_eq!(only(&facts).0, "mark-clash ip rule pref 5");
        assert_eq!(findings(&facts)[0].severity, Severity::Note);
    }
    facts.addresses.push(address("192.0.2.11", 32, "eth1"));
    of_agent(&mut facts).1.push(egress("192.0.2.11", "eth1"));
    let found = findings(&facts);
    let clash = found.iter().find(|finding| finding.name == "mark-clash");
    assert_eq!(clash.unwrap().severity, Severity::Warning);
}

#[test]
fn iptables_legacy() {
    let mut facts = healthy();
    facts.legacy = vec!["nat".to_owned()];
    assert_eq!(findings(&facts), [], "it filters nothing");
    facts.legacy.insert(0, "filter".to_owned());
    assert_eq!(only(&facts).0, "iptables-legacy-present filter, nat");
}

#[test]
fn tables_that_somebody_holds_or_removed() {
    let mut facts = healthy();
    facts.tables.remove(1);
    assert_eq!(only(&facts).0, "table-missing inet sortie");
    facts.tables.pop();
    facts.agent = Agent::Absent;
    let found = findings(&facts);
    let names: Vec<_> = found.iter().map(|f| (f.name, &*f.object)).collect();
    assert_eq!(
        names,
        [("table-held", "bridge sortie"), ("agent-absent", "agent")]
    );
}

#[test]
fn an_uplink_that_the_last_line_left() {
    let mut facts = healthy();
    facts.hooked.clear();
    assert_eq!(only(&facts).0, "uplink-unhooked eth0");
    facts.agent = Agent::Absent;
    for table in &mut facts.tables {
        table.owner = None;
    }
    let found = findings(&facts);
    assert_eq!(found[0].name, "uplink-unhooked", "without an agent too");
}

/// An installed runtime that is as it was installed.
fn installed() -> Runtime {
    Runtime {
        engine: Engine::Docker,
        link: "/state/docker/sortie-runtime".to_owned(),
        program: Some("/usr/local/bin/sortie".to_owned()),
        found: true,
        this: "/usr/local/bin/sortie".to_owned(),
        answer: Some(EngineRuntime {
            default: "sortie".to_owned(),
            is_default: true,
            known: true,
            others: Vec::new(),
            older_service: None,
        }),
    }
}

#[test]
fn what_became_of_the_runtime() {
    let with = |change: &dyn Fn(&mut Runtime)| {
        let mut runtime = installed();
        change(&mut runtime);
        Facts {
            runtimes: vec![runtime],
            ..healthy()
        }
    };
    let engine = |change: &dyn Fn(&mut EngineRuntime)| {
        with(&|runtime| change(runtime.answer.as_mut().unwrap()))
    };
    assert_eq!(findings(&with(&|_| ())), []);
    assert_eq!(findings(&with(&|runtime| runtime.answer = None)), []);
    for (facts, wanted) in [
        (
            with(&|runtime| runtime.program = None),
            "runtime-broken /state/docker/sortie-runtime",
        ),
        (
            with(&|runtime| runtime.found = false),
            "runtime-broken /state/docker/sortie-runtime",
        ),
        (
            with(&|runtime| runtime.this = "/opt/sortie".to_owned()),
            "runtime-another /state/docker/sortie-runtime",
        ),
        (
            engine(&|engine| {
                engine.default = "runc".to_owned();
                engine.is_default = false;
            }),
            "runtime-not-default runc",
        ),
        (
            engine(&|engine| engine.older_service = Some("/usr/bin/crun".to_owned())),
            "runtime-not-default /usr/bin/crun",
        ),
        (
            engine(&|engine| engine.others = vec!["db".to_owned(), "web".to_owned()]),
            "runtime-unused db, web",
        ),
    ] {
        assert_eq!(only(&facts).0, wanted);
    }
    // `uninstall` has made the name lead to the real runtime.
    let leaving = engine(&|engine| {
        engine.known = false;
        engine.is_default = false;
        engine.default = "runc".to_owned();
    });
    assert_eq!(findings(&leaving), []);
}

#[test]
fn users_own_containers_are_told() {
    let mut facts = healthy();
    facts.rootless = [(1000, 2)].into();
    assert_eq!(only(&facts).0, "rootless-unmanaged user 1000");
}
