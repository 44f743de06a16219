use sortie_api::policy::{Action, PolicyName};

use super::{AllUsable, Decision, Exit, Refusal, resolve};
use crate::precedence::tests::any::{
    http, policy, prefix, request, target, to_cidr, to_host, to_http,
};
use crate::precedence::{Candidate, Target};

fn decided(policy: &str, exit: Exit) -> Decision {
    Decision::Decided {
        policy: PolicyName(policy.to_owned()),
        exit,
    }
}

#[test]
fn a_path_has_its_address_and_the_others_have_the_hosts() {
    let api = policy(
        "api",
        vec![to_http(
            "api.external.com",
            vec![http(Some(prefix("/api")), &[])],
        )],
        10,
    );
    let host = policy("host", vec![to_host("api.external.com", &[])], 11);
    let candidates = Candidate::ordered([&host, &api]);
    let named = Target {
        name: Some("api.external.com"),
        ..target("198.51.100.7", 80)
    };
    let asked = |path| {
        let request = request("GET", path);
        let target = Target {
            request: Some(&request),
            ..named
        };
        resolve(&candidates, target, &[], &AllUsable)
    };
    let with = |last| Exit::Egress([192, 0, 2, last].into());
    assert_eq!(asked("/api/users"), decided("api", with(10)));
    assert_eq!(asked("/apikeys"), decided("host", with(11)));
    assert_eq!(
        resolve(&candidates, named, &[], &AllUsable),
        decided("host", with(11))
    );
    let other = Target {
        name: Some("www.external.com"),
        ..named
    };
    assert_eq!(
        resolve(&candidates, other, &[], &AllUsable),
        Decision::NoPolicy
    );
}

#[test]
fn no_name_undoes_a_deny_by_cidr_but_one_for_everything() {
    let mut name = policy("name", vec![to_host("a.test", &[])], 10);
    name.priority = 1000;
    let mut denied = policy("denied", vec![to_cidr("198.51.100.0/24", &[])], 0);
    denied.action = Action::Deny;
    let named = |ip| Target {
        name: Some("a.test"),
        ..target(ip, 443)
    };
    let candidates = Candidate::ordered([&name, &denied]);
    let answer = |ip| resolve(&candidates, named(ip), &[], &AllUsable);
    assert_eq!(
        answer("198.51.100.7"),
        decided("denied", Exit::Drop(Refusal::Denied))
    );
    assert_eq!(
        answer("203.0.113.7"),
        decided("name", Exit::Egress([192, 0, 2, 10].into()))
    );

    // What the address alone may reach, the name may too.
    let exception = policy("exception", vec![to_cidr("198.51.100.7/32", &[])], 11);
    let candidates = Candidate::ordered([&name, &denied, &exception]);
    let answer = resolve(&candidates, named("198.51.100.7"), &[], &AllUsable);
    assert_eq!(
        answer,
        decided("name", Exit::Egress([192, 0, 2, 10].into()))
    );

    denied.destinations.clear();
    let candidates = Candidate::ordered([&name, &denied]);
    let answer = resolve(&candidates, named("198.51.100.7"), &[], &AllUsable);
    assert_eq!(
        answer,
        decided("name", Exit::Egress([192, 0, 2, 10].into()))
    );
    let other = Target {
        name: Some("b.test"),
        ..named("198.51.100.7")
    };
    assert_eq!(
        resolve(&candidates, other, &[], &AllUsable),
        decided("denied", Exit::Drop(Refusal::Denied))
    );
}
