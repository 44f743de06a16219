use super::*;

fn network(json: &str) -> EngineNetwork {
    let answer = serde_json::from_str(json).unwrap();
    EngineNetwork::new(answer, |name| match name {
        "docker0" => Some(IfIndex(2)),
        "br-df184e60a579" => Some(IfIndex(21)),
        "lan" => Some(IfIndex(30)),
        _ => None,
    })
    .unwrap()
}

#[test]
fn a_bridge_is_named_after_the_network_or_by_option() {
    let own = network(
        r#"{"Name": "v6net", "Id": "df184e60a579c357a4266475420e0bb1550a4638b0ebab4364c72a81e468b48d",
            "Driver": "bridge", "Labels": {"x": "y"}, "Options": {},
            "IPAM": {"Config": [{"Subnet": "10.9.0.0/24"}, {"Subnet": "fd00:9::/64"}]}}"#,
    );
    assert_eq!(own.driver, "bridge");
    assert_eq!(own.network.name, "v6net");
    assert_eq!(own.network.labels["x"], "y");
    assert_eq!(own.network.bridge, Some(IfIndex(21)));
    assert_eq!(
        own.network.subnets,
        [
            "10.9.0.0/24".parse().unwrap(),
            "fd00:9::/64".parse().unwrap()
        ]
    );
    let default = network(
        r#"{"Name": "bridge", "Id": "e595", "Driver": "bridge",
            "Options": {"com.docker.network.bridge.name": "docker0"}}"#,
    );
    assert_eq!(default.network.bridge, Some(IfIndex(2)));
}

#[test]
fn only_the_bridge_driver_has_a_bridge() {
    let macvlan = network(
        r#"{"Name": "lan", "Id": "0123", "Driver": "macvlan", "Options": {"parent": "lan",
            "com.docker.network.bridge.name": "lan"}}"#,
    );
    assert_eq!(macvlan.network.bridge, None);
    let not_there = network(r#"{"Name": "gone", "Id": "4567", "Driver": "bridge"}"#);
    assert_eq!(not_there.network.bridge, None);
}
