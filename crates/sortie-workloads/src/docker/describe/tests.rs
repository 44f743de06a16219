use super::*;
use crate::docker::sample::{BRIDGE, address, attachment, interface, mac, network, own, seen};
use sortie_api::workload::{Cgroup, CgroupId, Families, MacAddress};

fn networks() -> BTreeMap<String, EngineNetwork> {
    let drivers = [
        ("front", "bridge"),
        ("lan", "macvlan"),
        ("swarm", "overlay"),
        ("none", "null"),
    ];
    drivers
        .map(|(name, driver)| network(name, driver))
        .map(|network| (network.id.clone(), network))
        .into()
}

fn alone(seen: &Seen) -> Workload {
    describe(Engine::Docker, seen, &networks(), None)
}

fn reason(workload: &Workload) -> &str {
    workload.unmanageable.as_deref().unwrap_or("manageable")
}

#[test]
fn an_endpoint_has_network_port_bridge_mac_and_assigned_addresses() {
    let mut container = seen("web", 7);
    let labels = &mut container.container.face.labels;
    labels.insert("sortie.egress".to_owned(), "203.0.113.11".to_owned());
    let workload = alone(&container);
    assert_eq!(workload.id, Engine::Docker.workload_id("web"));
    assert_eq!(workload.name, "web-name");
    assert_eq!(workload.labels.get("sortie.egress"), Some("203.0.113.11"));
    assert_eq!((workload.pid, workload.started), (1007, 7));
    assert_eq!(workload.unmanageable, None);
    assert_eq!(
        workload.endpoints,
        [Endpoint {
            network: "front".to_owned(),
            port: IfIndex(107),
            bridge: Some(BRIDGE),
            mac: mac(7),
            addresses: vec![address(7)],
            default_route: Families::default(),
        }]
    );
}

#[test]
fn an_address_that_a_container_gave_itself_is_not_its_own() {
    let mut container = seen("web", 7);
    let mut greedy = interface("eth0", 7);
    greedy.addresses.push(address(8));
    container.found = Ok(own(vec![greedy]));
    assert_eq!(alone(&container).endpoints[0].addresses, [address(7)]);
}

#[test]
fn a_changed_mac_or_address_or_both_do_not_hide_an_interface() {
    let mut container = seen("web", 7);
    let other = MacAddress([2, 0, 0, 0, 0, 99]);
    let mut changed = interface("eth0", 7);
    changed.mac = other;
    container.found = Ok(own(vec![changed.clone()]));
    assert_eq!(alone(&container).endpoints[0].mac, other);

    changed.addresses = vec![address(99)];
    container.found = Ok(own(vec![changed.clone()]));
    let endpoint = &alone(&container).endpoints[0];
    assert_eq!((endpoint.mac, endpoint.port), (other, IfIndex(107)));
    assert_eq!(endpoint.addresses, [address(7)]);

    // Two that could be meant: neither is.
    let mut second = changed.clone();
    second.name = "eth1".to_owned();
    container.found = Ok(own(vec![changed, second]));
    let workload = alone(&container);
    assert_eq!(workload.endpoints, []);
    assert!(
        reason(&workload).contains("network front"),
        "{}",
        reason(&workload)
    );
}

#[test]
fn a_port_in_another_bridge_stays_its_containers_and_is_told() {
    let mut networks = networks();
    let mut back = network("back", "bridge");
    back.network.bridge = Some(IfIndex(3));
    networks.insert(back.id.clone(), back);
    let mut container = seen("web", 7);
    container.container.face.attachments = vec![attachment("back", 8), attachment("front", 7)];
    let (mut eth0, mut eth1) = (interface("eth0", 7), interface("eth1", 8));
    if let Some(port) = &mut eth1.port {
        port.bridge = Some(IfIndex(3));
    }
    container.found = Ok(own(vec![eth0.clone(), eth1.clone()]));
    let honest = describe(Engine::Docker, &container, &networks, None);
    assert_eq!(honest.endpoints.len(), 2);
    assert_eq!(honest.unmanageable, None);

    std::mem::swap(&mut eth0.mac, &mut eth1.mac);
    container.found = Ok(own(vec![eth0, eth1]));
    let workload = describe(Engine::Docker, &container, &networks, None);
    let bridges = workload.endpoints.iter().map(|endpoint| endpoint.bridge);
    assert_eq!(
        bridges.collect::<Vec<_>>(),
        [Some(IfIndex(3)), Some(BRIDGE)]
    );
    assert!(reason(&workload).contains("not in that network's bridge"));

    let mut free = seen("web", 7);
    let mut interface = interface("eth0", 7);
    if let Some(port) = &mut interface.port {
        port.bridge = None;
    }
    free.found = Ok(own(vec![interface]));
    let workload = alone(&free);
    assert_eq!(workload.endpoints, alone(&seen("web", 7)).endpoints);
    assert!(reason(&workload).contains("not in that network's bridge"));
}

#[test]
fn interfaces_that_bypass_the_host_are_named() {
    let mut container = seen("web", 7);
    container
        .container
        .face
        .attachments
        .push(attachment("lan", 8));
    let mut macvlan = interface("eth1", 8);
    macvlan.kind = Some("macvlan".to_owned());
    macvlan.port = None;
    container.found = Ok(own(vec![interface("eth0", 7), macvlan]));
    let workload = alone(&container);
    assert_eq!(workload.endpoints.len(), 1);
    assert_eq!(
        reason(&workload),
        "its interface eth1 is a macvlan one, whose packets do not cross the host; use a bridge \
         network"
    );
}

#[test]
fn a_port_elsewhere_is_refused_with_the_driver_named() {
    let mut container = seen("web", 7);
    container.container.face.attachments = vec![attachment("swarm", 7)];
    let mut overlay = interface("eth0", 7);
    overlay.port = None;
    container.found = Ok(own(vec![overlay]));
    let workload = alone(&container);
    assert_eq!(workload.endpoints, []);
    let reason = reason(&workload);
    assert!(
        reason.contains("eth0 on network swarm (driver overlay)"),
        "{reason}"
    );
    assert!(reason.contains("another network namespace"), "{reason}");
}

#[test]
fn without_a_network_there_is_nothing_to_manage_and_nothing_wrong() {
    let mut container = seen("web", 7);
    let mut none = attachment("none", 7);
    (none.mac, none.addresses) = (None, Vec::new());
    container.container.face.attachments = vec![none];
    container.found = Ok(own(Vec::new()));
    let workload = alone(&container);
    assert_eq!(
        (workload.endpoints, workload.unmanageable),
        (Vec::new(), None)
    );
}

#[test]
fn in_the_hosts_namespace_a_container_is_known_by_its_cgroup() {
    let cgroup = Cgroup {
        id: CgroupId(1001),
        level: 2,
    };
    let mut container = seen("web", 7);
    container.found = Ok(Found::Host(Ok(cgroup)));
    // Whether it shares that namespace with another one makes no difference.
    for mode in [Mode::Host, Mode::Own, Mode::Container("web".to_owned())] {
        container.container.face.mode = mode;
        let workload = alone(&container);
        assert_eq!(
            (workload.endpoints, workload.cgroup),
            (vec![], Some(cgroup))
        );
        assert_eq!(workload.unmanageable, None);
    }
}

#[test]
fn the_hosts_namespace_is_refused_without_a_cgroup() {
    let mut by_mode = seen("web", 7);
    by_mode.container.face.mode = Mode::Host;
    let mut by_sight = seen("web", 7);
    by_sight.found = Ok(Found::Host(Err("it has none".to_owned())));
    for container in [by_mode, by_sight] {
        let workload = alone(&container);
        assert_eq!((&*workload.endpoints, workload.cgroup), (&[][..], None));
        assert!(reason(&workload).starts_with("uses the host's network namespace"));
    }
}

#[test]
fn what_a_process_sends_on_is_refused() {
    let mut container = seen("web", 7);
    container.container.face.mode = Mode::Process("pasta".to_owned());
    // It is a network's name.
    assert_eq!(alone(&container), alone(&seen("web", 7)));
    container.container.face.attachments.clear();
    let workload = alone(&container);
    assert_eq!(workload.endpoints, []);
    assert!(reason(&workload).contains("as those of pasta"));
}

#[test]
fn a_shared_namespace_is_the_owners() {
    let mut owner = seen("web", 7);
    let mut sharer = seen("sidecar", 7);
    sharer.container.face.mode = Mode::Container("web".to_owned());
    let described =
        |sharer: &Seen, owner: Option<&Seen>| describe(Engine::Docker, sharer, &networks(), owner);

    let plain = described(&sharer, Some(&owner));
    assert_eq!(plain.endpoints, []);
    assert_eq!(reason(&plain), "shares the network namespace of web-name");

    let egress = |seen: &mut Seen, address: &str| {
        let labels = &mut seen.container.face.labels;
        labels.insert("sortie.egress".to_owned(), address.to_owned());
    };
    egress(&mut sharer, "203.0.113.11");
    egress(&mut owner, "203.0.113.11");
    let equal = described(&sharer, Some(&owner));
    assert_eq!(reason(&equal), "shares the network namespace of web-name");

    egress(&mut owner, "203.0.113.12");
    let differing = described(&sharer, Some(&owner));
    assert!(reason(&differing).contains("sortie.egress=203.0.113.11 differs"));
    assert!(reason(&differing).contains("is an error"));

    let orphan = described(&sharer, None);
    assert!(reason(&orphan).contains("does not run any more"));
}

#[test]
fn an_unreadable_namespace_is_told() {
    let mut container = seen("web", 7);
    container.found = Err("enter a network namespace (/proc/1/ns/net): EPERM".to_owned());
    let workload = alone(&container);
    assert_eq!(workload.endpoints, []);
    assert_eq!(
        reason(&workload),
        "enter a network namespace (/proc/1/ns/net): EPERM"
    );
}
