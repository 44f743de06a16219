use sortie_api::config::Guard;
use sortie_api::policy::{EgressPolicy, parse};

use crate::environment::Environment;
use crate::explain::{ByName, Plane, Verdict};
use crate::nft::Family;
use crate::planner::Planner;
use crate::planner::tests::{container, environment, planner_with};
use crate::precedence::Target;

const POLICY: &str = "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: runners}
spec:
  workloads: [{clients: {tokens: [ci, other]}}, {clients: {tokens: [ci]}}]
  destinations: [{hosts: [api.test]}]
  action: Egress
  egress: {addresses: [203.0.113.12]}
";

fn policies() -> Vec<EgressPolicy> {
    parse("p.yaml", POLICY).unwrap()
}

/// A host whose gateway serves clients.
fn serving() -> Environment {
    let mut environment = environment(&["203.0.113.11", "203.0.113.12"], Guard::Networks);
    let listen = "203.0.113.5:3128".parse().unwrap();
    environment.config.gateway.proxy.listen = vec![listen];
    environment
}

#[test]
fn what_is_for_clients_changes_nothing_for_containers() {
    let web = container("web", Some("203.0.113.11"), 20, &["172.17.0.2"]);
    let mut planner = planner_with(vec![web], Vec::new());
    for policies in [policies(), Vec::new()] {
        let ops = planner.policies_changed(policies);
        let ops: Vec<String> = ops.iter().map(ToString::to_string).collect();
        assert!(!ops.is_empty());
        for op in ops {
            let is_address = op.contains("egress4") || op.contains("usable4");
            assert!(is_address && op.contains("203.0.113.12"), "{op}");
        }
    }
    assert_eq!(planner.workloads().len(), 1);
}

#[test]
fn the_gateways_own_chains_are_there_while_it_serves_clients() {
    let has_chains = |planner: &Planner| {
        let tables = planner.desired().tables;
        let chains = &tables[&Family::Inet].chains;
        chains.contains_key("gateway-translate") && chains.contains_key("gateway-guard")
    };
    let mut planner = planner_with(Vec::new(), policies());
    assert!(!has_chains(&planner));
    planner.environment_changed(serving());
    assert!(has_chains(&planner));
}

#[test]
fn clients_are_those_that_policies_name() {
    let planner = planner_with(Vec::new(), policies());
    let clients: Vec<_> = planner.clients().collect();
    let ids: Vec<_> = clients.iter().map(|it| it.workload.id.as_str()).collect();
    assert_eq!(ids, ["client/ci", "client/other"]);
    assert!(clients.iter().all(|client| client.policies.len() == 1));
    let asked = |port, encrypted| ByName {
        name: "api.test",
        port: Some((sortie_api::policy::Protocol::Tcp, port)),
        request: None,
        encrypted,
        malformed: None,
    };
    for (port, encrypted, verdict) in [
        (80, false, Verdict::Egress),
        (443, true, Verdict::Egress),
        // The policy names no port, and what asks for this is a tunnel.
        (8443, true, Verdict::Drop),
    ] {
        let told = planner.explain_name(&clients[0], &asked(port, encrypted));
        assert_eq!(
            (told.plane, told.verdict),
            (Plane::Gateway, verdict),
            "{port}"
        );
    }
    for local in ["203.0.113.11", "169.254.0.1", "127.0.0.1"] {
        let told = planner.explain(&clients[0], Target::address(local.parse().unwrap(), None));
        assert_eq!(told.verdict, Verdict::Drop, "{local}: {}", told.reason);
    }
}

/// Who must show both is a client besides; what only audits makes nobody one, and is told of those
/// whom it means.
#[test]
fn certificates_and_audits_of_clients() {
    let by_certificate = POLICY.replace("{tokens: [ci]}", "{tokens: [ci], certificates: [CN=a]}");
    let audit = POLICY
        .replace("runners", "audit")
        .replace("{tokens: [ci, other]}", "{certificates: [CN=nobody]}")
        .replace("egress:", "priority: 1\n  enforcement: Audit\n  egress:")
        .replace(".12", ".11");
    let policies = parse("p.yaml", &format!("{by_certificate}---\n{audit}")).unwrap();
    let planner = planner_with(Vec::new(), policies);
    let clients: Vec<_> = planner.clients().collect();
    let ids: Vec<_> = clients.iter().map(|it| it.workload.id.as_str()).collect();
    assert_eq!(ids, ["client/ci", "client/ci+CN=a", "client/other"]);
    let asked = ByName {
        name: "api.test",
        port: Some((sortie_api::policy::Protocol::Tcp, 80)),
        request: None,
        encrypted: false,
        malformed: None,
    };
    let told = |client: &crate::planner::Tracked| {
        let told = planner.explain_name(client, &asked);
        assert_eq!(told.policy.as_deref(), Some("runners"));
        told.audit
            .map(|note| format!("{} would {}", note.policy, note.would))
    };
    let would = "audit would leave with 203.0.113.11";
    assert_eq!(told(&clients[0]).as_deref(), Some(would));
    assert_eq!(told(&clients[1]).as_deref(), Some(would));
    assert_eq!(told(&clients[2]), None);
}

#[test]
fn managed_containers_ask_from_their_own_addresses() {
    let web = container("web", Some("203.0.113.11"), 20, &["172.17.0.2"]);
    let plain = container("plain", None, 21, &["172.17.0.3"]);
    // Later than the first, so that the address is its.
    let same = container("same", Some("203.0.113.11"), 22, &["172.17.0.2"]);
    let mut planner = planner_with(vec![web, plain, same], Vec::new());
    assert_eq!(planner.askers().count(), 0);
    planner.environment_changed(serving());
    let askers: Vec<_> = planner.askers().collect();
    assert_eq!(askers.len(), 1);
    let (tracked, addresses) = &askers[0];
    assert_eq!(tracked.workload.name, "same");
    assert_eq!(
        *addresses,
        ["172.17.0.2".parse::<std::net::IpAddr>().unwrap()]
    );
}
