mod refused;

use std::fmt::Write;

use proptest::prelude::*;

use crate::policy::parse;
use crate::policy::{Action, Egress, EgressPolicy, Headers, HostPattern, Http, Owner, Request};

/// The article's, as it stands.
const ARTICLE: &str = r#"apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata:
  name: egress-control
spec:
  hosts:
    - "api.external.com" # Destination to control
  gateways:
    - istio-egressgateway # This must be setup first
  http:
    - match:
      - uri:
          prefix: "/api"
      route:
        - destination:
            host: api.external.com
      source:
        - ip: 192.168.20.10/32 # Source IP that is associated with the outgoing connection
"#;

/// Around routes, in line 7 and column 5.
fn routes(routes: &str) -> String {
    let lines = routes.replace('\n', "\n    ");
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v}}\nspec:\n  hosts: [a.example]\n  http:\n    {lines}\n"
    )
}

/// The address that a request leaves with; none as before.
fn source(policies: &[EgressPolicy], method: &str, path: &str) -> Option<Egress> {
    let headers: &dyn Headers = &[("x", "y"); 0];
    let request = Request {
        method,
        path,
        headers,
    };
    let takes = |http: &Http| {
        http.takes(None, &request) && http.matches.is_empty()
            || http
                .matches
                .iter()
                .any(|entry| http.takes(Some(entry), &request))
    };
    let covers = |policy: &&EgressPolicy| {
        let mut http = policy.destinations.iter().filter_map(|d| d.http.as_ref());
        http.any(takes)
    };
    let mut covering = policies.iter().filter(covers);
    let found = covering.next();
    assert!(covering.next().is_none(), "one route takes a request");
    match found?.action {
        Action::Egress(egress) => Some(egress),
        _ => None,
    }
}

fn v4(egress: Option<Egress>) -> Option<String> {
    Some(egress?.v4?.to_string())
}

#[test]
fn the_articles_is_read_as_it_stands() {
    let policies = parse("v.yaml", ARTICLE).unwrap();
    let [policy] = &policies[..] else {
        panic!("{policies:?}")
    };
    assert_eq!(policy.name.0, "virtualservice/egress-control");
    assert_eq!(policy.owner, Owner::VirtualService);
    assert_eq!(policy.workloads[0].names, ["*"]);
    let [destination] = &policy.destinations[..] else {
        panic!("{policy:?}")
    };
    assert_eq!(
        destination.hosts,
        [HostPattern::Exact("api.external.com".to_owned())]
    );
    assert_eq!(
        (destination.ports[0].first, destination.ports[0].last),
        (80, 80)
    );
    for path in ["/api", "/api/v1"] {
        assert_eq!(v4(source(&policies, "GET", path)).unwrap(), "192.168.20.10");
    }
    for path in ["/", "/apikeys", "/x/api"] {
        assert_eq!(source(&policies, "GET", path), None);
    }
}

#[test]
fn what_there_is_to_know_is_noted() {
    let named = ARTICLE.replace(
        "name: egress-control",
        "name: egress-control\n  namespace: shop",
    );
    let notes = crate::policy::parse::parse_with_places("v.yaml", &named)
        .unwrap()
        .notes;
    let notes: Vec<String> = notes.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(notes.join("\n"));
}

#[test]
fn the_first_route_that_matches_decides() {
    let file = routes(
        r#"- name: health
  match: [{uri: {exact: /api/health}}, {uri: {regex: "/[a-z]+/ready"}}]
  route: [{destination: {host: A.example, port: {number: 80}}}]
- match:
  - uri: {prefix: /api}
    method: {exact: POST}
    headers: {X-Tenant: {exact: blue}}
  route: [{destination: {host: a.example}}]
  source: [{ip: 192.0.2.2}, {ip: "2001:db8::2/128"}]
- match: [{uri: {prefix: /api/v1}}, {method: {exact: DELETE}}]
  route: [{destination: {host: a.example}}]
  source: [{ip: 192.0.2.3/32}]
- match: [{uri: {prefix: /api}}]
  route: [{destination: {host: a.example}}]
  source: [{ip: 192.0.2.4}]
- route: [{destination: {host: a.example}}]
  source: [{ip: 192.0.2.3/32}]"#,
    );
    let policies = parse("v.yaml", &file).unwrap();
    let names: Vec<&str> = policies.iter().map(|p| p.name.0.as_str()).collect();
    assert_eq!(
        names,
        [
            "virtualservice/v",
            "virtualservice/v/2",
            "virtualservice/v/3"
        ]
    );
    for (method, path, expected) in [
        ("GET", "/api/health", None),
        ("DELETE", "/api/health", None),
        ("GET", "/x/ready", None),
        ("GET", "/api/v1/x", Some("192.0.2.3")),
        ("DELETE", "/", Some("192.0.2.3")),
        ("GET", "/api/v2", Some("192.0.2.4")),
        ("GET", "/", Some("192.0.2.3")),
    ] {
        let found = v4(source(&policies, method, path));
        assert_eq!(found.as_deref(), expected, "{method} {path}");
    }
}

#[test]
fn an_annotation_is_for_the_routes_without_a_source() {
    let annotated = |value: &str, text: &str| {
        let annotations = format!(
            r#"{{name: v, annotations: {{sortie.dev/egress: "{value}", other.example/x: y}}}}"#
        );
        text.replace("{name: v}", &annotations)
    };
    let file = routes(
        "- match: [{uri: {prefix: /a}}]\n  route: [{destination: {host: a.example}}]\n  source: [{ip: 192.0.2.2}]\n- route: [{destination: {host: a.example}}]",
    );
    let policies = parse("v.yaml", &annotated("192.0.2.9,2001:db8::9", &file)).unwrap();
    assert_eq!(v4(source(&policies, "GET", "/a")).unwrap(), "192.0.2.2");
    let other = source(&policies, "GET", "/b").unwrap();
    assert_eq!(other.addresses().count(), 2);
    let policies = parse("v.yaml", &annotated("bypass", &file)).unwrap();
    assert_eq!(policies[1].action, Action::Bypass);
}

/// The paths of a route's entries, exact or prefixes, and the last number of its source.
type Written = (Vec<(&'static str, bool)>, Option<u8>);

/// The first route that has a matching entry decides, the slow way.
fn first_match(routes: &[Written], path: &str) -> Option<String> {
    let fits = |(pattern, exact): &(&str, bool)| {
        let below = format!("{}/", pattern.trim_end_matches('/'));
        path == *pattern || (!exact && path.starts_with(&below))
    };
    let (_, last) = routes
        .iter()
        .find(|(entries, _)| entries.iter().any(fits))?;
    last.map(|last| format!("192.0.2.{last}"))
}

proptest! {
    #[test]
    fn routes_are_asked_in_their_order(
        list in prop::collection::vec((
            prop::collection::vec((prop::sample::select(vec!["/", "/a", "/a/b", "/a/b/c", "/d"]), any::<bool>()), 1..3),
            prop::option::of(1_u8..4),
        ), 1..5),
        path in prop::sample::select(vec!["/", "/a", "/a/b", "/ab", "/a/b/c", "/d/e"]),
    ) {
        prop_assume!(list.iter().any(|(_, source)| source.is_some()));
        let mut text = String::new();
        for (entries, source) in &list {
            let entries: Vec<String> = entries
                .iter()
                .map(|(path, exact)| format!("{{uri: {{{}: {path}}}}}", if *exact { "exact" } else { "prefix" }))
                .collect();
            let entries = entries.join(", ");
            writeln!(text, "- match: [{entries}]\n  route: [{{destination: {{host: a.example}}}}]").unwrap();
            if let Some(last) = source {
                writeln!(text, "  source: [{{ip: 192.0.2.{last}}}]").unwrap();
            }
        }
        let policies = parse("v.yaml", &routes(text.trim_end())).unwrap();
        prop_assert_eq!(v4(source(&policies, "GET", path)), first_match(&list, path));
    }
}
