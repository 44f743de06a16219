use sortie_api::mark_mask::MarkMask;
use sortie_plan::compile::base;
use sortie_plan::compile::shared::{Topology, skeleton};
use sortie_plan::compile::steering::Steering;
use sortie_plan::diff::diff;
use sortie_plan::environment::Environment;
use sortie_plan::nft::rule::Field::*;
use sortie_plan::nft::rule::Statement::*;
use sortie_plan::nft::rule::{Rule, Value, Verdict};
use sortie_plan::nft::text;
use sortie_plan::op::Op;
use sortie_plan::state::{HostState, Observed};

use super::*;
use crate::testing::{in_namespace, open_kernel, sh};

/// A chain's lines as `nft` lists them, in the plan's spelling where nft 1.0.6 has none: it knows
/// neither half a label, nor where one that is set comes from.
fn listed(family: Family, chain: &str) -> Vec<String> {
    let text = sh(&format!("nft -y list chain {family} sortie '{chain}'"));
    let lines = text.lines().skip(2).map(str::trim);
    // It names each bit of the half that a cgroup is in.
    let bits: Vec<String> = (64..128).map(|bit| bit.to_string()).collect();
    let half = format!("ct label ! {}", bits.join(","));
    let noted = chain.replace("cgroup-", "ct label set socket cgroupv2 level ");
    lines
        .filter(|line| *line != "}")
        .map(|line| {
            line.replace(&half, "ct label 0")
                .replace("ct label set 18446744073709551615", &noted)
                .replace("ct status ! confirmed", "ct status & confirmed == 0")
                .replace("oif \"lo\"", "oif 1")
                .replace("0x0 [invalid type]", "ct label")
                .replace("tcp dport", "meta l4proto tcp th dport")
                .replace("udp dport", "meta l4proto udp th dport")
                .replace("udp sport", "meta l4proto udp th sport")
                .replace("@th,64,128", "icmpv6 taddr")
                .replace("@ll,48,48", "ether saddr")
                .replace(
                    "meta protocol ip6 icmpv6 type",
                    "meta l4proto ipv6-icmp icmpv6 type",
                )
        })
        .collect()
}

/// Makes these tables, and compares every chain with what `nft` lists.
fn listed_as_planned(wanted: &HostState) {
    let (mut kernel, _state) = open_kernel();
    let made = kernel.apply(&diff(&Observed::default(), wanted.clone()));
    made.unwrap();
    for (family, table) in &wanted.tables {
        for (name, chain) in &table.chains {
            let hook = chain.hook.iter().map(ToString::to_string);
            let rules = text::rules(&chain.rules);
            let expected: Vec<String> = hook.chain(rules.lines().map(str::to_owned)).collect();
            assert_eq!(listed(*family, name), expected, "{family} {name}");
        }
        // As a whole, and each set's type.
        let whole = sh(&format!("nft -y list table {family} sortie"));
        for (name, set) in &table.sets {
            let types = text::key(set);
            let keyed = whole.split(&format!(" {name} {{")).nth(1).unwrap();
            let keyed = keyed.split("type ").nth(1).unwrap().lines().next().unwrap();
            assert_eq!(keyed.split(" : ").next(), Some(&*types), "{family} {name}");
        }
    }
}

#[test]
fn nft_lists_the_compiled_tables_as_the_plan_prints_them() {
    in_namespace(|| {
        sh("ip link add up0 type veth peer name far0; ip link set up0 up");
        let mut tables = base::tables(&Environment::default());
        let (name, chain) = base::last_line("up0");
        let uplinks = [(sortie_api::workload::IfIndex(1), false)];
        let steering = Steering::new(MarkMask::default(), uplinks);
        let inet = tables.get_mut(&Family::Inet).unwrap();
        inet.chains.extend(steering.chains(&Environment::default()));
        let netdev = tables.get_mut(&Family::Netdev).unwrap();
        netdev.chains.insert(name, chain);
        listed_as_planned(&HostState {
            tables,
            ..HostState::default()
        });
    });
}

/// Those of containers on the host's network, at two depths of the tree.
#[test]
fn nft_lists_the_chains_of_sockets_as_the_plan_prints_them() {
    in_namespace(|| {
        let topology = Topology {
            cgroup_levels: [2, 3].into(),
            ..Topology::default()
        };
        listed_as_planned(&skeleton(&Environment::default(), &topology));
    });
}

/// Makes tables with one rule, and gives it as `nft` lists it.
fn one_rule(family: Family, statements: Rule) -> String {
    let (mut kernel, _state) = open_kernel();
    let chain = |rules| Chain { hook: None, rules };
    let sets = [
        ("ports", Set::of(&[KeyType::Interface]).to(Yield::Verdict)),
        ("own4", Set::of(&[KeyType::Ipv4Addr])),
    ];
    let mut ops = vec![
        NftOp::AddTable("tag".to_owned()),
        NftOp::AddChain("other".into(), chain(Vec::new())),
        NftOp::AddChain("tested".into(), chain(Vec::new())),
        NftOp::AddRules("tested".into(), chain(vec![statements])),
    ];
    ops.splice(
        1..1,
        sets.map(|(name, set)| NftOp::AddSet(name.into(), set)),
    );
    let ops: Vec<Op> = ops.into_iter().map(|op| Op::Nft(family, op)).collect();
    kernel.apply(&ops).unwrap();
    let mut lines = listed(family, "tested");
    kernel
        .apply(&[Op::Nft(family, NftOp::DeleteTable)])
        .unwrap();
    assert_eq!(lines.len(), 1);
    lines.remove(0)
}

fn compare(
    field: sortie_plan::nft::rule::Field,
    value: Value,
) -> sortie_plan::nft::rule::Statement {
    Compare {
        field,
        not: false,
        value,
    }
}

#[test]
fn every_kind_of_statement_is_what_nft_means_by_it() {
    let address = |text: &str| Value::Address(text.parse().unwrap());
    let cases: Vec<(Family, Rule, &str)> = vec![
        (
            Family::Inet,
            vec![
                compare(L4Proto, Value::Byte(6)),
                Range {
                    field: ThDport,
                    first: Value::Short(8000),
                    last: Value::Short(8100),
                },
                Verdict::Return.into(),
            ],
            "meta l4proto tcp th dport 8000-8100 return",
        ),
        (
            Family::Inet,
            vec![
                compare(L4Proto, Value::Byte(17)),
                compare(ThDport, Value::Short(53)),
                Snat("203.0.113.11".parse().unwrap()),
            ],
            "meta l4proto udp th dport 53 snat ip to 203.0.113.11",
        ),
        (
            Family::Inet,
            vec![
                Prefix {
                    field: IpDaddr,
                    network: "198.51.100.0".parse().unwrap(),
                    length: 22,
                },
                compare(IpSaddr, address("192.0.2.1")),
                Verdict::Jump("other".into()).into(),
            ],
            "ip daddr 198.51.100.0/22 ip saddr 192.0.2.1 jump other",
        ),
        (
            Family::Inet,
            vec![
                Compare {
                    field: IifKind,
                    not: false,
                    value: Value::Kind("bridge"),
                },
                Compare {
                    field: Iif,
                    not: true,
                    value: Value::Interface(1),
                },
                Verdict::Drop.into(),
            ],
            "meta iifkind \"bridge\" iif != \"lo\" drop",
        ),
        (
            Family::Bridge,
            vec![
                compare(Protocol, Value::Short(0x0800)),
                Lookup {
                    fields: vec![IpSaddr],
                    set: "own4".into(),
                    not: true,
                },
                VerdictMap {
                    fields: vec![Iif],
                    map: "ports".into(),
                },
            ],
            "ip saddr != @own4 iif vmap @ports",
        ),
        (
            Family::Inet,
            vec![
                compare(L4Proto, Value::Byte(17)),
                compare(ThSport, Value::Short(53)),
                Verdict::Accept.into(),
            ],
            "meta l4proto udp th sport 53 accept",
        ),
        (
            Family::Netdev,
            vec![
                compare(Ip6Daddr, address("2001:db8::1")),
                Log {
                    group: 7,
                    prefix: "why".into(),
                },
            ],
            "ip6 daddr 2001:db8::1 log prefix \"why\" group 7",
        ),
    ];
    in_namespace(|| {
        for (family, rule, expected) in cases {
            assert_eq!(one_rule(family, rule), expected);
        }
    });
}

#[test]
fn what_leads_packets_elsewhere_is_what_nft_means_by_it() {
    let cases: Vec<(Rule, &str)> = vec![
        (
            vec![
                compare(Mark, Value::Mark(0x7f)),
                DestinationIsLocal,
                Verdict::Return.into(),
            ],
            "meta mark 0x0000007f fib daddr type local return",
        ),
        (
            vec![GoesOn, Verdict::Return.into()],
            "tcp flags != syn / fin,syn,rst,ack return",
        ),
        (
            vec![
                compare(L4Proto, Value::Byte(17)),
                compare(ThDport, Value::Short(53)),
                Redirect(1053),
            ],
            "meta l4proto udp th dport 53 redirect to :1053",
        ),
        (
            vec![
                Marked(sortie_plan::mark::Mark::PASS),
                SnatToItself { v6: false },
            ],
            "meta mark & 0x000000f0 == 0x000000e0 snat ip to ip saddr",
        ),
    ];
    in_namespace(|| {
        for (rule, expected) in cases {
            assert_eq!(one_rule(Family::Inet, rule), expected);
        }
    });
}

#[test]
fn a_protocol_is_checked_once_a_rule() {
    let twice = vec![
        compare(IpSaddr, Value::Address("192.0.2.1".parse().unwrap())),
        compare(IpDaddr, Value::Address("192.0.2.2".parse().unwrap())),
    ];
    let checks = |family, rule: &Rule| {
        rule::expressions(family, rule)
            .unwrap()
            .into_vec()
            .iter()
            .filter(|expression| expression.name() == "meta")
            .count()
    };
    assert_eq!(checks(Family::Inet, &twice), 1);
    let known = [vec![compare(Protocol, Value::Short(0x0800))], twice].concat();
    assert_eq!(checks(Family::Bridge, &known), 1, "the comparison itself");
    let connection = vec![Lookup {
        fields: vec![CtOriginalIpSaddr],
        set: "own4".into(),
        not: false,
    }];
    assert_eq!(checks(Family::Inet, &connection), 0);
}

#[test]
fn a_set_that_cannot_be_is_refused_by_name() {
    let error = lower_set(Family::Inet, "macs", &Set::of(&[KeyType::EtherAddr])).unwrap_err();
    assert!(error.to_string().contains("macs"), "{error}");
}
