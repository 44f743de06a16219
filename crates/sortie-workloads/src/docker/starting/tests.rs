use super::*;
use crate::docker::sample::{BRIDGE, attachment, mac, network, seen};

fn networks() -> BTreeMap<String, EngineNetwork> {
    let (front, mut back) = (network("front", "bridge"), network("back", "bridge"));
    back.network.bridge = Some(IfIndex(3));
    [front, back].map(|it| (it.id.clone(), it)).into()
}

fn up(index: u32, bridge: IfIndex, number: u8) -> PortNews {
    let port = Port {
        index: IfIndex(index),
        bridge: Some(bridge),
    };
    PortNews::Up(port, mac(number))
}

/// Container `web` on `front` with MAC and address 7.
fn waiting() -> Starting {
    let mut starting = Starting::default();
    starting.connected("web", 41);
    starting.told("web", seen("web", 7).container.face);
    starting
}

fn ports(starting: &Starting) -> Vec<IfIndex> {
    let Some(seen) = starting.seen("web", &networks()) else {
        return Vec::new();
    };
    let Ok(Found::Own { interfaces, .. }) = seen.found else {
        panic!("{seen:?}");
    };
    assert_eq!(interfaces.len(), seen.container.face.attachments.len());
    let ports = interfaces.iter().filter_map(|it| it.port);
    ports.map(|port| port.index).collect()
}

#[test]
fn it_is_known_when_its_port_is_up() {
    let mut starting = waiting();
    assert_eq!(ports(&starting), []);
    starting.port(up(120, BRIDGE, 8));
    starting.port(up(121, IfIndex(3), 7));
    assert_eq!(ports(&starting), [], "another MAC, another bridge");
    starting.port(up(122, BRIDGE, 7));
    assert_eq!(ports(&starting), [IfIndex(122)]);
    let seen = starting.seen("web", &networks()).unwrap();
    assert_eq!((seen.container.pid, seen.container.started), (0, 41));
    assert_eq!(seen.container.face.name, "web-name");
    starting.port(PortNews::Gone(IfIndex(122)));
    assert_eq!(ports(&starting), []);
}

#[test]
fn the_port_may_be_up_before_the_engine_has_told() {
    let mut starting = Starting::default();
    starting.connected("web", 41);
    starting.port(up(122, BRIDGE, 7));
    assert_eq!(ports(&starting), []);
    starting.told("web", seen("web", 7).container.face);
    assert_eq!(ports(&starting), [IfIndex(122)]);
    starting.remove("web");
    assert_eq!(ports(&starting), []);
}

#[test]
fn each_network_adds_its_own() {
    let mut starting = waiting();
    let mut back = seen("web", 9).container.face;
    back.attachments = vec![attachment("back", 9)];
    starting.told("web", back);
    starting.told("web", seen("web", 7).container.face);
    starting.port(up(122, BRIDGE, 7));
    assert_eq!(ports(&starting), [IfIndex(122)]);
    starting.port(up(124, IfIndex(3), 9));
    assert_eq!(ports(&starting), [IfIndex(124), IfIndex(122)]);
}

#[test]
fn two_ports_with_its_mac_are_none() {
    let mut starting = waiting();
    starting.port(up(122, BRIDGE, 7));
    starting.port(up(124, BRIDGE, 7));
    assert_eq!(ports(&starting), []);
}
