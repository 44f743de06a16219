//! What a VirtualService cannot say here, and what is told then.

use std::fmt::Write;

use super::{ARTICLE, routes};
use crate::policy::parse;

/// What people read, case by case.
fn told(cases: &[(&str, String)]) -> String {
    let mut told = String::new();
    for (title, file) in cases {
        let errors = parse("v.yaml", file).expect_err(title);
        write!(told, "### {title}\n{errors}\n").unwrap();
    }
    told
}

/// A route with these fields besides.
fn route(fields: &str) -> String {
    let fields = fields.replace('\n', "\n  ");
    routes(&format!(
        "- route: [{{destination: {{host: a.example}}}}]\n  source: [{{ip: 192.0.2.2}}]\n  {fields}"
    ))
}

fn to(destination: &str) -> String {
    routes(&format!(
        "- route: {destination}\n  source: [{{ip: 192.0.2.2}}]"
    ))
}

#[test]
fn documents() {
    insta::assert_snapshot!(told(&[
        (
            "other apiVersion",
            ARTICLE.replace("networking.istio.io/v1beta1", "sortie.dev/v1alpha1")
        ),
        ("nothing but a kind", "kind: VirtualService\n".into()),
        (
            "name is missing",
            ARTICLE.replace("name: egress-control", "labels: {a: b}")
        ),
        ("status", format!("{ARTICLE}status: {{}}\n")),
        (
            "hosts are missing",
            routes("- route: [{destination: {host: a.example}}]")
                .replace("hosts: [a.example]", "gateways: [mesh]")
        ),
        (
            "http is missing",
            routes("[]").replace("http:\n    []", "exportTo: [\".\"]")
        ),
        (
            "other sections",
            format!("{ARTICLE}  tcp: []\n  tls: []\n  exportTo: [\"*\"]\n  colour: red\n")
        ),
        (
            "an address for a host",
            ARTICLE.replace("api.external.com", "203.0.113.7")
        ),
        (
            "our annotation, misspelt",
            ARTICLE.replace(
                "  name:",
                "  annotations: {sortie.dev/egres: 192.0.2.2}\n  name:"
            )
        ),
        (
            "annotations of later",
            ARTICLE.replace(
                "  name:",
                "  annotations: {sortie.dev/egress: pool/public}\n  name:"
            )
        ),
        (
            "no source at all",
            routes("- route: [{destination: {host: a.example}}]")
        ),
        ("two of one name", format!("{ARTICLE}---\n{ARTICLE}")),
    ]));
}

#[test]
fn what_changes_requests() {
    let each = [
        "redirect: {uri: /v2}",
        "directResponse: {status: 403}",
        "delegate: {name: other}",
        "rewrite: {uri: /v2}",
        "timeout: 5s",
        "retries: {attempts: 3}",
        "fault: {}",
        "mirror: {host: b.example}",
        "corsPolicy: {}",
        "headers: {request: {set: {a: b}}}",
        "subset: v1",
        "retrys: {}",
    ];
    let cases: Vec<_> = each.iter().map(|fields| (*fields, route(fields))).collect();
    insta::assert_snapshot!(told(&cases));
}

#[test]
fn matches() {
    let of = |entry: &str| route(&format!("match: [{entry}]"));
    insta::assert_snapshot!(told(&[
        ("nothing said", of("{}")),
        ("no match", route("match: []")),
        ("a string for a path", of("{uri: /api}")),
        ("no path", of("{uri: {}}")),
        ("two paths", of("{uri: {exact: /a, prefix: /b}}")),
        (
            "paths that never match",
            of("{uri: {prefix: api}}, {uri: {exact: /a//b}}, {uri: {regex: '/a{1001}'}}")
        ),
        ("case", of("{uri: {exact: /a}, ignoreUriCase: true}")),
        (
            "methods",
            of("{method: GET}, {method: {regex: GET|POST}}, {method: {exact: get}}")
        ),
        (
            "headers",
            of(
                "{headers: {x-a: {prefix: b}, x-c: d, host: {exact: e}, x-f: {}, X-G: {exact: a}, x-g: {exact: a}}}"
            )
        ),
        (
            "what else Istio matches",
            of(
                "{scheme: {exact: https}, authority: {exact: a}, port: 443, sourceLabels: {a: b}, gateways: [mesh], queryParams: {a: {exact: b}}, withoutHeaders: {a: {}}, sourceNamespace: shop}"
            )
        ),
    ]));
}

#[test]
fn destinations_and_sources() {
    let source = |list: &str| {
        routes(&format!(
            "- route: [{{destination: {{host: a.example}}}}]\n  source: {list}"
        ))
    };
    insta::assert_snapshot!(told(&[
        ("no route", routes("- source: [{ip: 192.0.2.2}]")),
        ("an empty route", to("[]")),
        (
            "several destinations",
            to("[{destination: {host: a.example}}, {destination: {host: a.example}}]")
        ),
        (
            "weights and subsets",
            to("[{destination: {host: a.example, subset: v1}, weight: 100}]")
        ),
        ("another host", to("[{destination: {host: b.example}}]")),
        (
            "another port",
            to("[{destination: {host: a.example, port: {number: 443}}}]")
        ),
        ("no host", to("[{destination: {}}]")),
        (
            "a route behind one for everything",
            routes(
                "- route: [{destination: {host: a.example}}]\n  source: [{ip: 192.0.2.2}]\n- match: [{uri: {prefix: /a}}]\n  route: [{destination: {host: a.example}}]"
            )
        ),
        ("a network for a source", source("[{ip: 192.0.2.0/24}]")),
        (
            "two of one family",
            source("[{ip: 192.0.2.2}, {ip: 192.0.2.3/32}]")
        ),
        (
            "sources that are none",
            source("[{ip: 127.0.0.1/32}, {ip: web}, {address: 192.0.2.2}]")
        ),
        ("no list", source("{ip: 192.0.2.2}")),
    ]));
}
