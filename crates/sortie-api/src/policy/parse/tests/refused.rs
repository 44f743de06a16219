//! Bad files, and all that is said about each: place, reason and remedy.

use std::fmt::Write;

use super::{bypass, containers, destination, egress, spec};
use crate::policy::parse;

/// What people read, case by case.
fn told(cases: &[(&str, String)]) -> String {
    let mut told = String::new();
    for (title, file) in cases {
        let errors = parse("p.yaml", file).expect_err(title);
        write!(told, "### {title}\n{errors}\n").unwrap();
    }
    told
}

#[test]
fn documents() {
    let again = format!("{}---\n{}", bypass(""), bypass(""));
    insta::assert_snapshot!(told(&[
        ("empty file", String::new()),
        ("only comments", "# action: Deny\n---\n".into()),
        ("no mapping", "- a\n".into()),
        ("a string", "hello\n".into()),
        ("nothing but a kind", "kind: EgressPolicy\n".into()),
        (
            "kind is missing",
            bypass("").replace("kind: EgressPolicy\n", ""),
        ),
        (
            "other kind",
            bypass("").replace("EgressPolicy", "Deployment"),
        ),
        (
            "nearly the kind",
            bypass("").replace("EgressPolicy", "EgressPolcy"),
        ),
        (
            "later kind",
            bypass("").replace("EgressPolicy", "ClusterEgressPolicy"),
        ),
        ("other apiVersion", bypass("").replace("v1alpha1", "v1")),
        ("name is missing", bypass("").replace("{name: p}", "{}")),
        (
            "name with capitals",
            bypass("").replace("name: p", "name: Payments_To Bank"),
        ),
        (
            "name is a number",
            bypass("").replace("name: p", "name: 42"),
        ),
        (
            "name too long",
            bypass("").replace("name: p", &format!("name: {}", "a".repeat(254))),
        ),
        (
            "namespace",
            bypass("").replace("{name: p}", "{name: p, namespace: shop}"),
        ),
        ("two of one name", again),
    ]));
}

fn on_change(value: &str) -> String {
    spec(&format!(
        "action: Egress\negress: {{addresses: [203.0.113.11]}}\nonChange: {value}"
    ))
}

#[test]
fn specs() {
    insta::assert_snapshot!(told(&[
        (
            "unknown field, near",
            spec("action: Egress\negress: {adresses: [203.0.113.11]}"),
        ),
        ("unknown field, far", bypass("colour: red")),
        ("field in capitals", bypass("Priority: 1")),
        (
            "later fields",
            bypass("tier: Override\nonlyTheseHosts: true"),
        ),
        (
            "later egress fields",
            spec("action: Egress\negress: {pool: {name: public}, distribution: Single}"),
        ),
        (
            "later workloads",
            bypass("workloads:\n- pods: {}\n- processes: {}"),
        ),
        (
            "later destinations",
            destination("hosts: [api.example.com]\nports: [{protocol: TCP, port: 443}]"),
        ),
        ("priority above", bypass("priority: 1001")),
        ("priority below", bypass("priority: -1")),
        ("priority broken", bypass("priority: 1.5")),
        ("priority quoted", bypass("priority: \"10\"")),
        ("priority in words", bypass("priority: high")),
        ("action is missing", spec("priority: 1")),
        ("action in small letters", spec("action: bypass")),
        ("action unknown", spec("action: Allow")),
        ("Egress without egress", spec("action: Egress")),
        (
            "Egress without addresses",
            spec("action: Egress\negress: {}"),
        ),
        ("Egress with no address", egress("[]")),
        (
            "Bypass with egress",
            bypass("egress: {addresses: [203.0.113.11]}"),
        ),
        (
            "Deny with onUnavailable",
            spec("action: Deny\nonUnavailable: NodeAddress"),
        ),
        (
            "onUnavailable as in labels",
            spec(
                "action: Egress\negress: {addresses: [203.0.113.11]}\nonUnavailable: node-address",
            ),
        ),
        (
            "Bypass with onChange",
            bypass("onChange: {connections: Drain}"),
        ),
        (
            "onChange without connections",
            on_change("{drainSeconds: 10}"),
        ),
        ("onChange Keep", on_change("{connections: Keep}")),
        ("onChange as one word", on_change("Drain")),
        (
            "drainSeconds with Reset",
            on_change("{connections: Reset, drainSeconds: 10}"),
        ),
        (
            "drainSeconds below",
            on_change("{connections: Drain, drainSeconds: 0}"),
        ),
        (
            "drainSeconds above",
            on_change("{connections: Drain, drainSeconds: 3601}"),
        ),
        (
            "drainSeconds with a unit",
            on_change("{connections: Drain, drainSeconds: 30s}"),
        ),
        (
            "Direct with what it cannot have",
            spec(
                "destinations:\n- cidrs: [198.51.100.0/24]\naction: Egress\negress: {addresses: [203.0.113.11], mode: Direct}\nonUnavailable: NodeAddress\nonChange: {connections: Drain}",
            ),
        ),
        (
            "mode as in labels",
            spec("action: Egress\negress: {addresses: [203.0.113.11], mode: direct}"),
        ),
    ]));
}

#[test]
fn addresses() {
    insta::assert_snapshot!(told(&[
        ("address is no list", egress("203.0.113.11")),
        (
            "addresses that are none",
            egress("[203.0.113.256, web, 203.0.113.11/32, \"[2001:db8::1]\", 203.0]"),
        ),
        (
            "addresses that cannot leave",
            egress("[127.0.0.1, 0.0.0.0, 0.1.2.3, 169.254.1.1, 224.0.0.1, 255.255.255.255]"),
        ),
        (
            "IPv6 addresses that cannot leave",
            egress("[\"::\", \"::1\", fe80::1, ff02::1, \"::ffff:203.0.113.11\"]"),
        ),
        (
            "two IPv4 addresses",
            egress("[203.0.113.11, 2001:db8::11, 203.0.113.12]"),
        ),
        ("an address twice", egress("[203.0.113.11, 203.0.113.11]"),),
    ]));
}

#[test]
fn workloads() {
    insta::assert_snapshot!(told(&[
        (
            "workloads as a mapping",
            bypass("workloads: {containers: {names: [a]}}"),
        ),
        ("workload without containers", bypass("workloads:\n- {}")),
        ("selector without a condition", containers("{}")),
        (
            "empty conditions",
            containers("{labels: {}, names: [], networks: []}"),
        ),
        ("label value is a number", containers("{labels: {tier: 1}}")),
        (
            "label value is a boolean",
            containers("{labels: {canary: yes}}"),
        ),
        ("label without a value", containers("{labels: {canary: }}")),
        (
            "label that is a boolean",
            containers("{labels: {yes: a, 1: b}}"),
        ),
        (
            "no addresses",
            spec("action: Egress\negress: {addresses: }"),
        ),
        ("priority in octal", bypass("priority: 010")),
        ("label without a name", containers("{labels: {\"\": a}}")),
        ("labels as a list", containers("{labels: [a=b]}")),
        (
            "bad globs",
            containers("{names: [\"web-[0-9]\", /web, \"\", \"a b\", \"{a,b}\"]}"),
        ),
        ("a name twice", containers("{names: [web, db, web]}")),
        (
            "networks with globs",
            containers("{networks: [\"shop_*\", \"\", \"a/b\"]}"),
        ),
    ]));
}

#[test]
fn cidrs() {
    insta::assert_snapshot!(told(&[
        (
            "CIDR with host bits",
            destination("cidrs: [203.0.113.7/24, \"2001:db8::1/32\"]"),
        ),
        (
            "CIDR without prefix",
            destination("cidrs: [203.0.113.7, \"2001:db8::1\"]"),
        ),
        (
            "CIDRs that are none",
            destination("cidrs: [example.com, 10.0.0.0/33, 10.0.0.0/, \"::/129\", 10.0.0/8]"),
        ),
        (
            "CIDR in IPv6 form",
            destination("cidrs: [\"::ffff:10.0.0.0/104\"]"),
        ),
        (
            "a CIDR twice",
            destination("cidrs: [10.0.0.0/8, 10.0.0.0/8]"),
        ),
        (
            "except outside",
            destination(
                "cidrs: [10.0.0.0/8, 192.0.2.0/24]\nexcept: [10.1.0.0/16, 203.0.113.0/24, \"2001:db8::/32\"]",
            ),
        ),
        (
            "except leaves nothing",
            destination("cidrs: [10.0.0.0/8]\nexcept: [10.0.0.0/8]"),
        ),
        ("except without cidrs", destination("except: [10.0.0.0/8]")),
        ("destination with a name only", destination("name: bank")),
        (
            "destination without anything",
            bypass("destinations:\n- {}"),
        ),
        (
            "destination named by nothing",
            destination("name: \"\"\ncidrs: [10.0.0.0/8]"),
        ),
        ("no destinations", bypass("destinations: []")),
        (
            "destinations without a value",
            bypass("destinations:\npriority: 1"),
        ),
    ]));
}

#[test]
fn ports() {
    insta::assert_snapshot!(told(&[
        ("port 0", destination("ports: [{protocol: TCP, port: 0}]")),
        (
            "port above",
            destination("ports: [{protocol: TCP, port: 65536}]"),
        ),
        (
            "port quoted",
            destination("ports: [{protocol: TCP, port: \"443\"}]"),
        ),
        (
            "port by name",
            destination("ports: [{protocol: TCP, port: https}]"),
        ),
        (
            "ports upside down",
            destination("ports: [{protocol: TCP, port: 444, endPort: 443}]"),
        ),
        (
            "a port twice",
            destination("ports: [{protocol: TCP, port: 1}, {protocol: TCP, port: 1}]"),
        ),
        ("port alone", destination("ports: [443]")),
        ("port without protocol", destination("ports: [{port: 443}]")),
        (
            "protocol without port",
            destination("ports: [{protocol: TCP}]"),
        ),
        (
            "protocols",
            destination(
                "ports: [{protocol: SCTP, port: 1}, {protocol: ICMP, port: 1}, {protocol: tcp, port: 1}, {protocol: 6, port: 1}]",
            ),
        ),
    ]));
}

#[test]
fn yaml() {
    insta::assert_snapshot!(told(&[
        ("glob without quotes", containers("{names: [*-web]}")),
        ("star without quotes", containers("\n    names:\n    - *")),
        (
            "tab",
            "apiVersion: sortie.dev/v1alpha1\nspec:\n\taction: Deny\n".into(),
        ),
        ("key twice", bypass("action: Deny")),
        ("key that is a list", bypass("[a]: b")),
        ("bracket not closed", destination("cidrs: [10.0.0.0/8")),
        ("quotes not closed", bypass("onUnavailable: \"Drop")),
        ("colon in a value", bypass("onUnavailable: a: b")),
        ("no space behind the colon", spec("action:Deny")),
        (
            "indentation",
            "apiVersion: sortie.dev/v1alpha1\nmetadata:\n    name: p\n  kind: EgressPolicy\n"
                .into(),
        ),
        ("reserved character", bypass("onUnavailable: @drop")),
        ("tag", spec("action: !!str Deny")),
        ("merge key", bypass("<<: {priority: 1}")),
        ("directive", format!("%YAML 1.2\n---\n{}", bypass(""))),
        ("alias to nothing", bypass("priority: *p")),
        ("alias inside its anchor", containers("&a {names: *a}")),
        (
            "nested deeply",
            bypass(&format!("priority: {}", "[".repeat(40))),
        ),
    ]));
}

#[test]
fn mixtures() {
    insta::assert_snapshot!(told(&[
        (
            "several mistakes",
            spec(
                "priority: 2000\naction: Egres\negress: {addresses: [203.0.113.300]}\nworkload: []\ndestinations:\n- cidrs: [10.0.0.1/8]\n  ports: [{protocol: TCP, port: 0}]",
            ),
        ),
        (
            "mistakes in two documents",
            format!("{}---\n{}", spec("action: Allow"), spec("action: Forbid")),
        ),
        (
            "characters that take room",
            "kind: EgressPolicy\nmetadata: {name: \"größe\", wörld: 1}\n".into(),
        ),
        ("control characters", bypass("\"\\u001b[31mred\\u202e\": 1")),
    ]));
}
