//! `export`: from files and from an agent; what is lost is told.

use std::fs;

use insta::assert_snapshot;
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::agent::Agent;
use crate::{shown, sortie};

const POLICY: &str = "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: partner}
spec:
  workloads: [{containers: {names: [shop]}}]
  destinations: [{hosts: [api.external.com], ports: [{protocol: TCP, port: 443}]}]
  action: Egress
  egress: {addresses: [203.0.113.11]}
";

#[test]
fn a_file_as_envoys_bootstrap() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("partner.yaml");
    fs::write(&file, POLICY).unwrap();
    let file = file.to_str().unwrap();
    let output = sortie(&["export", "envoy", file]).output().unwrap();
    assert_snapshot!("export_envoy", shown(&output));
    // As users of kubectl write it; and JSON, which is the same without comments.
    let yaml = sortie(&["export", "envoy", "-f", file]).output().unwrap();
    assert_eq!(yaml.stdout, output.stdout);
    let mut json = sortie(&["export", "envoy", file, "-o", "json"]);
    let json = json.output().unwrap();
    let bootstrap: Value = serde_json::from_slice(&json.stdout).unwrap();
    let cluster = &bootstrap["static_resources"]["clusters"][1];
    assert_eq!(cluster["name"], "from-203.0.113.11");
}

#[test]
fn a_file_as_istios_resources() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("partner.yaml");
    fs::write(&file, POLICY).unwrap();
    let file = file.to_str().unwrap();
    let output = sortie(&["export", "istio", "-f", file]).output().unwrap();
    assert_snapshot!("export_istio", shown(&output));
}

#[test]
fn policies_of_an_agent() {
    // A label's, which no file could hold.
    let carried = json!({"name": "label:web", "owner": "Workload", "priority": 0, "workloads": [],
        "destinations": [], "action": {"action": "Egress",
        "egress": {"addresses": ["203.0.113.12"]}}, "onUnavailable": "Drop",
        "onChange": {"connections": "Reset"}, "enforcement": "Enforce", "unlearned": "Sniff",
        "onlyTheseHosts": false});
    let agent = Agent::start(&[("GET /v1/policies/whole", json!([carried]).to_string())]);
    let arguments = ["export", "envoy", "--workload", "web", "-o", "json"];
    let output = agent.command(&arguments).output().unwrap();
    let bootstrap: Value = serde_json::from_slice(&output.stdout).unwrap();
    let whole = "GET /v1/policies/whole?workload=web";
    assert_eq!(agent.asked()[0].request, whole);
    let hosts = &bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0];
    let hosts = &hosts["typed_config"]["route_config"]["virtual_hosts"];
    let routes = hosts[0]["routes"].as_array().unwrap();
    assert_eq!(
        routes.last().unwrap()["route"]["cluster"],
        "from-203.0.113.12"
    );
}
