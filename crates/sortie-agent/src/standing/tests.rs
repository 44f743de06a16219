//! What is kept, and what follows from it while nobody can be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use sortie_api::config::{AgentConfig, Guard};
use sortie_api::workload::Engine;
use sortie_plan::planner::Meanwhile;
use sortie_workloads::docker::begun::Begun;

use super::{keep, meanwhile};

fn web(network: &str) -> Begun {
    Begun {
        engine: Engine::Docker,
        id: "0123".to_owned(),
        name: "web".to_owned(),
        labels: BTreeMap::new(),
        networks: BTreeSet::from([network.to_owned()]),
        published_udp: BTreeSet::new(),
        shares: false,
    }
}

#[test]
fn an_empty_folder_concerns_nobody_but_the_labelled() {
    let state = tempfile::tempdir().unwrap();
    let mut web = web("shop");
    assert_eq!(meanwhile(state.path(), &web), Meanwhile::Unconcerned);
    web.labels
        .insert("sortie.egress".to_owned(), "203.0.113.11".to_owned());
    let found = meanwhile(state.path(), &web);
    assert!(matches!(found, Meanwhile::Drop(_)), "{found:?}");
}

#[test]
fn noted_networks_guard_by_their_labels() {
    let state = tempfile::tempdir().unwrap();
    let noted = r#"{
        "shop": {"labels": {"sortie.guard": "true"}, "bridge": "br-1", "subnets": []},
        "back": {"labels": {}, "bridge": "br-2", "subnets": []}
    }"#;
    fs::write(state.path().join("networks.json"), noted).unwrap();
    let guarded = Meanwhile::Drop("network shop is guarded".to_owned());
    assert_eq!(meanwhile(state.path(), &web("shop")), guarded);
    let back = meanwhile(state.path(), &web("back"));
    assert_eq!(back, Meanwhile::Unconcerned);
}

#[test]
fn the_configuration_guards_networks_that_nobody_has_seen() {
    let state = tempfile::tempdir().unwrap();
    let all = AgentConfig {
        guard: Guard::All,
        ..AgentConfig::default()
    };
    keep(state.path(), &all).unwrap();
    let found = meanwhile(state.path(), &web("new"));
    assert!(matches!(found, Meanwhile::Drop(_)), "{found:?}");
    // It has no bridge that could be guarded.
    let host = meanwhile(state.path(), &web("host"));
    assert_eq!(host, Meanwhile::Unconcerned);
    let named = AgentConfig {
        guarded_networks: BTreeSet::from(["new".to_owned()]),
        ..AgentConfig::default()
    };
    keep(state.path(), &named).unwrap();
    let found = meanwhile(state.path(), &web("new"));
    assert!(matches!(found, Meanwhile::Drop(_)), "{found:?}");
    let other = meanwhile(state.path(), &web("other"));
    assert_eq!(other, Meanwhile::Unconcerned);
}

#[test]
fn the_last_good_policies_select() {
    let state = tempfile::tempdir().unwrap();
    let policy = "apiVersion: sortie.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: p}\nspec:\n  workloads:\n  - containers: {names: [web]}\n  action: Egress\n  egress: {addresses: [203.0.113.11]}\n  onUnavailable: NodeAddress\n";
    let texts = BTreeMap::from([("p.yaml", policy)]);
    let texts = serde_json::to_string(&texts).unwrap();
    fs::write(state.path().join("policies.last-good.json"), texts).unwrap();
    let found = meanwhile(state.path(), &web("shop"));
    assert_eq!(found, Meanwhile::NodeAddress);
}
