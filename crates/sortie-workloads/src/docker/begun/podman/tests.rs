//! What a configuration says; whole databases are read end to end.

use super::{Begun, Config, begun};

fn told(config: &str, networks: &[&str]) -> Begun {
    let config: Config = serde_json::from_str(config).unwrap();
    let networks = networks.iter().map(|name| name.as_bytes().to_vec());
    begun("0123", config, networks)
}

#[test]
fn name_labels_networks_and_ports_are_read() {
    let web = told(
        r#"{"id": "0123", "name": "web", "labels": {"sortie.egress": "203.0.113.11"},
            "newPortMappings": [
                {"host_ip": "", "container_port": 53, "host_port": 5353, "range": 2, "protocol": "tcp,udp"},
                {"host_ip": "", "container_port": 80, "host_port": 8080, "range": 1, "protocol": "tcp"}],
            "networkMode": "bridge", "runtime": "crun"}"#,
        &["back", "shop"],
    );
    assert_eq!(web.name, "web");
    assert_eq!(web.labels["sortie.egress"], "203.0.113.11");
    let networks: Vec<_> = web.networks.iter().map(String::as_str).collect();
    assert_eq!(networks, ["podman/back", "podman/shop"]);
    let ports: Vec<_> = web.published_udp.iter().copied().collect();
    assert_eq!(ports, [53, 54]);
    assert!(!web.shares);
    assert_eq!(web.workload_id().as_str(), "podman/0123");
}

#[test]
fn nothing_has_to_be_there_but_a_name() {
    let member = told(r#"{"name": "web", "netNsCtr": "ffff"}"#, &[]);
    assert!(member.labels.is_empty() && member.networks.is_empty() && member.shares);
}

#[tokio::test]
async fn what_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = Begun::of_podman(&folder.path().join("bolt_state.db"), "0123").await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("`sortie install podman` again"), "{error}");
}
