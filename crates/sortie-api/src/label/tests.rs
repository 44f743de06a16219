use std::fmt::Write;

use proptest::prelude::*;

use super::{from_container_labels, from_network_labels};
use crate::policy::{Action, Egress, Mode, OnUnavailable, Owner};

fn labels<L: FromIterator<(String, String)>>(pairs: &[(&str, &str)]) -> L {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn egress(v4: Option<&str>, v6: Option<&str>) -> Action {
    Action::Egress(Egress {
        v4: v4.map(|a| a.parse().unwrap()),
        v6: v6.map(|a| a.parse().unwrap()),
        mode: Mode::Auto,
    })
}

#[test]
fn a_containers_labels_make_its_policy() {
    let policy = |pairs: &[(&str, &str)]| from_container_labels("web", &labels(pairs)).unwrap();
    assert_eq!(policy(&[]), None);
    assert_eq!(
        policy(&[
            ("com.docker.compose.service", "web"),
            ("sorties", "1"),
            ("my.sortie.egress", "x")
        ]),
        None
    );

    let one = policy(&[("sortie.egress", "203.0.113.11")]).unwrap();
    assert_eq!(one.name.0, "label:web");
    assert_eq!(one.owner, Owner::Workload);
    assert_eq!(one.action, egress(Some("203.0.113.11"), None));
    assert_eq!(one.on_unavailable, OnUnavailable::Drop);
    // It belongs to this container, not to whatever has its name.
    assert!(one.workloads.is_empty() && one.destinations.is_empty() && one.priority == 0);

    let both = policy(&[
        ("sortie.egress", " 2001:db8::11, 203.0.113.11 "),
        ("sortie.egress.on-unavailable", "node-address"),
        ("sortie.egress.mode", "translate"),
    ]);
    let both = both.unwrap();
    let Action::Egress(given) = both.action else {
        panic!("{:?}", both.action);
    };
    assert_eq!(given.mode, Mode::Translate);
    let mode = Mode::Auto;
    assert_eq!(
        Action::Egress(Egress { mode, ..given }),
        egress(Some("203.0.113.11"), Some("2001:db8::11"))
    );
    assert_eq!(both.on_unavailable, OnUnavailable::NodeAddress);

    assert_eq!(
        policy(&[("sortie.egress", "bypass")]).unwrap().action,
        Action::Bypass
    );
}

#[test]
fn a_networks_labels_make_its_guard_and_policy() {
    let read =
        |pairs: &[(&str, &str)]| from_network_labels("shop_default", &labels(pairs)).unwrap();
    assert_eq!(read(&[]), super::NetworkLabels::default());
    assert_eq!(read(&[("sortie.guard", "true")]).guard, Some(true));
    assert_eq!(read(&[("sortie.guard", "false")]).guard, Some(false));
    let policy = read(&[("sortie.egress", "203.0.113.11")]).policy.unwrap();
    assert_eq!(
        (policy.name.0.as_str(), policy.owner),
        ("network-label:shop_default", Owner::Network)
    );
    // Another network may have this name in its compose file.
    assert!(policy.workloads.is_empty());
}

#[test]
fn says_what_is_wrong_with_a_label() {
    let container: &[&[(&str, &str)]] = &[
        &[("sortie.egress", "")],
        &[("sortie.egress", "203.0.113.256")],
        &[("sortie.egress", "203.0.113.11,")],
        &[("sortie.egress", "203.0.113.11;203.0.113.12")],
        &[("sortie.egress", "203.0.113.11,203.0.113.12")],
        &[("sortie.egress", "127.0.0.1,fe80::1")],
        &[("sortie.egress", "203.0.113.11/32")],
        &[("sortie.egress", "Bypass")],
        &[("sortie.egress", "pool/public")],
        &[("sortie.egress", "published-address")],
        &[("sortie.egres", "203.0.113.11")],
        &[("Sortie.Egress", "203.0.113.11")],
        &[("sortie.dev/egress", "203.0.113.11")],
        &[("sortie.address", "203.0.113.11")],
        &[("sortie.guard", "true")],
        &[
            ("sortie.egress.mode", "auto"),
            ("sortie.egress.on-unavailable", "drop"),
        ],
        &[
            ("sortie.egress", "bypass"),
            ("sortie.egress.on-unavailable", "drop"),
        ],
        &[
            ("sortie.egress", "203.0.113.11"),
            ("sortie.egress.mode", "direct"),
            ("sortie.egress.on-unavailable", "node-address"),
        ],
        &[
            ("sortie.egress", "203.0.113.11"),
            ("sortie.egress.on-unavailable", "NodeAddress"),
        ],
        &[
            ("sortie.egress", "203.0.113.300"),
            ("sortie.egress.mode", "fast"),
            ("sortie.x", ""),
        ],
    ];
    let network: &[&[(&str, &str)]] = &[
        &[("sortie.guard", "yes")],
        &[("sortie.guard", "True")],
        &[("sortie.gaurd", "true")],
        &[("sortie.egress", "web")],
        &[
            ("sortie.egress", "203.0.113.11"),
            ("sortie.egress.mode", "direct"),
        ],
    ];
    let mut told = String::new();
    for pairs in container {
        let errors = from_container_labels("web", &labels(pairs)).unwrap_err();
        writeln!(told, "{errors}\n").unwrap();
    }
    for pairs in network {
        let errors = from_network_labels("shop", &labels(pairs)).unwrap_err();
        writeln!(told, "{errors}\n").unwrap();
    }
    insta::assert_snapshot!("refused", told);
}

#[test]
fn tells_programs_the_same() {
    let errors = from_container_labels("web", &labels(&[("sortie.egress", "x")])).unwrap_err();
    assert_eq!(
        serde_json::to_value(&errors).unwrap(),
        serde_json::json!([{
            "on": "container", "name": "web", "label": "sortie.egress", "value": "x",
            "message": "`x` is no IP address",
            "help": "write an IPv4 or IPv6 address, such as `203.0.113.11` or `2001:db8::11`"
        }])
    );
}

proptest! {
    /// Whatever a label of ours says, it is a policy or an error; never nothing.
    #[test]
    fn a_label_of_ours_is_never_overlooked(
        key in prop_oneof![Just("sortie.egress".to_owned()), "sortie\\.[a-z.-]{0,12}"],
        value in prop_oneof![".{0,20}", Just("bypass".to_owned()), Just("203.0.113.11".to_owned())],
    ) {
        let labels = labels(&[(&key, &value)]);
        match from_container_labels("web", &labels) {
            Ok(policy) => prop_assert!(policy.is_some()),
            Err(errors) => prop_assert_eq!(&errors.errors()[0].label, &key),
        }
    }
}
