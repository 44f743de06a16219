mod refused;

use std::fmt::Write;

use proptest::prelude::*;

use crate::policy::parse;
use crate::policy::{
    Action, Destination, Egress, EgressPolicy, Enforcement, Mode, OnChange, OnUnavailable, Owner,
    PolicyName, PortRange, Protocol, Selector, Unlearned,
};

/// Every field that is about addresses.
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
  egress: {addresses: [192.168.20.10, 2001:db8::10], mode: Translate}
  onUnavailable: NodeAddress
  onChange: {connections: Drain, drainSeconds: 45}
  enforcement: Audit
"#;

/// A file around a `spec`, whose lines begin in line 5 and column 3.
fn spec(lines: &str) -> String {
    let mut file = String::from(
        "apiVersion: sortie.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: p}\nspec:\n",
    );
    for line in lines.lines() {
        writeln!(file, "  {line}").unwrap();
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

fn egress(list: &str) -> String {
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
                clients: None,
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
            ..Destination::default()
        }],
        action: Action::Egress(Egress {
            v4: Some("192.168.20.10".parse().unwrap()),
            v6: Some("2001:db8::10".parse().unwrap()),
            mode: Mode::Translate,
        }),
        on_unavailable: OnUnavailable::NodeAddress,
        on_change: OnChange::Drain { seconds: 45 },
        enforcement: Enforcement::Audit,
        unlearned: Unlearned::Sniff,
        only_these_hosts: false,
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
    assert_eq!((problem.span.offset, problem.span.len), (87, 5));
}

#[test]
fn bounds_what_a_file_can_cost() {
    // Each level stands for ten of the one before.
    let mut laughs = String::from("a0: &a0 [x]\n");
    for level in 1..10 {
        let list = vec![format!("*a{}", level - 1); 10].join(", ");
        writeln!(laughs, "a{level}: &a{level} [{list}]").unwrap();
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
