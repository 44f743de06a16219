use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use sortie_api::mark_mask::MarkMask;
use sortie_api::workload::{IfIndex, MacAddress};
use sortie_plan::diff::diff;
use sortie_plan::mark::Mark;
use sortie_plan::nft::rule::{Field, Statement, Verdict};
use sortie_plan::nft::set::{COUNTED, Data, DataType, KeyType, Set};
use sortie_plan::nft::{Chain, Elements, Hook, HookKind, HookPoint, Table};
use sortie_plan::op::{NftOp, Op};
use sortie_plan::state::{HostState, ProxyNeighbour, Route, RoutingRule, RuleBy, Sysctl};

use super::*;
use crate::testing::{in_namespace, open_kernel, sh};

fn v4() -> impl Strategy<Value = Ipv4Addr> {
    (1_u8..250, 1_u8..4).prop_map(|(last, third)| Ipv4Addr::new(198, 51, third, last))
}

fn v6() -> impl Strategy<Value = Ipv6Addr> {
    (1_u16..500).prop_map(|last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last))
}

fn plain() -> impl Strategy<Value = Set> {
    let key = |(index, mac, ip): (u32, [u8; 6], Ipv6Addr)| {
        let key = Key::new().interface(IfIndex(index));
        (key.mac(MacAddress(mac)).ip(ip.into()), Data::None)
    };
    let parts = [KeyType::Interface, KeyType::EtherAddr, KeyType::Ipv6Addr];
    vec((1_u32..9, any::<[u8; 6]>(), v6()), 0..20).prop_map(move |keys| Set {
        elements: keys.into_iter().map(key).collect(),
        ..Set::of(&parts)
    })
}

fn map() -> impl Strategy<Value = Set> {
    btree_map(v4(), v4(), 0..20).prop_map(|pairs| Set {
        elements: pairs
            .into_iter()
            .map(|(from, to)| {
                let to: Key = IpAddr::from(to).into();
                (IpAddr::from(from).into(), Data::Value(to))
            })
            .collect(),
        ..Set::of(&[KeyType::Ipv4Addr]).to(DataType::Ipv4Addr)
    })
}

/// Ranges that touch, that are one address, and that reach the last one.
fn ranges(verdicts: bool) -> impl Strategy<Value = Set> {
    let bounds = btree_set(any::<u32>(), 0..12);
    (bounds, any::<bool>(), any::<bool>()).prop_map(move |(bounds, touching, to_the_end)| {
        let mut bounds: Vec<u32> = bounds.into_iter().collect();
        if to_the_end {
            bounds.push(u32::MAX);
        }
        bounds.dedup();
        let step = if touching { 1 } else { 2 };
        let element = |pair: &[u32]| {
            let key = |bits: u32| Key::from(IpAddr::from(Ipv4Addr::from(bits)));
            let last = if touching && pair[1] != u32::MAX {
                pair[1] - 1
            } else {
                pair[1]
            };
            let data = if verdicts {
                Data::ThroughVerdict(Box::new((key(last), Verdict::Goto("leaf".into()))))
            } else {
                Data::Through(key(last))
            };
            (key(pair[0]), data)
        };
        let data = if verdicts {
            DataType::Verdict
        } else {
            DataType::None
        };
        Set {
            elements: bounds.windows(2).step_by(step).map(element).collect(),
            ..Set::of(&[KeyType::Ipv4Addr]).ranges().to(data)
        }
    })
}

fn table() -> impl Strategy<Value = Table> {
    let chains = btree_set("[a-z]{3,8}", 0..4);
    (plain(), map(), ranges(false), ranges(true), chains).prop_map(
        |(plain, map, ranges, verdicts, names)| {
            let empty = || Chain {
                hook: None,
                rules: vec![vec![Verdict::Accept.into()]],
            };
            let mut chains: BTreeMap<Name, Chain> = names
                .into_iter()
                .map(|name| (name.into(), empty()))
                .collect();
            chains.insert("leaf".into(), empty());
            Table {
                tag: "random".to_owned(),
                sets: [
                    ("plain", plain),
                    ("map", map),
                    ("ranges", ranges),
                    ("verdicts", verdicts),
                ]
                .map(|(name, set)| (Name::from(name), set))
                .into(),
                chains,
                counters: vec!["all".into()],
            }
        },
    )
}

fn network() -> impl Strategy<Value = Network> {
    let device = || prop_oneof![Just("up0".to_owned()), Just("up1".to_owned())];
    let ip = || prop_oneof![v4().prop_map(IpAddr::from), v6().prop_map(IpAddr::from)];
    let routes = vec((ip(), device(), any::<bool>(), 1000_u32..1003), 0..6).prop_map(|routes| {
        let mut places = BTreeSet::new();
        routes
            .into_iter()
            .map(|(ip, device, routed, table)| Route {
                table,
                destination: ip.into(),
                device,
                gateway: routed.then_some(match ip {
                    IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 99).into(),
                    IpAddr::V6(_) => "fe80::99".parse().unwrap(),
                }),
            })
            .filter(|route| places.insert((route.table, route.destination)))
            .collect()
    });
    let rules = vec(
        (
            any::<bool>(),
            100_u32..110,
            device(),
            1000_u32..1003,
            0..2 * Mark::count(MarkMask::default()),
        ),
        0..5,
    );
    let rules = rules.prop_map(|rules| {
        let rule = |(v6, priority, device, table, mark)| RoutingRule {
            v6,
            priority,
            by: match Mark::nth(MarkMask::default(), mark) {
                Some(mark) => RuleBy::Mark(mark),
                None => RuleBy::Input(device),
            },
            table,
        };
        rules.into_iter().map(rule).collect()
    });
    let neighbours = vec((ip(), device()), 0..5).prop_map(|entries| {
        let entry = |(address, device)| ProxyNeighbour { address, device };
        entries.into_iter().map(entry).collect()
    });
    let sysctls = prop_oneof![Just(None), Just(Some("0")), Just(Some("1"))];
    let sysctls = sysctls.prop_map(|value| {
        let forwarding = Sysctl("net/ipv4/ip_forward".to_owned());
        value
            .map(|value| (forwarding, value.to_owned()))
            .into_iter()
            .collect()
    });
    let forwarded = btree_set(device(), 0..2);
    (routes, rules, neighbours, sysctls, forwarded).prop_map(
        |(routes, rules, neighbours, sysctls, forwarded)| Network {
            routes,
            rules,
            neighbours,
            sysctls,
            forwarded,
            redirects: BTreeMap::new(),
            own: BTreeMap::new(),
        },
    )
}

fn state() -> impl Strategy<Value = HostState> {
    let families = prop_oneof![
        Just(Family::Bridge),
        Just(Family::Inet),
        Just(Family::Netdev)
    ];
    (btree_map(families, table(), 0..3), network())
        .prop_map(|(tables, network)| HostState { tables, network })
}

#[test]
fn what_was_asked_is_what_is_observed_whatever_was_there() {
    in_namespace(|| {
        sh(
            "ip link add up0 type veth peer name far0; ip link add up1 type veth peer name far1
            for link in up0 far0 up1 far1; do ip link set $link up; done
            iptables-nft -P FORWARD DROP",
        );
        let (mut kernel, _state) = open_kernel();
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
            cases: 40,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let kernel = std::cell::RefCell::new(&mut kernel);
        runner
            .run(&state(), |wanted| {
                let mut kernel = kernel.borrow_mut();
                let before = kernel.observe().unwrap();
                kernel.apply(&diff(&before, wanted.clone())).unwrap();
                let observed = kernel.observe().unwrap();
                prop_assert!(diff(&observed, wanted.clone()).is_empty());
                prop_assert_eq!(observed, Observed::from(wanted));
                Ok(())
            })
            .unwrap();
    });
}

fn last_line(device: &str) -> Chain {
    Chain {
        hook: Some(Hook {
            kind: HookKind::Filter,
            point: HookPoint::Egress,
            priority: 0,
            device: Some(device.to_owned()),
        }),
        rules: vec![vec![Verdict::Accept.into()]],
    }
}

#[test]
fn a_chain_whose_interface_is_gone_is_missing_until_it_is_back() {
    in_namespace(|| {
        let make = "ip link add up0 type veth peer name far0; ip link set up0 up";
        sh(make);
        let (mut kernel, _state) = open_kernel();
        let wanted = HostState {
            tables: [(
                Family::Netdev,
                Table {
                    tag: "t".to_owned(),
                    chains: [("uplink-up0".into(), last_line("up0"))].into(),
                    ..Table::default()
                },
            )]
            .into(),
            ..HostState::default()
        };
        kernel
            .apply(&diff(&Observed::default(), wanted.clone()))
            .unwrap();
        assert_eq!(kernel.observe().unwrap(), Observed::from(wanted.clone()));
        sh("ip link del up0");
        let observed = kernel.observe().unwrap();
        assert_eq!(observed.tables[&Family::Netdev].chains, BTreeSet::new());
        sh(make);
        let observed = kernel.observe().unwrap();
        kernel.apply(&diff(&observed, wanted.clone())).unwrap();
        assert_eq!(kernel.observe().unwrap(), Observed::from(wanted));
        let listed = sh("nft list table netdev sortie");
        assert_eq!(listed.matches("accept\n").count(), 1, "{listed}");
    });
}

#[test]
fn what_rules_count_is_read_and_is_no_state() {
    in_namespace(|| {
        let (mut kernel, _state) = open_kernel();
        let source = Key::from(IpAddr::from([127, 0, 0, 1]));
        let chain = Chain {
            hook: Some(Hook {
                kind: HookKind::Filter,
                point: HookPoint::Postrouting,
                priority: 0,
                device: None,
            }),
            rules: vec![
                vec![Statement::Count {
                    field: Field::IpSaddr,
                    set: "seen".into(),
                }],
                vec![Statement::Counter("all".into())],
            ],
        };
        let wanted = HostState {
            tables: [(
                Family::Inet,
                Table {
                    tag: "t".to_owned(),
                    sets: [("seen".into(), Set::of(&[KeyType::Ipv4Addr]).counting())].into(),
                    chains: [("guard".into(), chain)].into(),
                    counters: vec!["all".into()],
                },
            )]
            .into(),
            ..HostState::default()
        };
        kernel
            .apply(&diff(&Observed::default(), wanted.clone()))
            .unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let send = || {
            for _ in 0..3 {
                socket.send_to(b"12345678", "127.0.0.1:9").unwrap();
            }
        };
        send();
        let [(key, count)] = kernel.element_counts(Family::Inet, "seen").unwrap()[..] else {
            panic!("one source sends");
        };
        assert_eq!(key, source);
        // The answers, port unreachable, have the same source.
        assert!(count.packets >= 3, "{count:?}");
        assert_eq!(kernel.named_counts(Family::Inet).unwrap()["all"], count);
        assert_eq!(kernel.observe().unwrap(), Observed::from(wanted));

        // Full of others: the rules behind go on.
        let elements =
            |op: fn(_, _) -> _, elements| Op::Nft(Family::Inet, op("seen".into(), elements));
        let others = (0..COUNTED).map(|number| IpAddr::from(Ipv4Addr::from(0x0a00_0000 + number)));
        let others = others.map(|other| (Key::from(other), Data::None)).collect();
        kernel
            .apply(&[
                elements(NftOp::DeleteElements, vec![(source, Data::None)]),
                elements(NftOp::AddElements, others),
            ])
            .unwrap();
        send();
        let seen = kernel.element_counts(Family::Inet, "seen").unwrap();
        assert!(seen.iter().all(|(key, _)| *key != source));
        let all = kernel.named_counts(Family::Inet).unwrap()["all"];
        assert!(all.packets >= 2 * 3, "{all:?}");
    });
}

#[test]
fn a_hundred_thousand_elements_are_made_and_observed() {
    in_namespace(|| {
        let (mut kernel, _state) = open_kernel();
        let elements: Vec<(Key, Data)> = (0..100_000_u32)
            .map(|number| {
                let from = Ipv4Addr::from(0x0a00_0000 + number);
                let to = Key::from(IpAddr::from([203, 0, 113, 1]));
                (IpAddr::from(from).into(), Data::Value(to))
            })
            .collect();
        let set = Set::of(&[KeyType::Ipv4Addr]).to(DataType::Ipv4Addr);
        let on = |op| Op::Nft(Family::Inet, op);
        kernel
            .apply(&[
                on(NftOp::AddTable("t".to_owned())),
                on(NftOp::AddSet("snat4".into(), set)),
                on(NftOp::AddElements("snat4".into(), elements.clone())),
            ])
            .unwrap();
        let observed = kernel.observe().unwrap();
        let wanted: Elements = elements.into_iter().collect();
        assert_eq!(observed.tables[&Family::Inet].sets["snat4"], wanted);
    });
}

/// An element with a time is observed with what is left of it, and goes by itself.
#[test]
fn a_timed_element_goes_by_itself() {
    in_namespace(|| {
        let (mut kernel, _state) = open_kernel();
        let key = |last| {
            let own = Key::from(IpAddr::from(Ipv4Addr::new(172, 17, 0, last)));
            own.ip(Ipv4Addr::new(203, 0, 113, 11).into())
                .interface(IfIndex(2))
        };
        let second = std::time::Duration::from_secs(1);
        let parts = [KeyType::Ipv4Addr, KeyType::Ipv4Addr, KeyType::Interface];
        let timed = [
            (key(2), Data::For(second)),
            (key(3), Data::For(second * 3600)),
        ];
        let add = NftOp::AddElements("timed".into(), timed.to_vec());
        let ops = [
            NftOp::AddTable("tag".to_owned()),
            NftOp::AddSet("timed".into(), Set::of(&parts).expiring()),
            add.clone(),
        ];
        let ops = ops.map(|op| Op::Nft(Family::Inet, op));
        kernel.apply(&ops).unwrap();
        let listed = sh("nft --json list set inet sortie timed");
        assert!(
            listed.contains(r#""timeout": 3600, "expires": 3"#),
            "{listed}"
        );
        let observed = |kernel: &mut Kernel| {
            let table = kernel.observe().unwrap().tables.remove(&Family::Inet);
            table.unwrap().sets.remove("timed").unwrap()
        };
        let found = observed(&mut kernel);
        let left = found.get(&key(3)).cloned();
        assert!(
            matches!(left, Some(Data::For(left)) if left > second * 3000 && left <= second * 3600),
            "{found:?}"
        );
        let deadline = std::time::Instant::now() + second * 30;
        while observed(&mut kernel).contains_key(&key(2)) {
            assert!(std::time::Instant::now() < deadline, "it stays");
        }
        assert_eq!(observed(&mut kernel).len(), 1);
        // Gone or not, it can be taken out.
        let gone = NftOp::DeleteElements("timed".into(), timed.to_vec());
        kernel.apply(&[Op::Nft(Family::Inet, gone)]).unwrap();
        assert!(observed(&mut kernel).is_empty());
    });
}
