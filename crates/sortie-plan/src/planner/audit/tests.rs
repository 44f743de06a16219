use std::collections::BTreeMap;

use super::*;
use crate::planner::tests::{container, planner_with, policy, v4};
use sortie_api::policy::{Action, EgressPolicy};

fn audit(name: &str, cidrs: &[&str], action: Action) -> EgressPolicy {
    EgressPolicy {
        enforcement: sortie_api::policy::Enforcement::Audit,
        ..policy(name, cidrs, &[], action)
    }
}

fn target(ip: &str) -> Target<'static> {
    Target::address(ip.parse().unwrap(), None)
}

fn told(planner: &Planner, to: &str) -> Option<String> {
    let tracked = planner.workloads().values().next()?;
    let audited = planner.audited(tracked, target(to))?;
    Some(format!("{} would {}", audited.policy.0, audited.would))
}

#[test]
fn they_decide_among_all_and_change_nothing() {
    let everything = ["0.0.0.0/0"];
    let enforced = policy("enforced", &everything, &[], v4("203.0.113.11"));
    let web = || container("web", None, 20, &["172.17.0.2"]);
    let without = planner_with(vec![web()], vec![enforced.clone()]);
    let planner = planner_with(
        vec![web()],
        vec![
            enforced,
            audit("all", &everything, v4("203.0.113.12")),
            audit("bank", &["198.51.100.0/24"], Action::Deny),
            audit("lost", &["192.0.2.0/24"], v4("203.0.113.99")),
            audit("free", &["198.18.0.0/15"], Action::Bypass),
        ],
    );
    assert_eq!(planner.desired(), without.desired());
    assert_eq!(planner.egress_addresses().count(), 1);
    // By name `all` comes before `enforced`.
    let all = "all would leave with 203.0.113.12";
    assert_eq!(told(&planner, "8.8.8.8").as_deref(), Some(all));
    for (to, would) in [
        ("198.51.100.9", "bank would be dropped"),
        (
            "192.0.2.9",
            "lost would be dropped: 203.0.113.99 cannot be used now",
        ),
        ("198.18.0.9", "free would leave as without Sortie"),
    ] {
        assert_eq!(told(&planner, to).as_deref(), Some(would));
    }
    // Local, and of a family that none of them has a say in.
    assert_eq!(told(&planner, "127.0.0.1"), None);
    assert_eq!(told(&planner, "2001:db8::9"), None);
    assert_eq!(told(&without, "8.8.8.8"), None);
}

#[test]
fn who_is_behind_an_enforced_policy_changes_nothing() {
    let enforced = EgressPolicy {
        priority: 1,
        ..policy("enforced", &["0.0.0.0/0"], &[], v4("203.0.113.11"))
    };
    let web = container("web", None, 20, &["172.17.0.2"]);
    let later = audit("later", &["0.0.0.0/0"], Action::Deny);
    let planner = planner_with(vec![web], vec![enforced, later]);
    assert_eq!(told(&planner, "8.8.8.8"), None);
    let tracked = planner.workloads().values().next().unwrap();
    let answer = planner.explain(tracked, target("8.8.8.8"));
    let outcomes: BTreeMap<_, _> = answer
        .candidates
        .iter()
        .map(|c| (c.policy.as_str(), c.outcome.as_str()))
        .collect();
    assert_eq!(outcomes["enforced"], "decides");
    assert_eq!(
        outcomes["later"],
        "audit: lost to enforced: priority 1 over 0"
    );
    assert_eq!(answer.audit, None);
}

#[test]
fn a_network_that_only_audits_is_not_guarded() {
    let web = || container("web", None, 20, &["172.17.0.2"]);
    let mut on_network = audit("net", &["0.0.0.0/0"], v4("203.0.113.11"));
    on_network.workloads[0].networks = vec!["bridge".into()];
    let plain = planner_with(vec![web()], Vec::new());
    let planner = planner_with(vec![web()], vec![on_network]);
    assert_eq!(planner.desired(), plain.desired());
    let would = "net would leave with 203.0.113.11";
    assert_eq!(told(&planner, "8.8.8.8").as_deref(), Some(would));
}

/// Where a request would decide, nobody knows what it says.
#[test]
fn what_would_be_led_to_the_gateway_is_unseen() {
    let hosts: sortie_api::policy::HostPattern = "api.test".to_owned().try_into().unwrap();
    let mut by_path = audit("api", &[], v4("203.0.113.12"));
    by_path.destinations = vec![sortie_api::policy::Destination {
        hosts: vec![hosts],
        http: Some(sortie_api::policy::Http::default()),
        ..Default::default()
    }];
    let web = container("web", None, 20, &["172.17.0.2"]);
    let mut planner = planner_with(vec![web], vec![by_path]);
    let id = planner.workloads().keys().next().unwrap().clone();
    planner.learned(&id, "api.test", &["198.51.100.9".parse().unwrap()]);
    let asked = |ip: &str, port| {
        let tracked = planner.workloads().values().next()?;
        let port = Some((Protocol::Tcp, port));
        let target = Target::address(ip.parse().unwrap(), port);
        let audited = planner.audited(tracked, target)?;
        Some((audited.policy.0, audited.would))
    };
    let by_request = Some(("api".to_owned(), Would::ByRequest));
    assert_eq!(asked("198.51.100.9", 80), by_request);
    assert_eq!(asked("198.51.100.9", 5432), None);
    assert_eq!(asked("198.51.100.10", 80), None);
}

#[test]
fn outcomes() {
    let (a, b): (IpAddr, IpAddr) = ([203, 0, 113, 11].into(), [203, 0, 113, 5].into());
    for (would, now, outcome) in [
        (Would::Leave(a), Now::With(a), Outcome::Same),
        (Would::Leave(a), Now::With(b), Outcome::OtherSource),
        (
            Would::Leave(a),
            Now::AsWithoutSortie(Some(a)),
            Outcome::Same,
        ),
        (
            Would::Leave(a),
            Now::AsWithoutSortie(None),
            Outcome::OtherSource,
        ),
        (Would::Leave(a), Now::Dropped, Outcome::Passed),
        (
            Would::AsWithoutSortie,
            Now::AsWithoutSortie(Some(b)),
            Outcome::Same,
        ),
        (Would::AsWithoutSortie, Now::With(a), Outcome::OtherSource),
        (Would::Drop, Now::Dropped, Outcome::Same),
        (Would::Unusable(a), Now::With(a), Outcome::Dropped),
        (Would::Refused("x"), Now::Dropped, Outcome::Same),
        (Would::ByRequest, Now::With(a), Outcome::Unseen),
    ] {
        assert_eq!(Outcome::of(would, now), outcome, "{would} {now:?}");
    }
}
