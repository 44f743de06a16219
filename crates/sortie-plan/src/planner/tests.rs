//! Properties of the planner over random sequences of facts, and golden rulesets.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use sortie_api::config::Guard;
use sortie_api::policy::{Action, EgressPolicy, Enforcement, OnChange, PolicyName, Selector};
use sortie_api::workload::{CgroupId, Workload, WorkloadId};

use super::Planner;
use crate::compile::treatment::Treatment;
use crate::diff::sparing;
use crate::environment::{DefaultRoute, Environment};
use crate::fake;
use crate::flow::{Keep, Source};
use crate::nft::key::Key;
use crate::nft::set::Data;
use crate::nft::{Family, Name, text};
use crate::op::{NftOp, Op};
use crate::state::Observed;

mod by_name;
mod facts;
mod lingering;
mod own;
mod uplinks;

pub(super) use facts::{
    BRIDGE, Fact, NAMES, SECOND_UPLINK, UPLINK, any_fact, any_policy, any_workload, container,
    destination, environment, network, on_host, policy, tell, v4,
};

/// Elements whose time is left out of comparisons.
fn timeless(observed: &Observed) -> Observed {
    let mut observed = observed.clone();
    let tables = observed.tables.values_mut();
    for data in tables
        .flat_map(|t| t.sets.values_mut())
        .flat_map(|set| set.values_mut())
    {
        if let Data::For(left) = data {
            *left = Duration::ZERO;
        }
    }
    observed
}

/// A former address is only let through for the workload that had it, which has a policy that
/// drains, and is not what that policy gives anyway.
fn no_drain_is_foreign(planner: &Planner) -> Result<(), TestCaseError> {
    let desired = planner.desired();
    let inet = &desired.tables[&Family::Inet];
    for (drains, draining) in [("drains4", "draining4"), ("drains6", "draining6")] {
        let keys = |set: &str| inet.sets[set].elements.keys().copied().collect::<Vec<_>>();
        prop_assert_eq!(keys(drains), keys(draining));
        for key in keys(drains) {
            let (source, address, _) = key.drain_parts().unwrap();
            let tracked = planner.holder(source).unwrap();
            let treated = tracked.placement.treated(source.is_ipv6());
            prop_assert!(treated.drain.is_some());
            prop_assert!(tracked.placement.endpoint_of(source).is_some());
            match &treated.treatment {
                Treatment::Translate { address: now, .. } => prop_assert_ne!(*now, address),
                Treatment::Set(_) => {}
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
    Ok(())
}

proptest! {
    /// Step by step, the kernel holds what a plan made at once from the same facts would want.
    #[test]
    fn steps_lead_where_a_fresh_plan_would(facts in prop::collection::vec(any_fact(), 1..12)) {
        let mut planner = Planner::new(environment(&[], Guard::Networks));
        let mut kernel = Observed::default();
        let ops: Vec<Op> = planner.adopt(&kernel).flatten().collect();
        fake::apply(&mut kernel, &ops);
        for fact in facts {
            let ops = tell(&mut planner, fact);
            fake::apply(&mut kernel, &ops);
            prop_assert_eq!(planner.adopt(&kernel).next(), None, "{:?}", ops);
            prop_assert_eq!(timeless(&kernel), timeless(&Observed::from(planner.desired())));
            no_drain_is_foreign(&planner)?;
        }
        let ops = planner.at(Duration::MAX);
        fake::apply(&mut kernel, &ops);
        prop_assert_eq!(&kernel, &Observed::from(planner.desired()));
        let mut fresh = Planner::new(planner.environment().clone());
        fresh.networks(planner.networks.values().cloned().collect());
        fresh.policies_changed(planner.policies().values().map(|policy| (**policy).clone()).collect());
        fresh.names = planner.names.clone();
        fresh.learn(planner.workloads().values().map(|tracked| tracked.workload.clone()).collect(), &[]);
        prop_assert_eq!(planner.adopt(&Observed::from(fresh.desired())).next(), None);
        prop_assert_eq!(fresh.desired(), planner.desired());
    }

    /// Policies that only audit come, change and go without a step.
    #[test]
    fn an_audit_changes_nothing(facts in prop::collection::vec(any_fact(), 1..12), audits in prop::collection::vec(any_policy(), 0..3)) {
        let new = || Planner::new(environment(&[], Guard::Networks));
        let (mut with, mut without) = (new(), new());
        for (index, fact) in facts.into_iter().enumerate() {
            let mut audited = fact.clone();
            if let Fact::Policies(policies) = &mut audited {
                // Sometimes of a name that an enforced one had.
                policies.extend(audits.iter().enumerate().map(|(number, policy)| EgressPolicy {
                    name: PolicyName(format!("p{}", 2 + (number + index) % 5)),
                    enforcement: Enforcement::Audit,
                    ..policy.clone()
                }).filter(|policy| !policies.iter().any(|other| other.name == policy.name)).collect::<Vec<_>>());
            }
            prop_assert_eq!(tell(&mut with, audited), tell(&mut without, fact));
            prop_assert_eq!(with.desired(), without.desired());
        }
    }

    /// From any state to any other, and then nothing is left to do.
    #[test]
    fn adopting_a_foreign_past_converges(before in prop::collection::vec(any_fact(), 0..8), after in prop::collection::vec(any_fact(), 0..8)) {
        let plan = |facts| {
            let mut planner = Planner::new(environment(&["203.0.113.11"], Guard::Networks));
            for fact in facts {
                tell(&mut planner, fact);
            }
            planner
        };
        let mut kernel = Observed::from(plan(before).desired());
        let mut planner = plan(after);
        planner.inherit(&kernel);
        no_drain_is_foreign(&planner)?;
        let ops: Vec<Op> = planner.adopt(&kernel).flatten().collect();
        fake::apply(&mut kernel, &ops);
        prop_assert_eq!(timeless(&kernel), timeless(&Observed::from(planner.desired())));
        prop_assert_eq!(planner.adopt(&kernel).next(), None);
    }

    /// A new agent before the engine has told its containers: what serves them stays, what can be
    /// known already is there, and what the engine tells then leads where it should.
    #[test]
    fn a_new_agent_spares_what_it_cannot_know_yet(before in prop::collection::vec(any_fact(), 0..8), after in prop::collection::vec(any_fact(), 0..4), told in prop::collection::vec(any_workload(), 0..3)) {
        let plan = |facts| {
            let mut planner = Planner::new(environment(&["203.0.113.11"], Guard::Networks));
            for fact in facts {
                tell(&mut planner, fact);
            }
            planner
        };
        let mut kernel = Observed::from(plan(before).desired());
        let found = kernel.clone();
        let mut planner = plan(after.into_iter().filter(|fact| !matches!(fact, Fact::Workload(_))).collect());
        let ops = planner.missing(&kernel);
        fake::apply(&mut kernel, &ops);
        prop_assert!(planner.missing(&kernel).is_empty(), "twice");

        let desired = Observed::from(planner.desired());
        for (family, before) in &found.tables {
            let (now, wanted) = (&kernel.tables[family], &desired.tables[family]);
            if wanted.tag != before.tag && now.tag == before.tag {
                prop_assert_eq!(now, before, "another version's is left whole");
                continue;
            }
            let serves = before.tag == wanted.tag;
            for (name, elements) in before.sets.iter().filter(|(name, _)| serves && !name.starts_with("local")) {
                for key in elements.keys() {
                    prop_assert!(now.sets[name].contains_key(key), "{} {:?}", name, key);
                }
            }
            prop_assert!(!serves || before.chains.is_subset(&now.chains));
            prop_assert!(wanted.chains.is_subset(&now.chains));
            for (name, elements) in &wanted.sets {
                for (key, data) in elements {
                    prop_assert_eq!(now.sets[name].get(key), Some(data));
                }
            }
        }
        prop_assert_eq!(&kernel.network, &sparing(&found.network, &desired.network));

        for workload in told {
            planner.workload(workload, None);
        }
        let ops: Vec<Op> = planner.adopt(&kernel).flatten().collect();
        fake::apply(&mut kernel, &ops);
        prop_assert_eq!(&kernel, &Observed::from(planner.desired()));
    }
}

/// At a boot nothing is there; after an upgrade the tables wait for the engine while they serve a
/// container, and only then.
#[test]
fn tables_of_another_version_wait_while_they_serve_somebody() {
    let other = |planner: &Planner| {
        let mut kernel = Observed::from(planner.desired());
        for table in kernel.tables.values_mut() {
            table.tag = "another".into();
        }
        kernel
    };
    let idle = planner_with(Vec::new(), Vec::new());
    let web = container("web", Some("203.0.113.11"), 20, &["172.17.0.2"]);
    let busy = planner_with(vec![web], Vec::new());
    for (mut kernel, waits) in [
        (Observed::default(), false),
        (other(&idle), false),
        (other(&busy), true),
    ] {
        let found = kernel.clone();
        let ops = idle.missing(&kernel);
        fake::apply(&mut kernel, &ops);
        let wanted = if waits {
            found
        } else {
            Observed::from(idle.desired())
        };
        assert_eq!(kernel, wanted);
    }
}

pub(super) fn planner_with(workloads: Vec<Workload>, policies: Vec<EgressPolicy>) -> Planner {
    let mut planner = Planner::new(environment(
        &["203.0.113.11", "203.0.113.12"],
        Guard::Networks,
    ));
    planner.networks(vec![network("bridge", BRIDGE, false)]);
    planner.policies_changed(policies);
    for workload in workloads {
        planner.workload(workload, None);
    }
    planner
}

fn ruleset(planner: &Planner) -> String {
    planner
        .desired()
        .tables
        .iter()
        .map(|(family, table)| text::table(*family, table))
        .collect()
}

#[test]
fn golden_two_labelled_containers() {
    let planner = planner_with(
        vec![
            container("web", Some("203.0.113.11"), 20, &["172.17.0.2", "fd00::2"]),
            container("mail", Some("203.0.113.12"), 21, &["172.17.0.3"]),
            container("other", None, 22, &["172.17.0.4"]),
        ],
        Vec::new(),
    );
    insta::assert_snapshot!(ruleset(&planner));
}

#[test]
fn golden_destinations_with_ports_and_exceptions() {
    let mut bank = policy("bank", &["203.0.113.0/24"], &[443], v4("203.0.113.11"));
    bank.destinations[0].except = vec!["203.0.113.64/26".parse().unwrap()];
    let partner = policy("partner", &["198.51.100.0/24"], &[], v4("203.0.113.12"));
    let planner = planner_with(
        vec![
            container("web", None, 20, &["172.17.0.2"]),
            container("job", None, 21, &["172.17.0.3"]),
        ],
        vec![bank, partner],
    );
    insta::assert_snapshot!(ruleset(&planner));
}

#[test]
fn golden_containers_on_the_hosts_network() {
    let mut bank = policy("bank", &["203.0.113.0/24"], &[443], v4("203.0.113.13"));
    bank.workloads[0].names = vec!["job".into()];
    let planner = planner_with(
        vec![
            on_host("agent", Some("203.0.113.11,2001:db8::11"), 1001, 2),
            on_host("job", None, 1002, 3),
            on_host("v4-only", Some("203.0.113.12"), 1003, 2),
            on_host("other", None, 1004, 4),
        ],
        vec![bank],
    );
    insta::assert_snapshot!(ruleset(&planner));
}

/// There is no interface of its own: what shall have its address itself is closed, and told.
#[test]
fn on_the_hosts_network_nobody_has_an_address_itself() {
    let mut web = on_host("web", None, 1001, 2);
    web.labels = BTreeMap::from([
        ("sortie.egress".to_owned(), "203.0.113.14".to_owned()),
        ("sortie.egress.mode".to_owned(), "direct".to_owned()),
    ])
    .into();
    let planner = planner_with(vec![web], Vec::new());
    let tracked = planner.workloads().values().next().unwrap();
    let told = planner.not_direct(tracked, false).unwrap();
    assert!(
        told.reason.contains("on the host's network"),
        "{}",
        told.reason
    );
    let inet = &planner.desired().tables[&Family::Inet];
    assert!(inet.sets["cgroup-snat4"].elements.is_empty());
    assert_eq!(inet.sets["cgroup-check4"].elements.len(), 1);
}

/// Old flows of a cgroup end with its decision, each family's by itself; the last managed one takes
/// the chains with it.
#[test]
fn flows_of_a_cgroup_end_with_its_decision() {
    let web = |label| on_host("web", label, 1001, 2);
    let mut planner = planner_with(vec![web(Some("203.0.113.11,2001:db8::11"))], Vec::new());
    let forgotten = |ops: &[Op]| {
        let sources = ops.iter().filter_map(|op| match op {
            Op::ForgetFlows { source, keep, .. } => Some((*source, keep.clone())),
            _ => None,
        });
        sources.collect::<Vec<_>>()
    };
    let source = |v6| Source::Cgroup {
        id: CgroupId(1001),
        v6,
    };
    let changed = web(Some("203.0.113.12,2001:db8::11"));
    let ops = planner.workload(changed, None);
    let keep = Keep::address([203, 0, 113, 12].into());
    assert_eq!(forgotten(&ops)[0], (source(false), keep));
    let has_chains = |planner: &Planner| {
        let chains = &planner.desired().tables[&Family::Inet].chains;
        chains.keys().any(|name| name.contains("sockets"))
    };
    assert!(has_chains(&planner));
    let ops = planner.workload(web(None), None);
    let both = [
        (source(false), Keep::default()),
        (source(true), Keep::default()),
    ];
    assert_eq!(forgotten(&ops), both);
    assert!(!has_chains(&planner));
}

/// Only tables that end with their process mark what the guard lets through, and only what is direct.
#[test]
fn a_gated_guard_marks_what_it_lets_through() {
    let marking = |gated| {
        let environment = Environment {
            gated,
            ..environment(&[], Guard::Networks)
        };
        let inet = Planner::new(environment).desired().tables[&Family::Inet].clone();
        let rules = text::rules(&inet.chains["guard"].rules);
        let marking = rules.lines().filter(|rule| rule.contains("meta mark set"));
        marking.map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(marking(false).is_empty());
    let pass = "meta mark set meta mark & 0xffffffef | 0x000000e0 accept";
    assert_eq!(
        marking(true),
        [
            format!("ip saddr . oif @direct4 {pass}"),
            format!("ip6 saddr . oif @direct6 {pass}"),
        ]
    );
}

#[test]
fn one_more_workload_touches_only_its_own_elements() {
    let mut planner = planner_with(
        vec![container("web", Some("203.0.113.11"), 20, &["172.17.0.2"])],
        Vec::new(),
    );
    let ops = planner.workload(
        container("mail", Some("203.0.113.11"), 21, &["172.17.0.3"]),
        None,
    );
    let mut elements = 0;
    for op in &ops {
        match op {
            Op::Nft(_, NftOp::AddElements(_, added)) => elements += added.len(),
            Op::ForgetFlows { source, .. } => {
                assert_eq!(*source, Source::Address([172, 17, 0, 3].into()));
            }
            Op::DropWaiting(device) => assert_eq!(device, "up0"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        elements, 7,
        "port, bound, known, own, snat, allowed, managed"
    );
}

/// While the engine is away its former containers' addresses may be somebody else's: who starts with
/// one has nothing of who had it before, and all others keep what they have.
#[test]
fn who_starts_has_nothing_of_who_had_the_address() {
    let addresses = ["172.17.0.2", "fd00::2"];
    let before = planner_with(
        vec![
            container("web", Some("203.0.113.11"), 20, &addresses),
            container("mail", Some("203.0.113.12"), 21, &["172.17.0.3"]),
        ],
        Vec::new(),
    );
    let bank = policy("bank", &["203.0.113.0/24"], &[443], v4("203.0.113.12"));
    for (new, policies) in [
        (container("other", None, 30, &addresses), Vec::new()),
        (container("job", None, 30, &addresses), vec![bank]),
        (
            container("web", Some("203.0.113.12"), 30, &addresses),
            Vec::new(),
        ),
    ] {
        let mut planner = planner_with(Vec::new(), policies);
        let mut kernel = Observed::from(before.desired());
        let ops = planner.missing(&kernel);
        fake::apply(&mut kernel, &ops);
        let come = planner.workload(new, None);
        let ops = planner.former(&kernel, &addresses.map(|text| text.parse().unwrap()));
        fake::apply(&mut kernel, &[ops, come].concat());
        let desired = planner.desired();
        let by_address = |elements: &crate::nft::Elements| -> BTreeMap<Key, Data> {
            let ips: Vec<Key> = addresses
                .map(|text| Key::new().ip(text.parse().unwrap()))
                .into();
            let of_them = |key: &Key| {
                let mut ips = ips.iter();
                ips.any(|ip| key.as_bytes().starts_with(ip.as_bytes()))
            };
            let elements = elements.iter().filter(|(key, _)| of_them(key));
            elements.map(|(key, data)| (*key, data.clone())).collect()
        };
        let mail = Key::new().ip([172, 17, 0, 3].into());
        let inet = &kernel.tables[&Family::Inet];
        assert!(inet.sets["snat4"].contains_key(&mail), "nobody else's");
        for (name, elements) in &inet.sets {
            let wanted = desired.tables[&Family::Inet].sets.get(name);
            let wanted = wanted.map(|set| by_address(&set.elements));
            assert_eq!(by_address(elements), wanted.unwrap_or_default(), "{name}");
        }
        assert!(
            planner
                .former(&kernel, &[[172, 17, 0, 2].into()])
                .is_empty()
        );
    }
}

/// A workload that may send nothing is told apart by elements alone: no chain, no rule of its own.
#[test]
fn a_blocked_workload_leads_straight_to_its_reason() {
    let all = |name: &str| EgressPolicy {
        destinations: Vec::new(),
        ..policy(name, &[], &[], Action::Deny)
    };
    let empty = planner_with(Vec::new(), Vec::new()).desired();
    let denied = planner_with(
        vec![container("web", None, 20, &["172.17.0.2", "fd00::2"])],
        vec![all("deny")],
    );
    let without_v6 = planner_with(
        vec![container("web", Some("203.0.113.11"), 20, &["fd00::2"])],
        Vec::new(),
    );
    let wrong = planner_with(
        vec![container("web", Some("nonsense"), 20, &["172.17.0.2"])],
        Vec::new(),
    );
    for (planner, set, leads_to) in [
        (&denied, "check4", "drop-denied"),
        (&denied, "check6", "drop-denied"),
        (&without_v6, "check6", "drop-no-address"),
        (&wrong, "check4", "drop-denied"),
    ] {
        let inet = &planner.desired().tables[&Family::Inet];
        let chains: Vec<_> = inet.sets[set].elements.values().map(Data::chain).collect();
        assert_eq!(chains, [Some(&Name::from(leads_to))], "{set}");
        assert_eq!(inet.chains, empty.tables[&Family::Inet].chains);
    }
}

/// While the guard still stands, the translation goes; then the flows; then the rest.
#[test]
fn a_policy_that_goes_is_guarded_until_its_flows_are_gone() {
    let mut planner = planner_with(
        vec![container("web", None, 20, &["172.17.0.2"])],
        vec![EgressPolicy {
            destinations: Vec::new(),
            ..policy("all", &[], &[], v4("203.0.113.11"))
        }],
    );
    let ops = planner.policies_changed(Vec::new());
    let position = |wanted: &str| {
        ops.iter().position(|op| match op {
            Op::Nft(_, NftOp::DeleteElements(set, _)) => set == wanted,
            Op::ForgetFlows { .. } => wanted == "flows",
            _ => false,
        })
    };
    assert_eq!(position("snat4"), Some(0));
    assert_eq!(position("flows"), Some(1));
    assert!(
        position("allowed4") > Some(1)
            && position("managed4") > Some(1)
            && position("bound4") > Some(1)
    );
}

/// The address belongs to whoever started last, and flows of the one before are gone first.
#[test]
fn a_recycled_address_inherits_nothing() {
    let mut planner = planner_with(
        vec![container("web", Some("203.0.113.11"), 20, &["172.17.0.2"])],
        Vec::new(),
    );
    let ops = planner.workload(container("thief", None, 21, &["172.17.0.2"]), None);
    assert!(
        matches!(ops[0], Op::Nft(_, NftOp::DeleteElements(ref set, _)) if set == "snat4"),
        "{ops:?}"
    );
    assert!(matches!(ops[1], Op::ForgetFlows { .. }));
    let desired = planner.desired();
    for table in desired.tables.values() {
        for (name, set) in table
            .sets
            .iter()
            .filter(|(name, _)| matches!(name.as_ref(), "bound4" | "snat4" | "allowed4" | "known4"))
        {
            assert!(set.elements.is_empty(), "{name} {:?}", set.elements);
        }
    }
}
