pub(crate) mod any;
mod slow;

use proptest::prelude::*;
use sortie_api::policy::{Action, EgressPolicy, Headers, PathPattern, Request, Unlearned};

use self::any::{
    exact, given, http, policies, policy, request, targets, to_cidr, to_host, to_http,
};
use self::slow::reference;
use super::{Candidate, Scope, Target};
use crate::resolve::deciding;

fn tcp(ip: &str, port: u16) -> Target<'static> {
    any::target(ip, port)
}

/// The policies that cover a target, the one that decides first.
fn covering(policies: &[EgressPolicy], target: Target<'_>) -> Vec<String> {
    let candidates = Candidate::ordered(policies);
    let covering = candidates
        .iter()
        .filter(|candidate| candidate.covers(target));
    covering
        .map(|candidate| candidate.policy.name.0.clone())
        .collect()
}

#[test]
fn the_more_specific_destination_decides() {
    let all = [
        policy("everything", vec![], 1),
        policy("network", vec![to_cidr("198.51.100.0/24", &[])], 2),
        policy("address", vec![to_cidr("198.51.100.7/32", &[])], 3),
        policy(
            "network-with-port",
            vec![to_cidr("198.51.100.0/24", &[443])],
            4,
        ),
        policy("any-name", vec![to_host("*", &[])], 5),
        policy("domain", vec![to_host("*.test", &[])], 6),
        policy("subdomain", vec![to_host("*.a.test", &[])], 7),
        policy("name", vec![to_host("b.a.test", &[])], 8),
        policy("name-with-port", vec![to_host("b.a.test", &[443])], 9),
        policy(
            "method",
            vec![to_http("b.a.test", vec![http(None, &["GET"])])],
            10,
        ),
        policy(
            "root",
            vec![to_http(
                "*",
                vec![http(Some(PathPattern::Prefix("/".into())), &[])],
            )],
            11,
        ),
        policy(
            "api",
            vec![to_http(
                "*.test",
                vec![http(Some(PathPattern::Prefix("/api".into())), &[])],
            )],
            12,
        ),
        policy(
            "exact-api",
            vec![to_http("*", vec![http(Some(exact("/api")), &[])])],
            13,
        ),
    ];
    let headers: &dyn Headers = &[("a", "b"); 0];
    let asked = Request {
        method: "GET",
        path: "/api",
        headers,
    };
    let with_request = Target {
        name: Some("b.a.test"),
        request: Some(&asked),
        ..tcp("198.51.100.7", 443)
    };
    let order = [
        "exact-api",
        "api",
        "root",
        "method",
        "name-with-port",
        "name",
        "subdomain",
        "domain",
        "any-name",
        "address",
        "network-with-port",
        "network",
        "everything",
    ];
    assert_eq!(covering(&all, with_request), order);
    let by_name = Target {
        request: None,
        ..with_request
    };
    assert_eq!(covering(&all, by_name), order[4..]);
    let by_address = Target {
        name: None,
        ..by_name
    };
    assert_eq!(covering(&all, by_address), order[9..]);
}

#[test]
fn priority_is_before_all_and_unlearned_before_everything() {
    let mut first = policy("first", vec![], 1);
    first.priority = 1;
    let name = policy("name", vec![to_host("a.test", &[])], 2);
    let target = Target {
        name: Some("a.test"),
        ..tcp("198.51.100.7", 443)
    };
    assert_eq!(covering(&[name.clone(), first], target), ["first", "name"]);

    let mut closed = name;
    closed.unlearned = Unlearned::Deny;
    let all = [
        policy("everything", vec![], 1),
        closed,
        policy("network", vec![to_cidr("198.51.100.0/24", &[])], 3),
    ];
    assert_eq!(
        covering(&all, tcp("198.51.100.7", 443)),
        ["network", "name", "everything"]
    );
    assert_eq!(
        covering(&all, tcp("203.0.113.7", 443)),
        ["name", "everything"]
    );
    let looked_up = Target {
        name: Some("b.test"),
        ..tcp("203.0.113.7", 443)
    };
    assert_eq!(covering(&all, looked_up), ["everything"]);
}

#[test]
fn requests_are_looked_for_at_two_ports_unless_others_are_said() {
    let usual = policy(
        "usual",
        vec![to_http("a.test", vec![http(None, &["GET"])])],
        1,
    );
    let mut other = to_http("a.test", vec![http(None, &["GET"])]);
    other.ports = any::ports(&[8080]);
    let other = policy("other", vec![other], 2);
    let asked = request("GET", "/");
    let at = |port| Target {
        name: Some("A.test."),
        request: Some(&asked),
        ..tcp("198.51.100.7", port)
    };
    let all = [usual, other];
    assert_eq!(covering(&all, at(80)), ["usual"]);
    assert_eq!(covering(&all, at(443)), ["usual"]);
    assert_eq!(covering(&all, at(8080)), ["other"]);
    assert!(covering(&all, at(8443)).is_empty());
}

fn denies(candidate: &Candidate<'_>) -> bool {
    matches!(candidate.scope, Scope::Unlearned) || candidate.policy.action == Action::Deny
}

proptest! {
    #[test]
    fn decides_as_the_slow_way_does(policies in policies(), asked in targets()) {
        given(&asked, |target| {
            let candidates = Candidate::ordered(&policies);
            let fast = deciding(&candidates, target);
            let fast = fast.map(|candidate| (candidate.policy.name.0.as_str(), denies(candidate)));
            prop_assert_eq!(fast, reference(&policies, target));
            Ok(())
        })?;
    }

    #[test]
    fn the_order_of_the_files_has_no_say(policies in policies(), asked in targets()) {
        let turned: Vec<EgressPolicy> = policies.iter().rev().cloned().collect();
        given(&asked, |target| {
            let (one, other) = (Candidate::ordered(&policies), Candidate::ordered(&turned));
            let name = |candidate: &Candidate<'_>| candidate.policy.name.0.clone();
            prop_assert_eq!(deciding(&one, target).map(name), deciding(&other, target).map(name));
            Ok(())
        })?;
    }

    #[test]
    fn a_less_specific_policy_changes_nothing(mut all in policies(), asked in targets()) {
        prop_assume!(all.len() > 1);
        given(&asked, |target| {
            let further = all.pop().unwrap();
            let before = Candidate::ordered(&all);
            let Some(decides) = deciding(&before, target) else { return Ok(()); };
            let added = Candidate::ordered([&further]);
            let mut covering = added.iter().filter(|candidate| candidate.covers(target));
            if covering.any(|candidate| candidate.rank() < decides.rank() || candidate.denies_prefix()) {
                return Ok(());
            }
            let after = Candidate::ordered(all.iter().chain([&further]));
            let after = deciding(&after, target).unwrap();
            prop_assert_eq!(&after.policy.name, &decides.policy.name);
            Ok(())
        })?;
    }

    #[test]
    fn no_name_undoes_a_deny_by_cidr(policies in policies(), asked in targets()) {
        given(&asked, |target| {
            let candidates = Candidate::ordered(&policies);
            let learned: Vec<Candidate<'_>> = candidates
                .iter()
                .filter(|candidate| !matches!(candidate.scope, Scope::Unlearned))
                .copied()
                .collect();
            let alone = deciding(&learned, Target::address(target.ip, target.port));
            if alone.is_some_and(Candidate::denies_prefix) {
                prop_assert!(denies(deciding(&candidates, target).unwrap()));
            }
            Ok(())
        })?;
    }
}
