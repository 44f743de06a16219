use proptest::prelude::*;

use super::parse;
use crate::policy::{
    Action, Destination, Egress, EgressPolicy, OnUnavailable, Owner, PolicyName, PortRange,
    Protocol, Selector,
};

/// Every field of this version.
const FULL: &str = r#"# What the bank sees.
apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: payments-to-bank}
spec:
  priority: 100
  workloads:
  - containers:
      labels: {com.docker.compose.service: payments, tier: "1"}
      names: ["payments-*", blue?]
      networks: [shop_default]
  - containers: {names: ["*"]}
  destinations:
  - name: bank
    cidrs: [203.0.113.0/24, "2001:db8:1::/48"]
    except: [203.0.113.64/26]
    ports:
    - {protocol: TCP, port: 443, endPort: 444}
    - {protocol: UDP, port: 53}
  action: Egress
  egress: {addresses: [192.168.20.10, 2001:db8::10]}
  onUnavailable: NodeAddress
"#;

/// A file around a `spec`, whose lines begin in line 5 and column 3.
fn spec(lines: &str) -> String {
    let mut file = String::from(
        "apiVersion: sortie.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: p}\nspec:\n",
    );
    for line in lines.lines() {
        file += &format!("  {line}\n");
    }
    file
}

/// `spec` with a complete action in front.
fn bypass(lines: &str) -> String {
    spec(&format!("action: Bypass\n{lines}"))
}

fn destination(lines: &str) -> String {
    bypass(&format!("destinations:\n- {}", lines.replace('\n', "\n  ")))
}

fn containers(fields: &str) -> String {
    bypass(&format!("workloads:\n- containers: {fields}"))
}

fn addresses(list: &str) -> String {
    spec(&format!("action: Egress\negress: {{addresses: {list}}}"))
}

#[test]
fn reads_every_field() {
    let policies = parse("bank.yaml", FULL).unwrap();
    let text = |s: &str| s.to_owned();
    let expected = EgressPolicy {
        name: PolicyName(text("payments-to-bank")),
        owner: Owner::Policy,
        priority: 100,
        workloads: vec![
            Selector {
                labels: [
                    (text("com.docker.compose.service"), text("payments")),
                    (text("tier"), text("1")),
                ]
                .into(),
                names: vec![text("payments-*"), text("blue?")],
                networks: vec![text("shop_default")],
            },
            Selector {
                names: vec![text("*")],
                ..Selector::default()
            },
        ],
        destinations: vec![Destination {
            name: Some(text("bank")),
            cidrs: vec![
                "203.0.113.0/24".parse().unwrap(),
                "2001:db8:1::/48".parse().unwrap(),
            ],
            except: vec!["203.0.113.64/26".parse().unwrap()],
            ports: vec![
                PortRange {
                    protocol: Protocol::Tcp,
                    first: 443,
                    last: 444,
                },
                PortRange {
                    protocol: Protocol::Udp,
                    first: 53,
                    last: 53,
                },
            ],
        }],
        action: Action::Egress(Egress {
            v4: Some("192.168.20.10".parse().unwrap()),
            v6: Some("2001:db8::10".parse().unwrap()),
        }),
        on_unavailable: OnUnavailable::NodeAddress,
    };
    assert_eq!(policies, [expected]);
}

#[test]
fn reads_what_yaml_allows() {
    let two = format!("---\n{}...\n---\n# nothing\n---\n{}", bypass(""), FULL);
    let names: Vec<_> = parse("f", &two)
        .unwrap()
        .into_iter()
        .map(|p| p.name.0)
        .collect();
    assert_eq!(names, ["p", "payments-to-bank"]);
    let crlf = FULL.replace('\n', "\r\n");
    assert_eq!(parse("f", &crlf), parse("f", FULL));
    let mark = format!("\u{feff}{FULL}");
    assert_eq!(parse("f", &mark), parse("f", FULL));
    let json = r#"{"apiVersion":"sortie.dev/v1alpha1","kind":"EgressPolicy","metadata":{"name":"p"},"spec":{"action":"Bypass"}}"#;
    assert_eq!(parse("f", json), parse("f", &bypass("")));
    let alias = bypass(
        "workloads:\n- containers: {names: &n [a, b]}\n- containers: {names: *n, networks: [x]}",
    );
    assert_eq!(
        parse("f", &alias).unwrap()[0].workloads[1].names,
        ["a", "b"]
    );
    assert_eq!(
        parse("f", &bypass("workloads: []")),
        parse("f", &bypass(""))
    );
}

/// Each file, and all that is said about it.
#[test]
fn refuses_bad_files_with_place_and_remedy() {
    let again = format!("{}---\n{}", bypass(""), bypass(""));
    let cases: Vec<(&str, String)> = vec![
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
        (
            "unknown field, near",
            spec("action: Egress\negress: {adresses: [203.0.113.11]}"),
        ),
        ("unknown field, far", bypass("colour: red")),
        ("field in capitals", bypass("Priority: 1")),
        (
            "later fields",
            bypass("onChange: {connections: Drain}\nenforcement: Audit\nonlyTheseHosts: true"),
        ),
        (
            "later egress fields",
            spec("action: Egress\negress: {pool: {name: public}, mode: Direct}"),
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
        ("Egress with no address", addresses("[]")),
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
        ("address is no list", addresses("203.0.113.11")),
        (
            "addresses that are none",
            addresses("[203.0.113.256, web, 203.0.113.11/32, \"[2001:db8::1]\", 203.0]"),
        ),
        (
            "addresses that cannot leave",
            addresses("[127.0.0.1, 0.0.0.0, 0.1.2.3, 169.254.1.1, 224.0.0.1, 255.255.255.255]"),
        ),
        (
            "IPv6 addresses that cannot leave",
            addresses("[\"::\", \"::1\", fe80::1, ff02::1, \"::ffff:203.0.113.11\"]"),
        ),
        (
            "two IPv4 addresses",
            addresses("[203.0.113.11, 2001:db8::11, 203.0.113.12]"),
        ),
        (
            "an address twice",
            addresses("[203.0.113.11, 203.0.113.11]"),
        ),
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
        ("glob without quotes", containers("{names: [*-web]}")),
        ("star without quotes", containers("\n    names:\n    - *")),
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
    ];
    let mut told = String::new();
    for (title, file) in &cases {
        let errors = parse("p.yaml", file).expect_err(title);
        told += &format!("### {title}\n{errors}\n");
    }
    insta::assert_snapshot!("refused", told);
}

#[test]
fn tells_programs_the_same() {
    let errors = parse("p.yaml", &spec("action: Bypas")).unwrap_err();
    let json = serde_json::to_value(&errors).unwrap();
    assert_eq!(
        json,
        serde_json::json!([{
            "file": "p.yaml", "line": 5, "column": 11,
            "message": "`action` cannot be `Bypas`", "help": "did you mean `Bypass`?"
        }])
    );
    let [problem] = errors.problems() else {
        panic!("{errors}")
    };
    assert_eq!((problem.span.offset, problem.span.len), (85, 5));
}

#[test]
fn bounds_what_a_file_can_cost() {
    // Each level stands for ten of the one before.
    let mut laughs = String::from("a0: &a0 [x]\n");
    for level in 1..10 {
        let list = vec![format!("*a{}", level - 1); 10].join(", ");
        laughs += &format!("a{level}: &a{level} [{list}]\n");
    }
    let errors = parse("f", &laughs).unwrap_err();
    assert!(
        errors
            .to_string()
            .contains("stand for more than 10000 values"),
        "{errors}"
    );

    let errors = parse("f", &"#".repeat((4 << 20) + 1)).unwrap_err();
    assert!(
        errors
            .to_string()
            .contains("4194305 bytes; at most 4194304"),
        "{errors}"
    );

    let many = "1, ".repeat(100_000);
    let errors = parse("f", &containers(&format!("{{names: [{many}]}}"))).unwrap_err();
    assert_eq!(errors.problems().len(), 50);
    assert!(errors.to_string().len() < 20_000);
    assert!(
        errors
            .to_string()
            .contains("(and 99950 problems more: mend these first)"),
        "{errors}"
    );
}

/// YAML's own characters, words of the language, and anything.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "\n",
        " ",
        "  ",
        "\t",
        ":",
        ": ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "\"",
        "'",
        "#",
        "&a ",
        "*a",
        "!t ",
        "|\n",
        ">\n",
        "---\n",
        "...\n",
        "%",
        "<<: ",
        "? ",
        "~",
        "null",
        "0",
        "-1",
        "1e9",
        "spec",
        "action",
        "Egress",
        "10.0.0.1/8",
        "\r",
        "\u{feff}",
        "ü",
    ];
    prop_oneof![
        4 => prop::sample::select(words.to_vec()).prop_map(str::to_owned),
        1 => ".{0,3}",
    ]
}

/// Says where in the file each problem is, truly.
fn check(text: &str) {
    let Err(errors) = parse("f", text) else {
        return;
    };
    assert!(!errors.problems().is_empty());
    for problem in errors.problems() {
        assert!(problem.span.offset <= text.len());
        assert!(problem.line >= 1 && problem.column >= 1);
        assert!(!problem.help.is_empty() && !problem.message.is_empty());
        // Nothing that a terminal would obey.
        assert!(
            problem
                .to_string()
                .chars()
                .all(|c| c == '\n' || !c.is_control())
        );
    }
}

proptest! {
    #[test]
    fn never_panics_on_anything(text in "(?s).{0,200}") {
        check(&text);
    }

    #[test]
    fn never_panics_on_pieces_of_yaml(pieces in prop::collection::vec(piece(), 0..40)) {
        check(&pieces.concat());
    }

    #[test]
    fn never_panics_on_mutations(edits in prop::collection::vec((0..FULL.len(), 0_usize..12, piece()), 1..6)) {
        let mut text = FULL.to_owned();
        for (at, cut, new) in edits {
            let at = text.floor_char_boundary(at);
            let end = text.floor_char_boundary(at + cut);
            text.replace_range(at..end, &new);
        }
        check(&text);
    }
}
