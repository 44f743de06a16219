//! What `explain` tells of names.

use std::fmt::Write;

use sortie_api::config::{self, CertificateFiles};
use sortie_api::policy::{
    Action, EgressPolicy, Enforcement, Http, Inspect, Originate, Protocol, Selector, Tls,
    Unlearned, WhenEncrypted,
};

use super::{container, planner_with};
use crate::explain::{ByName, Learned, Leaving, NameExplanation, Verdict};
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
        writeln!(text, "policy: {policy}").unwrap();
    }
    for Leaving { source, uplink } in &answer.sources {
        let uplink = uplink.as_deref().unwrap_or("nowhere");
        writeln!(text, "source: {source} by {uplink}").unwrap();
    }
    for learned in &answer.addresses {
        let Learned {
            address,
            verdict,
            reason,
            ..
        } = learned;
        writeln!(text, "told: {address}: {verdict:?}, {reason}").unwrap();
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
    told_with(config::Tls::default(), policies, asked)
}

/// With these certificates in the agent's file.
fn told_with(
    certificates: config::Tls,
    policies: Vec<EgressPolicy>,
    asked: &[(&str, ByName<'_>)],
) -> String {
    let policies = policies.into_iter().map(of_all).collect();
    let mut planner = planner_with(vec![container("web", None, 20, &["172.17.0.2"])], policies);
    let mut environment = planner.environment().clone();
    environment.config.tls = certificates;
    planner.environment_changed(environment);
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
        malformed: None,
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
    let api_request = request("GET", "/api/x");
    let https = ByName {
        request: Some(&api_request),
        encrypted: true,
        ..by_name("api.test", 443)
    };
    let plain = ByName {
        encrypted: false,
        ..by_name("api.test", 80)
    };
    let plain = ByName {
        request: Some(&api_request),
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
    let inspect = |certificate: Option<&str>| Http {
        tls: Some(Tls::Inspect(Inspect {
            client_certificate: certificate.map(str::to_owned),
            ..Inspect::default()
        })),
        ..Http::default()
    };
    let files = CertificateFiles {
        certificate: "/etc/sortie/inspect.pem".into(),
        key: "/etc/sortie/inspect.key".into(),
    };
    let certificates = config::Tls {
        inspect: Some(files),
        ..config::Tls::default()
    };
    let host = || policy("host", vec![to_host("api.test", &[])], 12);
    let asked = [
        ("http", plain),
        ("https", https),
        ("TCP", by_name("api.test", 443)),
    ];
    let mut text = told(vec![api(originate), host()], &asked);
    text += "\n## inspected\n";
    let other = request("GET", "/other");
    let other = ByName {
        request: Some(&other),
        ..https
    };
    let all = [&asked[..], &[("https, another path", other)]].concat();
    text += &told_with(certificates.clone(), vec![api(inspect(None)), host()], &all);
    text += "\n## inspected, with a certificate that is not there\n";
    text += &told_with(
        certificates,
        vec![api(inspect(Some("partner")))],
        &asked[1..2],
    );
    text += "\n## inspected, without a CA\n";
    text += &told(vec![api(inspect(None)), host()], &asked[1..2]);
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

/// A Deny by CIDR is asked with every address that a look-up gave, and holds where all are denied.
#[test]
fn golden_what_was_told_before() {
    let mut denied = policy("metadata", vec![to_cidr("198.51.100.0/24", &[])], 0);
    denied.action = Action::Deny;
    let policies = [policy("db", vec![to_host("db.test", &[])], 11), denied];
    let policies = policies.into_iter().map(of_all).collect();
    let mut planner = planner_with(vec![container("web", None, 20, &["172.17.0.2"])], policies);
    let id = planner.workloads().keys().next().unwrap().clone();
    let mut told = String::new();
    for (title, address) in [
        ("a partner's address", "192.0.2.9"),
        ("and one that is denied", "198.51.100.9"),
    ] {
        planner.learned(&id, "db.test", &[address.parse().unwrap()]);
        let tracked = &planner.workloads()[&id];
        told += &text(
            title,
            &planner.explain_name(tracked, &by_name("db.test", 5432)),
        );
        told.push('\n');
    }
    insta::assert_snapshot!(told);
}

#[test]
fn an_address_that_is_denied_is_not_reached_by_its_name() {
    let mut denied = policy("metadata", vec![to_cidr("198.51.100.0/24", &[])], 0);
    denied.action = Action::Deny;
    let db = policy("db", vec![to_host("db.test", &[])], 11);
    let policies = vec![of_all(db), of_all(denied)];
    let mut planner = planner_with(vec![container("web", None, 20, &["172.17.0.2"])], policies);
    let id = planner.workloads().keys().next().unwrap().clone();
    planner.learned(&id, "db.test", &["198.51.100.9".parse().unwrap()]);
    let tracked = &planner.workloads()[&id];
    let answer = planner.explain_name(tracked, &by_name("db.test", 5432));
    assert_eq!(answer.verdict, Verdict::Drop);
    assert_eq!(answer.policy.as_deref(), Some("metadata"));
    assert_eq!(answer.reason, "198.51.100.9: the policy says Deny");
    assert_eq!(answer.sources, []);
}

/// A path that has no one spelling is refused where policies look at requests, and only there.
#[test]
fn a_malformed_path_matters_to_the_gateway_only() {
    let request = request("GET", "/api%2Fx");
    let policies = vec![
        api(Http::default()),
        policy("host", vec![to_host("db.test", &[])], 12),
    ];
    let policies = policies.into_iter().map(of_all).collect();
    let planner = planner_with(vec![container("web", None, 20, &["172.17.0.2"])], policies);
    let tracked = planner.workloads().values().next().unwrap();
    let asked = |name| ByName {
        request: Some(&request),
        malformed: Some("an escaped slash in the path"),
        ..by_name(name, 80)
    };
    let refused = planner.explain_name(tracked, &asked("api.test"));
    assert_eq!(refused.verdict, Verdict::Drop);
    let reason = "the gateway answers 400: an escaped slash in the path";
    assert_eq!(refused.reason, reason);
    let passes = planner.explain_name(tracked, &asked("db.test"));
    assert_eq!(passes.verdict, Verdict::Egress);
}

#[test]
fn golden_policies_that_only_audit() {
    let mut audits = policy("audits", vec![to_host("api.test", &[])], 12);
    audits.enforcement = Enforcement::Audit;
    let mut loses = policy("loses", vec![to_host("*.test", &[])], 12);
    loses.enforcement = Enforcement::Audit;
    let policies = vec![audits, loses, policy("all", vec![], 11)];
    insta::assert_snapshot!(told(
        policies,
        &[("api.test:443", by_name("api.test", 443))]
    ));
}

/// What policies that only audit would change about a request, beside what becomes of it.
#[test]
fn an_audit_of_names_is_told_and_changes_nothing() {
    let audit = |policy: EgressPolicy| EgressPolicy {
        enforcement: Enforcement::Audit,
        ..policy
    };
    let only = EgressPolicy {
        only_these_hosts: true,
        priority: 1,
        ..policy("only", vec![to_host("db.test", &[])], 12)
    };
    let told = |policies: Vec<EgressPolicy>, name: &str, path: &str, encrypted: bool| {
        let web = container("web", None, 20, &["172.17.0.2"]);
        let policies = policies.into_iter().map(of_all).collect();
        let planner = planner_with(vec![web], policies);
        let tracked = planner.workloads().values().next().unwrap();
        let request = request("GET", path);
        let asked = ByName {
            request: Some(&request),
            encrypted,
            ..by_name(name, if encrypted { 443 } else { 80 })
        };
        let answer = planner.explain_name(tracked, &asked);
        assert_eq!(answer.verdict, Verdict::AsWithoutSortie);
        answer
            .audit
            .map(|note| format!("{} would {}", note.policy, note.would))
    };
    let ask = |path, encrypted| {
        told(
            vec![audit(api(Http::default()))],
            "api.test",
            path,
            encrypted,
        )
    };
    let leaves = "api would leave with 203.0.113.11";
    assert_eq!(ask("/api/x", false).as_deref(), Some(leaves));
    assert_eq!(ask("/other", false), None);
    let hidden = "api would be refused: PathNotVisible: TLS hides the request";
    assert_eq!(ask("/api/x", true).as_deref(), Some(hidden));
    let refused = "only would be refused: the resolver answers REFUSED: `onlyTheseHosts`";
    let told = told(vec![audit(only)], "api.test", "/", false);
    assert_eq!(told.as_deref(), Some(refused));
}

#[test]
fn golden_a_name_without_a_port() {
    let asked = ByName {
        port: None,
        ..by_name("api.test", 0)
    };
    insta::assert_snapshot!(told(vec![api(Http::default())], &[("api.test", asked)]));
}
