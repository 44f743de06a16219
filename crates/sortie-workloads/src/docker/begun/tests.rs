//! What the engine's files say.

use std::fs;

use super::Begun;

const ID: &str = "0123456789abcdef";

fn kept(config: &str, host: &str) -> Result<Begun, String> {
    let folder = tempfile::tempdir().unwrap();
    let container = folder.path().join(ID);
    fs::create_dir(&container).unwrap();
    fs::write(container.join("config.v2.json"), config).unwrap();
    fs::write(container.join("hostconfig.json"), host).unwrap();
    Begun::of_docker(folder.path(), ID).map_err(|error| error.to_string())
}

#[test]
fn name_labels_and_networks_are_read() {
    let config = r#"{"ID": "0123456789abcdef", "Name": "/web", "State": {},
        "Config": {"Image": "i", "Labels": {"sortie.egress": "203.0.113.11"}},
        "NetworkSettings": {"Networks": {"shop": {"NetworkID": ""}, "back": null}}}"#;
    let begun = kept(config, r#"{"NetworkMode": "shop", "Runtime": "sortie"}"#).unwrap();
    assert_eq!(begun.name, "web");
    assert_eq!(begun.labels["sortie.egress"], "203.0.113.11");
    let networks: Vec<_> = begun.networks.iter().map(String::as_str).collect();
    assert_eq!(networks, ["back", "shop"]);
    assert!(!begun.shares);
    assert_eq!(begun.workload_id().as_str(), "docker/0123456789abcdef");
}

#[test]
fn nothing_has_to_be_there_but_a_name() {
    let config = r#"{"Name": "/web", "Config": {"Labels": null}, "NetworkSettings": null}"#;
    let begun = kept(config, r#"{"NetworkMode": "container:ffff"}"#).unwrap();
    assert!(begun.labels.is_empty() && begun.networks.is_empty() && begun.shares);
}

#[test]
fn what_cannot_be_read_is_named() {
    let error = kept("{}", r#"{"NetworkMode": "shop"}"#).unwrap_err();
    assert!(error.contains("config.v2.json"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let error = Begun::of_docker(folder.path(), ID).unwrap_err().to_string();
    assert!(error.contains("has its data elsewhere"), "{error}");
}
