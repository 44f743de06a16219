use super::*;

#[test]
fn a_network_has_its_bridge_and_a_name_of_its_own_on_the_host() {
    let listed: Vec<Listed> = serde_json::from_str(
        r#"[{"name":"dual","id":"2181cb63","driver":"bridge","network_interface":"podman1",
             "created":"2026-11-28T13:16:27Z","subnets":[{"subnet":"172.30.0.0/24",
             "gateway":"172.30.0.1"},{"subnet":"fd00:30::/64","gateway":"fd00:30::1"}],
             "ipv6_enabled":true,"internal":false,"dns_enabled":true,"labels":{"x":"y"},
             "ipam_options":{"driver":"host-local"}},
            {"name":"lan","id":"77","driver":"macvlan","network_interface":"eth0"}]"#,
    )
    .unwrap();
    let index = |name: &str| (name == "podman1").then_some(IfIndex(7));
    let known: Vec<EngineNetwork> = listed.into_iter().map(|it| it.known(index)).collect();
    assert_eq!(known[0].id, "dual");
    let network = &known[0].network;
    assert_eq!(network.name, "podman/dual");
    assert_eq!(network.labels["x"], "y");
    assert_eq!(network.bridge, Some(IfIndex(7)));
    assert_eq!(network.bridge_name.as_deref(), Some("podman1"));
    assert_eq!(network.subnets[1].to_string(), "fd00:30::/64");
    // A macvlan's interface is the uplink below it.
    assert_eq!(known[1].network.bridge_name, None);
}
