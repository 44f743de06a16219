use sortie_api::policy::{
    Action, Destination, Egress, EgressPolicy, Http, Inspect, Mode, PolicyName, Tls, Unlearned,
    WhenEncrypted,
};
use sortie_api::workload::Families;

use super::{Interest, Sealed, interest, sealed};
use crate::precedence::tests::any::{http, policy, prefix, target, to_cidr, to_host, to_http};
use crate::precedence::{Candidate, Target};
use crate::resolve::AllUsable;

fn api(last: u8, http: Http) -> EgressPolicy {
    let destination = to_http("api.test", vec![self::http(Some(prefix("/api")), &[])]);
    let matches = destination.http.unwrap().matches;
    let http = Http { matches, ..http };
    let destination = Destination {
        http: Some(http),
        ..to_host("api.test", &[])
    };
    policy("api", vec![destination], last)
}

fn v6(mut policy: EgressPolicy) -> EgressPolicy {
    policy.action = Action::Egress(Egress {
        v4: None,
        v6: Some("2001:db8::1".parse().unwrap()),
        mode: Mode::Auto,
    });
    policy
}

/// What is told of `name`: who decides, by which word.
fn told(policies: &[EgressPolicy], name: &str, port: u16) -> String {
    let candidates = Candidate::ordered(policies);
    let target = Target {
        name: Some(name),
        ..target("198.51.100.7", port)
    };
    match sealed(&candidates, target) {
        Sealed::Decided(None) => "nobody".to_owned(),
        Sealed::Decided(Some(candidate)) => format!("decided: {}", candidate.policy.name.0),
        Sealed::Inspect(candidate) => format!("inspect: {}", candidate.policy.name.0),
        Sealed::PathNotVisible(candidate) => format!("not visible: {}", candidate.policy.name.0),
    }
}

#[test]
fn a_hidden_request_that_could_change_the_decision_is_refused() {
    let host = |last| policy("host", vec![to_host("api.test", &[])], last);
    let refuses = api(10, Http::default());
    assert_eq!(
        told(&[refuses.clone(), host(11)], "api.test", 443),
        "not visible: api"
    );
    assert_eq!(
        told(std::slice::from_ref(&refuses), "API.test.", 443),
        "not visible: api"
    );
    // Another name, another port, and the same outcome.
    assert_eq!(
        told(std::slice::from_ref(&refuses), "www.test", 443),
        "nobody"
    );
    assert_eq!(
        told(&[refuses.clone(), host(11)], "api.test", 8443),
        "decided: host"
    );
    assert_eq!(
        told(&[refuses.clone(), host(10)], "api.test", 443),
        "decided: host"
    );
    // What decides before any request is looked at.
    let mut first = host(11);
    first.priority = 1;
    assert_eq!(
        told(&[refuses.clone(), first], "api.test", 443),
        "decided: host"
    );
    // No request could undo that.
    let mut denied = policy("denied", vec![to_cidr("198.51.100.0/24", &[])], 0);
    denied.action = Action::Deny;
    assert_eq!(
        told(&[refuses, host(11), denied], "api.test", 443),
        "decided: denied"
    );
}

#[test]
fn a_policy_may_allow_what_it_cannot_see_or_look_into_it() {
    let host = policy("host", vec![to_host("api.test", &[])], 11);
    let by_host = Http {
        when_encrypted: WhenEncrypted::UseHostPolicy,
        ..Http::default()
    };
    assert_eq!(
        told(&[api(10, by_host.clone()), host.clone()], "api.test", 443),
        "decided: host"
    );
    assert_eq!(told(&[api(10, by_host)], "api.test", 443), "nobody");
    let inspect = || {
        let http = Http {
            tls: Some(Tls::Inspect(Inspect::default())),
            ..Http::default()
        };
        api(10, http)
    };
    assert_eq!(
        told(&[inspect(), host.clone()], "api.test", 443),
        "inspect: api"
    );
    // Whatever else could decide, in front of it or not, and if nothing can be told apart.
    let mut refuses = api(12, Http::default());
    refuses.name = PolicyName("another".to_owned());
    assert_eq!(
        told(&[refuses, inspect(), host], "api.test", 443),
        "inspect: api"
    );
    let same = policy("host", vec![to_host("api.test", &[])], 10);
    assert_eq!(told(&[inspect(), same], "api.test", 443), "inspect: api");
    assert_eq!(told(&[inspect()], "www.test", 443), "nobody");
}

fn of<'p>(policies: &'p [EgressPolicy], name: &str) -> Interest<'p> {
    interest(&Candidate::ordered(policies), name, &AllUsable)
}

#[test]
fn names_of_no_policy_are_passed_on_or_refused() {
    let mut one = policy("one", vec![to_host("*.a.test", &[])], 10);
    let all = [one.clone(), policy("everything", vec![], 11)];
    assert_eq!(of(&all, "b.test"), Interest::Unnamed { learn: false });
    one.unlearned = Unlearned::Deny;
    assert_eq!(
        of(std::slice::from_ref(&one), "b.test"),
        Interest::Unnamed { learn: true }
    );
    one.only_these_hosts = true;
    let all = [
        one.clone(),
        policy("other", vec![to_host("c.test", &[])], 11),
    ];
    assert_eq!(of(&all, "b.test"), Interest::Refused(&one.name));
    assert!(matches!(of(&all, "c.test"), Interest::Named { .. }));
    assert!(matches!(of(&all, "x.A.test."), Interest::Named { .. }));
}

#[test]
fn families_are_those_that_may_leave() {
    let named = |v4, v6, seen| Interest::Named {
        families: Families { v4, v6 },
        seen,
    };
    let host = policy("host", vec![to_host("api.test", &[])], 10);
    assert_eq!(
        of(std::slice::from_ref(&host), "api.test"),
        named(true, false, false)
    );
    assert_eq!(
        of(&[v6(host.clone())], "api.test"),
        named(false, true, false)
    );
    // At other ports nobody decides.
    let at_port = policy("port", vec![to_host("api.test", &[443])], 10);
    assert_eq!(
        of(std::slice::from_ref(&at_port), "api.test"),
        named(true, true, false)
    );
    assert_eq!(
        of(&[at_port, policy("rest", vec![], 11)], "api.test"),
        named(true, false, false)
    );
    // Another policy decides for some paths, and must see them.
    let all = [v6(api(10, Http::default())), host.clone()];
    assert_eq!(of(&all, "api.test"), named(true, true, true));
    // A Deny is no reason to keep an answer.
    let mut denied = host.clone();
    denied.action = Action::Deny;
    assert_eq!(of(&[denied], "api.test"), named(true, true, false));
    // What is behind a decision for all of the name has no say.
    let mut first = host;
    first.priority = 1;
    assert_eq!(
        of(&[first, v6(api(10, Http::default()))], "api.test"),
        named(true, false, false)
    );
}
