//! What is written comes back from the kernel as the same types.

use std::net::Ipv4Addr;
use std::time::Duration;

use nfnetlink::chain::{Chain, ChainType, HookPoint, Policy};
use nfnetlink::datatype::DataType;
use nfnetlink::expr::selectors::*;
use nfnetlink::expr::{Counter, Exprs};
use nfnetlink::{Batch, Data, Element, Expr, Family, NamedCounter, Rule, Set, Socket, Table};

use super::namespace::{in_namespace, run};

const INET: Family = Family::Inet;
const T: &str = "t";

fn commit(socket: &mut Socket, fill: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::new();
    fill(&mut batch);
    socket.commit(&batch).unwrap();
}

#[test]
fn tables_and_chains() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        run(
            "ip",
            &["link", "add", "d0", "type", "veth", "peer", "name", "d1"],
        );
        let table = Table::new(INET, T).comment("schema 1");
        let point = HookPoint::POSTROUTING;
        let base = Chain::base(INET, T, "base", ChainType::Filter, point, -7)
            .policy(Policy::Drop)
            .comment("guard");
        let regular = Chain::regular(INET, T, "regular");
        let egress = HookPoint::NETDEV_EGRESS;
        let device = Chain::base(Family::Netdev, T, "dev", ChainType::Filter, egress, 3)
            .devices(["d0", "d1"]);
        commit(&mut socket, |batch| {
            batch.add_table(&table);
            batch.add_chain(&base);
            batch.add_chain(&regular);
            batch.add_table(&Table::new(Family::Netdev, T));
            batch.add_chain(&device);
        });
        let mut found = socket.table(INET, T).unwrap().unwrap();
        assert_eq!(found.use_count, 2);
        found.handle = None;
        found.use_count = 0;
        assert_eq!(found, table);
        for expected in [base, regular, device] {
            let mut found = socket
                .chain(expected.family, T, &expected.name)
                .unwrap()
                .unwrap();
            assert!(found.handle.is_some());
            found.handle = None;
            assert_eq!(found, expected);
        }
        assert_eq!(socket.chain(INET, T, "absent").unwrap(), None);
        assert_eq!(socket.chains(Family::Unspec).unwrap().len(), 3);
    });
}

#[test]
fn devices_join_and_leave_a_chain() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        for device in ["d0", "d1", "d2"] {
            run("ip", &["link", "add", device, "type", "bridge"]);
        }
        let f = Family::Netdev;
        let egress = HookPoint::NETDEV_EGRESS;
        let chain = Chain::base(f, T, "c", ChainType::Filter, egress, 0).devices(["d0"]);
        commit(&mut socket, |batch| {
            batch.add_table(&Table::new(f, T));
            batch.add_chain(&chain);
        });
        let devices = |socket: &mut Socket| {
            let chain = socket.chain(f, T, "c").unwrap().unwrap();
            let mut devices = chain.hook.unwrap().devices;
            devices.sort();
            devices
        };
        commit(&mut socket, |batch| {
            batch.add_chain_devices(&chain, &["d1", "d2"]);
        });
        assert_eq!(devices(&mut socket), ["d0", "d1", "d2"]);
        commit(&mut socket, |batch| {
            batch.delete_chain_devices(&chain, &["d0"]);
        });
        assert_eq!(devices(&mut socket), ["d1", "d2"]);
    });
}

#[test]
fn rules_in_their_order() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        let rule = |exprs: Exprs, comment: &str| Rule::new(INET, T, "c", exprs).comment(comment);
        let exprs = || Exprs::new(INET);
        let address = Ipv4Addr::new(10, 0, 0, 1);
        let first = rule(exprs().eq(IP_SADDR, address).accept(), "first");
        let second = rule(exprs().in_set(&[IP_SADDR, META_OIF], "s").drop(), "second");
        let third = rule(exprs().ct_state(1).log(3, "x").jump("d"), "third");
        let fourth = rule(
            exprs().masked(CT_MARK, 1_u32, nfnetlink::expr::CmpOp::EQ, 1_u32),
            "4",
        );
        commit(&mut socket, |batch| {
            batch.add_table(&Table::new(INET, T));
            let key = [DataType::IPV4_ADDR, DataType::IFINDEX];
            batch.add_set(&Set::new(INET, T, "s", key));
            batch.add_chain(&Chain::regular(INET, T, "c"));
            batch.add_chain(&Chain::regular(INET, T, "d"));
            batch.add_rule(&third);
            batch.insert_rule(&first);
        });
        let handles = |socket: &mut Socket| -> Vec<u64> {
            let rules = socket.rules(INET, T, Some("c")).unwrap();
            rules.into_iter().filter_map(|rule| rule.handle).collect()
        };
        let before = handles(&mut socket);
        commit(&mut socket, |batch| {
            batch.add_rule_after(&second, before[0]);
            batch.insert_rule_before(&fourth, before[0]);
        });
        let listed: Vec<_> = socket
            .rules(INET, T, None)
            .unwrap()
            .into_iter()
            .map(|mut rule| {
                rule.handle = None;
                rule.position = None;
                rule
            })
            .collect();
        assert_eq!(listed, [fourth.clone(), first.clone(), second, third]);

        commit(&mut socket, |batch| batch.replace_rule(&fourth, before[0]));
        let now = handles(&mut socket);
        commit(&mut socket, |batch| batch.delete_rule(INET, T, "c", now[0]));
        assert_eq!(handles(&mut socket).len(), 3);
        commit(&mut socket, |batch| batch.flush_chain(INET, T, "c"));
        assert_eq!(handles(&mut socket), Vec::<u64>::new());
    });
}

#[test]
fn sets_and_elements() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        let ip = DataType::IPV4_ADDR;
        let plain = Set::new(INET, T, "plain", ip)
            .counter()
            .comment("hi")
            .size(9);
        let timed = Set::new(INET, T, "timed", ip).timeout(Duration::from_mins(1));
        let key = [ip, DataType::INET_SERVICE];
        let pipapo = Set::map(INET, T, "pipapo", key, DataType::MARK).interval();
        let verdicts = Set::verdict_map(INET, T, "verdicts", ip).interval();
        let counters = Set::counter_map(INET, T, "counters", ip);
        let sets = [plain, timed, pipapo, verdicts, counters];
        let a = Ipv4Addr::new(10, 0, 0, 1);
        let low = Data::new().ipv4(a).port(80);
        let high = Data::new().ipv4(Ipv4Addr::new(10, 0, 0, 9)).port(90);
        let range = Element::map(low, 7_u32).key_end(high).comment("range");
        commit(&mut socket, |batch| {
            batch.add_table(&Table::new(INET, T));
            batch.add_counter(&NamedCounter::new(INET, T, "c"));
            for set in &sets {
                batch.add_set(set);
            }
            let counted = Element::new(a).expr(Counter {
                packets: 5,
                bytes: 6,
            });
            batch.add_elements(INET, T, "plain", [counted]);
            batch.add_elements(INET, T, "pipapo", [range.clone()]);
            let last = Ipv4Addr::BROADCAST;
            let drop = Element::map(Ipv4Addr::new(240, 0, 0, 0), nfnetlink::Verdict::Drop);
            batch.add_elements(INET, T, "verdicts", drop.interval(last));
            batch.add_elements(INET, T, "counters", [Element::object(a, "c")]);
            batch.add_elements(INET, T, "timed", [Element::new(a)]);
        });
        assert_eq!(socket.sets(INET, T).unwrap().len(), sets.len());
        for expected in sets {
            let mut found = socket.set(INET, T, &expected.name).unwrap().unwrap();
            found.handle = None;
            found.policy = None;
            assert_eq!(found, expected);
        }
        let counted = socket.elements(INET, T, "plain").unwrap();
        assert_eq!(
            counted[0].counter(),
            Some(Counter {
                packets: 5,
                bytes: 6
            })
        );
        let listed = socket.elements(INET, T, "pipapo").unwrap();
        assert_eq!(listed, std::slice::from_ref(&range));
        let inside = Data::new().ipv4(Ipv4Addr::new(10, 0, 0, 5)).port(85);
        assert_eq!(
            socket.element(INET, T, "pipapo", &inside).unwrap(),
            Some(range)
        );
        let verdict = Data::from(Ipv4Addr::new(250, 0, 0, 1));
        let found = socket
            .element(INET, T, "verdicts", &verdict)
            .unwrap()
            .unwrap();
        assert_eq!(found.data, Some(nfnetlink::Verdict::Drop.into()));
        let object = socket.elements(INET, T, "counters").unwrap();
        assert_eq!(object[0].object.as_deref(), Some("c"));
        let timed = socket.elements(INET, T, "timed").unwrap();
        assert!(timed[0].expiration.unwrap() <= Duration::from_mins(1));
        commit(&mut socket, |batch| batch.flush_set(INET, T, "plain"));
        assert_eq!(socket.elements(INET, T, "plain").unwrap(), []);
    });
}

#[test]
fn named_counters() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        let mut counter = NamedCounter::new(INET, T, "c").comment("drops");
        counter.counter = Counter {
            packets: 2,
            bytes: 80,
        };
        commit(&mut socket, |batch| {
            batch.add_table(&Table::new(INET, T));
            batch.add_counter(&counter);
            batch.add_counter(&NamedCounter::new(INET, T, "d"));
        });
        let mut found = socket.counter(INET, T, "c").unwrap().unwrap();
        found.handle = None;
        assert_eq!(found, counter);
        let before = socket.reset_counter(INET, T, "c").unwrap().unwrap();
        assert_eq!(before.counter.packets, 2);
        let after = socket.counters(INET, T).unwrap();
        assert_eq!(after.len(), 2);
        assert!(after.iter().all(|c| c.counter == Counter::default()));
        assert_eq!(socket.reset_counters(INET, T).unwrap().len(), 2);
        commit(&mut socket, |batch| batch.delete_counter(INET, T, "d"));
        assert_eq!(socket.counter(INET, T, "d").unwrap(), None);
    });
}

#[test]
fn expressions_of_others_are_kept_raw() {
    in_namespace(|| {
        run(
            "nft",
            &[
                "table inet t { chain c { quota over 5 mbytes drop; ip option lsrr exists drop; }; }",
            ],
        );
        let mut socket = Socket::open().unwrap();
        let rules = socket.rules(INET, T, None).unwrap();
        assert!(matches!(&rules[0].exprs[0], Expr::Unknown { name, .. } if name == "quota"));
        // Kept whole: it can be written again.
        commit(&mut socket, |batch| batch.add_rule(&rules[0]));
        let again = socket.rules(INET, T, None).unwrap();
        assert_eq!(again[2].exprs, rules[0].exprs);
    });
}
