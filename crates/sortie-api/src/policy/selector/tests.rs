use std::collections::BTreeMap;

use proptest::prelude::*;

use super::glob;
use crate::policy::Selector;
use crate::workload::{
    Endpoint, Families, IfIndex, MacAddress, Network, Workload, WorkloadId, WorkloadKind,
};

fn workload(name: &str, labels: &[(&str, &str)], networks: &[&str]) -> Workload {
    Workload {
        id: WorkloadId::from(format!("docker/{name}")),
        name: name.to_owned(),
        kind: WorkloadKind::Docker,
        labels: pairs(labels).into(),
        pid: 1,
        started: 0,
        endpoints: networks.iter().map(|n| endpoint(n)).collect(),
        published_udp: [].into(),
        cgroup: None,
        unmanageable: None,
    }
}

fn endpoint(network: &str) -> Endpoint {
    Endpoint {
        network: network.to_owned(),
        port: IfIndex(1),
        bridge: None,
        mac: MacAddress([2, 0, 0, 0, 0, 1]),
        addresses: Vec::new(),
        default_route: Families::default(),
    }
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

/// The compose network `default` of the project `shop`, and a plain one.
fn networks() -> BTreeMap<String, Network> {
    let network = |name: &str, labels| Network {
        name: name.to_owned(),
        labels,
        bridge: None,
        bridge_name: None,
        subnets: Vec::new(),
    };
    let compose = pairs(&[
        ("com.docker.compose.network", "default"),
        ("com.docker.compose.project", "shop"),
    ]);
    [
        network("shop_default", compose),
        network("plain", BTreeMap::new()),
    ]
    .map(|n| (n.name.clone(), n))
    .into()
}

fn selector(labels: &[(&str, &str)], names: &[&str], networks: &[&str]) -> Selector {
    let text = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
    Selector {
        labels: pairs(labels),
        names: text(names),
        networks: text(networks),
        clients: None,
    }
}

#[test]
fn every_field_must_match() {
    let labels = [("com.docker.compose.service", "web"), ("tier", "1")];
    let web = workload("shop-web-1", &labels, &["shop_default"]);
    let yes = |s: &Selector| s.matches(&web, &networks());
    assert!(yes(&selector(
        &labels,
        &["db", "shop-*"],
        &["plain", "shop_default"]
    )));
    assert!(yes(&selector(&labels[..1], &[], &[])));
    assert!(!yes(&selector(&[("tier", "2")], &["shop-*"], &[])));
    assert!(!yes(&selector(
        &[("tier", "1"), ("colour", "red")],
        &[],
        &[]
    )));
    assert!(!yes(&selector(&labels, &["web"], &[])));
    assert!(!yes(&selector(&labels, &["*"], &["plain"])));
}

#[test]
fn networks_match_by_full_and_by_compose_name() {
    let web = workload("web", &[], &["shop_default"]);
    let short = selector(&[], &[], &["default"]);
    assert!(short.matches(&web, &networks()));
    assert!(!short.matches(&web, &BTreeMap::new()));
    assert!(selector(&[], &[], &["shop_default"]).matches(&web, &BTreeMap::new()));
    assert!(!selector(&[], &[], &["shop_*"]).matches(&web, &networks()));
    assert!(!short.matches(&workload("web", &[], &["plain"]), &networks()));
    assert!(!short.matches(&workload("web", &[], &[]), &networks()));
    assert!(short.matches(
        &workload("web", &[], &["plain", "shop_default"]),
        &networks()
    ));
}

#[test]
fn a_process_is_no_container() {
    let all = selector(&[], &["*"], &[]);
    let mut it = workload("curl", &[], &[]);
    assert!(all.matches(&it, &networks()));
    it.kind = WorkloadKind::Process;
    assert!(!all.matches(&it, &networks()));
}

#[test]
fn globs() {
    for (pattern, text) in [
        ("*", ""),
        ("*", "a"),
        ("a*c", "abbc"),
        ("a*b*c", "aXbYbZc"),
        ("?", "ü"),
        ("**", ""),
        ("*a*", "bab"),
        ("a?c", "abc"),
    ] {
        assert!(glob(pattern, text), "{pattern} {text}");
    }
    for (pattern, text) in [
        ("", "a"),
        ("a", ""),
        ("?", ""),
        ("a*", "ba"),
        ("*a", "ab"),
        ("a*b", "acbc"),
        ("a?", "a"),
        ("A", "a"),
        ("a", "a\n"),
    ] {
        assert!(!glob(pattern, text), "{pattern} {text}");
    }
}

#[test]
fn a_glob_cannot_be_made_slow() {
    let pattern = "a*".repeat(100) + "b";
    assert!(!glob(&pattern, &"a".repeat(5000)));
}

/// What a glob means, without a thought for its cost.
fn slow_glob(pattern: &[char], text: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['*', rest @ ..] => (0..=text.len()).any(|n| slow_glob(rest, &text[n..])),
        ['?', rest @ ..] => !text.is_empty() && slow_glob(rest, &text[1..]),
        [c, rest @ ..] => text.first() == Some(c) && slow_glob(rest, &text[1..]),
    }
}

proptest! {
    #[test]
    fn a_glob_means_what_it_says(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
        let chars = |s: &str| s.chars().collect::<Vec<char>>();
        prop_assert_eq!(glob(&pattern, &text), slow_glob(&chars(&pattern), &chars(&text)));
    }

    /// One more condition never selects more; one more alternative never less.
    #[test]
    fn conditions_narrow_and_alternatives_widen(
        names in prop::collection::vec("[ab*]{1,3}", 1..4),
        nets in prop::collection::vec(prop::sample::select(vec!["plain", "default", "shop_default", "x"]), 1..4),
        label in prop::option::of(prop::sample::select(vec!["1", "2"])),
        name in "[ab]{1,3}",
        on in prop::sample::subsequence(vec!["plain", "shop_default"], 0..=2),
    ) {
        let it = workload(&name, &[("tier", "1")], &on);
        let networks = networks();
        let labels = label.map(|value| [("tier", value)]);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let labels = labels.as_ref().map_or(&[][..], |l| &l[..]);
        let all = selector(labels, &names, &nets).matches(&it, &networks);
        for part in [selector(labels, &[], &[]), selector(&[], &names, &[]), selector(&[], &[], &nets)] {
            prop_assert!(!all || part.matches(&it, &networks));
        }
        let fewer = selector(labels, &names[1..], &nets);
        prop_assert!(names.len() == 1 || !fewer.matches(&it, &networks) || all);
    }
}
