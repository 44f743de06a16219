use sortie_api::policy::{Action, EgressPolicy, OnChange, Protocol};
use sortie_api::workload::{Workload, WorkloadId};

use super::*;
use crate::fake;
use crate::flow::Flow;
use crate::nft::Elements;
use crate::planner::tests::{UPLINK, container, planner_with, policy, v4};
use crate::precedence::Target;

/// A policy for every destination that lets old flows drain for 30 s.
fn draining(address: &str) -> EgressPolicy {
    EgressPolicy {
        destinations: Vec::new(),
        on_change: OnChange::Drain { seconds: 30 },
        ..policy("all", &[], &[], v4(address))
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The former addresses that web's flows go on with, and for how many seconds.
fn drains(planner: &Planner) -> Vec<(String, u64)> {
    planner
        .draining([172, 17, 0, 2].into())
        .map(|(address, left)| (address.to_string(), left.as_secs()))
        .collect()
}

fn flows_ended(ops: &[Op]) -> Vec<String> {
    let flows = ops.iter().filter(|op| matches!(op, Op::ForgetFlows { .. }));
    flows.map(ToString::to_string).collect()
}

#[test]
fn two_changes_drain_each_for_its_own_time() {
    let web = container("web", None, 20, &["172.17.0.2"]);
    let mut planner = planner_with(vec![web], vec![draining("203.0.113.11")]);
    let ops = planner.policies_changed(vec![draining("203.0.113.12")]);
    assert_eq!(
        flows_ended(&ops),
        [
            "conntrack -D -s 172.17.0.2, but for those translated to 203.0.113.12, and for answered ones translated to 203.0.113.11"
        ]
    );
    planner.at(seconds(20));
    let mut environment = planner.environment().clone();
    environment
        .addresses
        .insert([203, 0, 113, 13].into(), UPLINK);
    planner.environment_changed(environment);
    planner.policies_changed(vec![draining("203.0.113.13")]);
    assert_eq!(
        drains(&planner),
        [("203.0.113.11".into(), 10), ("203.0.113.12".into(), 30)]
    );
    assert_eq!(planner.next_end(), Some(seconds(30)));
    assert_eq!(planner.at(seconds(29)), []);
    let ops = planner.at(seconds(30));
    assert_eq!(
        flows_ended(&ops),
        [
            "conntrack -D -s 172.17.0.2 -q 203.0.113.11, but for those translated to 203.0.113.13, and for answered ones translated to 203.0.113.12"
        ]
    );
    assert_eq!(drains(&planner), [("203.0.113.12".into(), 20)]);
    // Back: what drained is right again, and what was right drains.
    planner.policies_changed(vec![draining("203.0.113.12")]);
    assert_eq!(drains(&planner), [("203.0.113.13".into(), 30)]);
    planner.at(seconds(60));
    assert_eq!(drains(&planner), []);
}

#[test]
fn only_a_change_of_address_drains() {
    let changes = [
        EgressPolicy {
            action: Action::Deny,
            on_change: OnChange::Reset,
            ..draining("203.0.113.11")
        },
        EgressPolicy {
            action: Action::Bypass,
            on_change: OnChange::Reset,
            ..draining("203.0.113.11")
        },
        EgressPolicy {
            on_change: OnChange::Reset,
            ..draining("203.0.113.12")
        },
    ];
    for change in changes {
        let web = container("web", None, 20, &["172.17.0.2"]);
        let mut planner = planner_with(vec![web], vec![draining("203.0.113.11")]);
        let mut kernel = Observed::from(planner.desired());
        let first = planner.policies_changed(vec![draining("203.0.113.12")]);
        fake::apply(&mut kernel, &first);
        assert_eq!(drains(&planner).len(), 1);
        let ops = planner.policies_changed(vec![change]);
        fake::apply(&mut kernel, &ops);
        assert_eq!(drains(&planner), []);
        assert!(kernel.tables[&Family::Inet].sets["draining4"].is_empty());
        assert_eq!(kernel, Observed::from(planner.desired()));
    }
}

#[test]
fn who_gets_the_address_of_a_drain_inherits_nothing() {
    let web = || container("web", None, 20, &["172.17.0.2"]);
    let start = || {
        let mut planner = planner_with(vec![web()], vec![draining("203.0.113.11")]);
        planner.policies_changed(vec![draining("203.0.113.12")]);
        planner
    };
    let mut planner = start();
    planner.workload(container("thief", None, 21, &["172.17.0.2"]), None);
    assert_eq!(drains(&planner), []);

    let mut planner = start();
    let ops = planner.workload_gone(&WorkloadId::from("docker/web"));
    assert_eq!(drains(&planner), []);
    assert!(flows_ended(&ops).contains(&"conntrack -D -s 172.17.0.2".to_owned()));

    // What the engine tells of it besides does not matter.
    let mut planner = start();
    planner.workload(Workload { pid: 2, ..web() }, None);
    assert_eq!(drains(&planner).len(), 1);
}

/// A new agent takes drains over with the time that the kernel has left for them; one that is over
/// meanwhile ends at once, and so does one of a workload that has another port now.
#[test]
fn a_new_agent_goes_on_with_drains() {
    let web = |port| container("web", None, port, &["172.17.0.2"]);
    let mut before = planner_with(vec![web(20)], vec![draining("203.0.113.11")]);
    before.policies_changed(vec![draining("203.0.113.12")]);
    before.at(seconds(10));
    let kernel = Observed::from(before.desired());
    let new = |kernel: &Observed, port| {
        let mut planner = planner_with(vec![web(port)], vec![draining("203.0.113.12")]);
        planner.at(seconds(5));
        planner.inherit(kernel);
        planner
    };

    let planner = new(&kernel, 20);
    assert_eq!(planner.adopt(&kernel).next(), None);
    assert_eq!(planner.next_end(), Some(seconds(25)));

    let mut over = kernel.clone();
    let inet = over.tables.get_mut(&Family::Inet).unwrap();
    inet.sets.get_mut("draining4").unwrap().clear();
    let mut planner = new(&over, 20);
    let ops = planner.at(seconds(5));
    assert_eq!(
        flows_ended(&ops),
        ["conntrack -D -s 172.17.0.2 -q 203.0.113.11, but for those translated to 203.0.113.12"]
    );

    let planner = new(&kernel, 21);
    assert_eq!(drains(&planner), []);
    let mut after = kernel.clone();
    for ops in planner.adopt(&kernel) {
        fake::apply(&mut after, &ops);
    }
    assert!(after.tables[&Family::Inet].sets["draining4"].is_empty());
}

/// Flows end behind the transaction that lets their workload through: one that has begun between is
/// right, whatever it was that has changed.
#[test]
fn what_begins_behind_the_transaction_goes_on() {
    let last_ended = |ops: &[Op]| flows_ended(ops).pop();
    let web = |port| container("web", None, port, &["172.17.0.2"]);
    let one = vec![draining("203.0.113.11")];
    let several = vec![policy(
        "bank",
        &["198.51.100.0/24"],
        &[],
        v4("203.0.113.11"),
    )];
    for (policies, right) in [
        (one, "translated to 203.0.113.11"),
        (several, "translated as the policies say"),
    ] {
        let right = Some(format!("conntrack -D -s 172.17.0.2, but for those {right}"));
        let mut planner = planner_with(Vec::new(), policies);
        let ops = planner.workload(web(20), None);
        assert_eq!(last_ended(&ops), right, "it starts");
        let ops = planner.workload(web(21), None);
        assert_eq!(last_ended(&ops), right, "it has another port");
        let flushed = Observed::default();
        let parts: Vec<Vec<Op>> = planner.adopt(&flushed).collect();
        assert_eq!(last_ended(&parts.concat()), right, "the tables were gone");
        let mut others = Observed::from(planner.desired());
        for table in others.tables.values_mut() {
            for set in ["bound4", "snat4", "translate4"] {
                table.sets.get_mut(set).map(Elements::clear);
            }
        }
        let parts: Vec<Vec<Op>> = planner.adopt(&others).collect();
        assert_eq!(
            last_ended(&parts.concat()),
            right,
            "some elements were gone"
        );
    }
}

/// Whatever makes tables anew.
#[test]
fn tables_made_anew_end_no_drain() {
    let web = container("web", None, 20, &["172.17.0.2"]);
    let mut planner = planner_with(vec![web], vec![draining("203.0.113.11")]);
    planner.policies_changed(vec![draining("203.0.113.12")]);
    let mut environment = planner.environment().clone();
    environment.priorities.translate -= 1;
    let ops = planner.environment_changed(environment);
    assert_eq!(
        flows_ended(&ops),
        [
            "conntrack -D -s 172.17.0.2, but for those translated to 203.0.113.12, and for answered ones translated to 203.0.113.11"
        ]
    );
}

/// With destinations, an old flow goes on only where its own destination's policy drains.
#[test]
fn a_drain_is_for_the_destinations_of_its_policy() {
    let to_bank = |address, on_change| EgressPolicy {
        on_change,
        ..policy("bank", &["198.51.100.0/25"], &[443], v4(address))
    };
    let to_partner = policy("partner", &["198.51.100.128/25"], &[], v4("203.0.113.11"));
    let drain = OnChange::Drain { seconds: 30 };
    let web = container("web", None, 20, &["172.17.0.2"]);
    let mut planner = planner_with(
        vec![web],
        vec![to_bank("203.0.113.11", drain), to_partner.clone()],
    );
    let partner = EgressPolicy {
        action: Action::Deny,
        ..to_partner
    };
    let ops = planner.policies_changed(vec![to_bank("203.0.113.12", drain), partner]);
    let keep = ops.iter().find_map(|op| match op {
        Op::ForgetFlows { keep, .. } => Some(keep),
        _ => None,
    });
    let keep = keep.expect("flows end");
    let flow = |ip: &str, port, source: &str, answered| Flow {
        asked: ip.parse().unwrap(),
        target: Target::address(ip.parse().unwrap(), Some((Protocol::Tcp, port))),
        source: source.parse().unwrap(),
        answered,
    };
    assert!(keep.keeps(&flow("198.51.100.9", 443, "203.0.113.11", true)));
    assert!(keep.keeps(&flow("198.51.100.9", 443, "203.0.113.12", false)));
    assert!(!keep.keeps(&flow("198.51.100.9", 443, "203.0.113.11", false)));
    assert!(!keep.keeps(&flow("198.51.100.9", 80, "203.0.113.11", true)));
    assert!(!keep.keeps(&flow("198.51.100.200", 443, "203.0.113.11", true)));
    let check = planner.desired().tables.get(&Family::Inet).map(|inet| {
        crate::nft::text::rules(&inet.chains["leaves-as-203.0.113.12-or-as-before"].rules)
    });
    insta::assert_snapshot!(check.unwrap(), @"
ip saddr 203.0.113.12 ip saddr . oif @usable4 fib saddr type local accept
ct original ip saddr . ip saddr . oif @draining4 ct status seen-reply fib saddr type local accept
ip saddr 203.0.113.12 ip saddr . oif @usable4 goto drop-address-lost
ip saddr 203.0.113.12 goto drop-wrong-uplink
goto drop-wrong-source
");
}
