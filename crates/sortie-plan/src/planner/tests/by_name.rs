//! What `explain` tells of names.

use std::fmt::Write;

use sortie_api::policy::{
    Action, EgressPolicy, Http, Originate, Protocol, Selector, Tls, Unlearned, WhenEncrypted,
};

use super::{container, planner_with};
use crate::explain::{ByName, NameExplanation};
use crate::precedence::tests::any::{http, policy, prefix, request, to_cidr, to_host, to_http};

/// For every container, from the documentation range that is on this host.
fn of_all(policy: EgressPolicy) -> EgressPolicy {
    let mut policy = policy;
    if let Action::Egress(egress) = &mut policy.action {
        egress.v4 = egress.v4.map(|v4| [203, 0, 113, v4.octets()[3]].into());
    }
    policy.workloads = vec![Selector {
        names: vec!["*".to_owned()],
        ..Selector::default()
    }];
    policy
}

fn api(http_fields: Http) -> EgressPolicy {
    let mut destination = to_http("api.test", vec![http(Some(prefix("/api")), &["GET"])]);
    let matches = destination.http.take().unwrap().matches;
    destination.http = Some(Http {
        matches,
        ..http_fields
    });
    policy("api", vec![destination], 11)
}

/// As the command shows it.
fn text(title: &str, answer: &NameExplanation) -> String {
    let mut text = format!("### {title}\n");
    let NameExplanation {
        plane,
        verdict,
        reason,
        lookup,
        ..
    } = answer;
    writeln!(text, "{} decides: {verdict:?}, {reason}", plane.name()).unwrap();
    if let Some(policy) = &answer.policy {
        writeln!(text, "policy: {policy}, sources: {:?}", answer.sources).unwrap();
    }
    if let Some(fix) = &answer.fix {
        writeln!(text, "fix: {fix}").unwrap();
    }
    writeln!(text, "look-up: {lookup}").unwrap();
    for refused in &answer.refused {
        writeln!(text, "refused: {}: {}", refused.what, refused.why).unwrap();
    }
    for candidate in &answer.candidates {
        writeln!(
            text,
            "- {} ({}): {}",
            candidate.policy, candidate.matches, candidate.outcome
        )
        .unwrap();
    }
    text
}

fn told(policies: Vec<EgressPolicy>, asked: &[(&str, ByName<'_>)]) -> String {
    let policies = policies.into_iter().map(of_all).collect();
    let planner = planner_with(vec![container("web", None, 20, &["172.17.0.2"])], policies);
    let tracked = planner.workloads().values().next().unwrap();
    let answers = asked
        .iter()
        .map(|(title, asked)| text(title, &planner.explain_name(tracked, asked)));
    answers.collect::<Vec<_>>().join("\n")
}

fn by_name(name: &str, port: u16) -> ByName<'_> {
    ByName {
        name,
        port: Some((Protocol::Tcp, port)),
        request: None,
        encrypted: false,
    }
}

#[test]
fn golden_a_path_a_host_and_the_rest() {
    let mut denied = policy(
        "metadata",
        vec![to_cidr("169.254.0.0/16", &[]), to_cidr("10.0.0.0/8", &[])],
        0,
    );
    denied.action = Action::Deny;
    let policies = vec![
        api(Http::default()),
        policy("host", vec![to_host("*.test", &[])], 12),
        policy("lost", vec![to_host("db.test", &[5432])], 99),
        denied,
    ];
    let [get_api, get_other, post_api] = [("GET", "/api/x"), ("GET", "/other"), ("POST", "/api/x")]
        .map(|(method, path)| request(method, path));
    let web = |request| ByName {
        request: Some(request),
        ..by_name("api.test", 80)
    };
    let https = ByName {
        port: Some((Protocol::Tcp, 443)),
        encrypted: true,
        ..web(&get_api)
    };
    let told = told(
        policies,
        &[
            ("http://api.test/api/x", web(&get_api)),
            ("http://api.test/other", web(&get_other)),
            ("POST http://api.test/api/x", web(&post_api)),
            ("https://api.test/api/x", https),
            ("api.test:5432", by_name("api.test", 5432)),
            (
                "www.test",
                ByName {
                    port: None,
                    ..by_name("www.test", 0)
                },
            ),
            ("db.test:5432", by_name("db.test", 5432)),
            ("a.example:443", by_name("a.example", 443)),
        ],
    );
    insta::assert_snapshot!(told);
}

#[test]
fn golden_what_is_done_about_tls() {
    let request = request("GET", "/api/x");
    let https = ByName {
        request: Some(&request),
        encrypted: true,
        ..by_name("api.test", 443)
    };
    let plain = ByName {
        encrypted: false,
        ..by_name("api.test", 80)
    };
    let plain = ByName {
        request: Some(&request),
        ..plain
    };
    let originate = Http {
        when_encrypted: WhenEncrypted::UseHostPolicy,
        tls: Some(Tls::Originate(Originate {
            port: 8443,
            ca: None,
            client_certificate: None,
        })),
        ..Http::default()
    };
    let inspect = Http {
        tls: Some(Tls::Inspect),
        ..Http::default()
    };
    let host = || policy("host", vec![to_host("api.test", &[])], 12);
    let asked = [
        ("http", plain),
        ("https", https),
        ("TCP", by_name("api.test", 443)),
    ];
    let mut text = told(vec![api(originate), host()], &asked);
    text += "\n## inspected\n";
    text += &told(vec![api(inspect), host()], &asked);
    insta::assert_snapshot!(text);
}

#[test]
fn golden_only_these_hosts() {
    let mut only = policy("only", vec![to_host("a.test", &[])], 11);
    only.only_these_hosts = true;
    only.unlearned = Unlearned::Deny;
    let mut nothing = policy("nothing", vec![], 0);
    nothing.action = Action::Deny;
    let asked = [
        ("a.test:443", by_name("a.test", 443)),
        ("b.test:443", by_name("b.test", 443)),
    ];
    insta::assert_snapshot!(told(vec![only, nothing], &asked));
}
