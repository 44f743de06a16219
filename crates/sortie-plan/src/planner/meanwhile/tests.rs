//! Which workloads may start undecided.

use std::collections::BTreeMap;

use sortie_api::config::{AgentConfig, Guard, Unidentified};
use sortie_api::policy::{EgressPolicy, parse};
use sortie_api::workload::{
    Endpoint, Families, IfIndex, MacAddress, Network, Workload, WorkloadId, WorkloadKind,
};

use super::Meanwhile;
use crate::environment::Environment;
use crate::planner::Planner;

const BRIDGE: IfIndex = IfIndex(10);

fn web(labels: &[(&str, &str)]) -> Workload {
    Workload {
        id: WorkloadId::from("docker/web"),
        name: "web".to_owned(),
        kind: WorkloadKind::Docker,
        labels: map(labels).into(),
        pid: 1,
        started: 1,
        endpoints: vec![Endpoint {
            network: "shop".to_owned(),
            port: IfIndex(20),
            bridge: Some(BRIDGE),
            mac: MacAddress([2, 0, 0, 0, 0, 1]),
            addresses: Vec::new(),
            default_route: Families::default(),
        }],
        published_udp: [].into(),
        cgroup: None,
        unmanageable: None,
    }
}

fn map(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    labels.iter().map(owned).collect()
}

fn policy(spec: &str) -> Vec<EgressPolicy> {
    let text = format!(
        "apiVersion: sortie.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {{name: p}}\nspec:\n  \
         workloads:\n  - containers: {{names: [web]}}\n{spec}"
    );
    parse("p.yaml", &text).unwrap()
}

fn meanwhile(
    config: AgentConfig,
    network: &[(&str, &str)],
    policies: Vec<EgressPolicy>,
    container: &[(&str, &str)],
) -> Meanwhile {
    let mut planner = Planner::new(Environment {
        config,
        ..Environment::default()
    });
    planner.networks(vec![Network {
        name: "shop".to_owned(),
        labels: map(network),
        bridge: Some(BRIDGE),
        bridge_name: None,
        subnets: Vec::new(),
    }]);
    planner.policies_changed(policies);
    let web = web(container);
    planner.workload(web.clone(), None);
    planner.meanwhile(&web.id)
}

fn of_labels(container: &[(&str, &str)]) -> Meanwhile {
    meanwhile(AgentConfig::default(), &[], Vec::new(), container)
}

fn dropped(by: &str) -> Meanwhile {
    Meanwhile::Drop(by.to_owned())
}

#[test]
fn nothing_concerns_a_workload_that_nothing_selects() {
    assert_eq!(of_labels(&[]), Meanwhile::Unconcerned);
    assert_eq!(of_labels(&[("team", "a")]), Meanwhile::Unconcerned);
    let planner = Planner::new(Environment::default());
    let unknown = planner.meanwhile(&WorkloadId::from("docker/other"));
    assert_eq!(unknown, Meanwhile::Unconcerned);
}

#[test]
fn a_label_decides_by_what_it_says() {
    let egress = ("sortie.egress", "203.0.113.11");
    let selected = dropped("policy label:web selects it");
    assert_eq!(of_labels(&[egress]), selected);
    let node = ("sortie.egress.on-unavailable", "node-address");
    assert_eq!(of_labels(&[egress, node]), Meanwhile::NodeAddress);
    assert_eq!(
        of_labels(&[("sortie.egress", "bypass")]),
        Meanwhile::Unconcerned
    );
    let wrong = dropped("policy label:web (wrong) selects it");
    assert_eq!(of_labels(&[("sortie.egres", "203.0.113.11")]), wrong);
}

#[test]
fn a_policy_for_some_destinations_forbids_it_too() {
    let some = "  destinations:\n  - cidrs: [198.51.100.0/24]\n  action: Egress\n  egress: {addresses: [203.0.113.11]}\n";
    let config = AgentConfig::default();
    let found = meanwhile(config.clone(), &[], policy(some), &[]);
    assert_eq!(found, dropped("policy p selects it"));
    let allows = format!("{some}  onUnavailable: NodeAddress\n");
    let found = meanwhile(config, &[], policy(&allows), &[]);
    assert_eq!(found, Meanwhile::NodeAddress);
}

#[test]
fn what_covers_everything_hides_what_is_behind_it() {
    let found = meanwhile(
        AgentConfig::default(),
        &[("sortie.egress", "203.0.113.11")],
        Vec::new(),
        &[("sortie.egress", "bypass")],
    );
    assert_eq!(found, Meanwhile::Unconcerned);
}

#[test]
fn a_guarded_network_forbids_it() {
    let guarded = dropped("network shop is guarded");
    let config = AgentConfig::default();
    let label = [("sortie.guard", "true")];
    let found = meanwhile(config, &label, Vec::new(), &[]);
    assert_eq!(found, guarded);
    let all = AgentConfig {
        guard: Guard::All,
        ..AgentConfig::default()
    };
    assert_eq!(meanwhile(all.clone(), &[], Vec::new(), &[]), guarded);
    let lets_through = AgentConfig {
        unidentified: Unidentified::NodeAddress,
        ..all
    };
    let found = meanwhile(lets_through, &[], Vec::new(), &[]);
    assert_eq!(found, Meanwhile::Unconcerned);
}
