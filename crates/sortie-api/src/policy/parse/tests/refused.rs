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
        ("later fields", bypass("tier: Override"),),
        (
            "later egress fields",
            spec("action: Egress\negress: {pool: {name: public}, distribution: Single}"),
        ),
        (
            "later workloads",
            bypass("workloads:\n- pods: {}\n- processes: {}"),
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
fn clients() {
    let clients = |fields: &str| bypass(&format!("workloads:\n- clients: {fields}"));
    insta::assert_snapshot!(told(&[
        ("clients of whom nothing is said", clients("{}")),
        ("no tokens", clients("{tokens: []}")),
        (
            "a token and not its name",
            clients("{tokens: [\"s3cr3t/+==\"]}")
        ),
        ("a token twice", clients("{tokens: [ci, ci]}")),
        (
            "no subject",
            clients("{certificates: [runner, CN=, \"=a\"]}")
        ),
        (
            "clients beside containers",
            clients("{tokens: [ci]}\n  containers: {names: [a]}")
        ),
        ("an unknown field", clients("{token: [ci]}")),
    ]));
}

#[test]
fn hosts() {
    let hosts = |list: &str| destination(&format!("hosts: {list}"));
    insta::assert_snapshot!(told(&[
        ("no list", hosts("api.example.com")),
        ("no hosts", hosts("[]")),
        (
            "addresses",
            hosts("[203.0.113.7, \"2001:db8::1\", \"[2001:db8::1]\", 203.0.113.0/24]"),
        ),
        (
            "what is more than a name",
            hosts("[\"https://api.example.com/v1\", \"api.example.com:8443\", api.example.com/v1]"),
        ),
        (
            "stars",
            hosts(
                "[\"api.*.example.com\", \"*api.example.com\", \"*.\", \"*.*.example.com\", .example.com]"
            ),
        ),
        (
            "what no name is",
            hosts(
                "[bücher.example, \"\", a..b, -a.example, a-.example, \"a b\", 203.0.113.256, 0x7f.0x1]"
            ),
        ),
        (
            "too long",
            hosts(&format!(
                "[{}.example, {}example]",
                "a".repeat(64),
                "a.".repeat(124)
            )),
        ),
        ("a host twice", hosts("[API.example.com, api.example.com.]")),
        (
            "hosts beside cidrs",
            destination("hosts: [api.example.com]\ncidrs: [203.0.113.0/24]"),
        ),
        (
            "hosts with except",
            destination("hosts: [api.example.com]\nexcept: [203.0.113.0/24]"),
        ),
        (
            "about names, without any",
            bypass(
                "unlearned: Deny\nonlyTheseHosts: true\ndestinations:\n- cidrs: [203.0.113.0/24]"
            ),
        ),
        (
            "words for both",
            bypass("unlearned: Drop\nonlyTheseHosts: yes\ndestinations:\n- hosts: [a.example]"),
        ),
        (
            "Direct with hosts",
            spec(
                "destinations:\n- hosts: [a.example]\naction: Egress\negress: {addresses: [203.0.113.11], mode: Direct}",
            ),
        ),
    ]));
}

#[test]
fn http() {
    let http = |fields: &str| destination(&format!("hosts: [a.example]\nhttp: {fields}"));
    let of = |entry: &str| http(&format!("{{match: [{entry}]}}"));
    let tls = |fields: &str| http(&format!("{{tls: {fields}}}"));
    insta::assert_snapshot!(told(&[
        (
            "without hosts",
            destination("http: {match: [{pathPrefix: /}]}")
        ),
        ("nothing said", http("{}")),
        ("only whenEncrypted", http("{whenEncrypted: Refuse}")),
        ("no match", http("{match: []}")),
        ("an empty entry", of("{}")),
        ("two paths", of("{path: /a, pathPrefix: /b}")),
        (
            "paths",
            of(
                "{path: api}, {path: \"\"}, {path: https://a.example/b}, {path: /a?b=c}, {pathPrefix: /a*}, {path: /a;b}, {path: \"/ä\"}"
            ),
        ),
        (
            "paths that are not normalised",
            of(
                "{path: /a/../b}, {path: /./b}, {path: //b}, {path: /%61}, {path: /%2F}, {path: /%zz}, {path: \"/a%\"}, {path: /%+1}"
            ),
        ),
        (
            "expressions",
            of(
                "{pathRegex: \"\"}, {pathRegex: \"/(\"}, {pathRegex: \"/[[a]]\"}, {pathRegex: \"/[a&&b]\"}, {pathRegex: '/\\<a'}, {pathRegex: '/\\pL'}, {pathRegex: '(?x)/a'}"
            ),
        ),
        (
            "further expressions",
            of(
                "{pathRegex: \"/a{,3}\"}, {pathRegex: \"/a**\"}, {pathRegex: \"/a{1001}\"}, {pathRegex: '/\\u002F'}, {pathRegex: \"/ä\"}, {pathRegex: \"/((a{1000}){1000}){1000}\"}"
            ),
        ),
        (
            "methods",
            of("{methods: [get, CONNECT, \"G T\", \"\", GET, GET]}")
        ),
        (
            "headers",
            of(
                "{headers: {Host: a, \"x y\": a, \"\": b, x-a: \" b\", x-b: \"ä\", x-c: 1, X-D: a, x-d: b}}"
            ),
        ),
        ("tls that is neither", tls("{port: 443}")),
        ("tls that is no", tls("{originate: false}")),
        ("tls that is both", tls("{originate: true, inspect: true}")),
        ("words for a boolean", tls("{originate: yes}")),
        (
            "fields of tls",
            tls("{originate: true, port: 0, ca: partner.pem, clientCertificate: /etc/partner}"),
        ),
        (
            "inspect with what it cannot have",
            tls("{inspect: true, port: 443, ca: /a.pem}")
        ),
        (
            "inspect with whenEncrypted",
            http("{tls: {inspect: true}, whenEncrypted: UseHostPolicy}"),
        ),
        (
            "over UDP",
            destination(
                "hosts: [a.example]\nports: [{protocol: UDP, port: 443}]\nhttp: {match: [{path: /}]}",
            ),
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
