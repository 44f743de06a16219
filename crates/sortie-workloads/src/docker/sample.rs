//! Containers and networks for the unit tests of this module.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sortie_api::workload::{Families, IfIndex, MacAddress, Network};

use super::container::{Attachment, Container, Face, Mode};
use super::describe::Seen;
use super::network::EngineNetwork;
use crate::interfaces::{Found, Interface, Port};
use crate::netns::NamespaceId;

/// The bridge of every sample network of driver `bridge`.
pub(super) const BRIDGE: IfIndex = IfIndex(2);

/// Container `id`, started at `number`, on network `front` with the last byte `number`, behind
/// port 100 + `number`.
pub(super) fn seen(id: &str, number: u8) -> Seen {
    Seen {
        container: Container {
            face: Face {
                id: id.to_owned(),
                name: format!("{id}-name"),
                labels: BTreeMap::new(),
                mode: Mode::Own,
                attachments: vec![attachment("front", number)],
            },
            pid: 1000 + u32::from(number),
            started: i64::from(number),
            sandbox: None,
            published_udp: BTreeSet::new(),
        },
        found: Ok(own(vec![interface("eth0", number)])),
    }
}

pub(super) fn own(interfaces: Vec<Interface>) -> Found {
    Found::Own {
        namespace: NamespaceId::UNKNOWN,
        interfaces,
    }
}

pub(super) fn attachment(network: &str, number: u8) -> Attachment {
    Attachment {
        network: network.to_owned(),
        network_id: format!("id-of-{network}"),
        mac: Some(mac(number)),
        addresses: vec![address(number)],
    }
}

pub(super) fn interface(name: &str, number: u8) -> Interface {
    Interface {
        name: name.to_owned(),
        kind: Some("veth".to_owned()),
        mac: mac(number),
        addresses: vec![address(number)],
        default_route: Families::default(),
        port: Some(Port {
            index: IfIndex(100 + u32::from(number)),
            bridge: Some(BRIDGE),
        }),
    }
}

pub(super) fn mac(number: u8) -> MacAddress {
    MacAddress([2, 0x42, 172, 17, 0, number])
}

pub(super) fn address(number: u8) -> IpAddr {
    [172, 17, 0, number].into()
}

pub(super) fn network(name: &str, driver: &str) -> EngineNetwork {
    EngineNetwork {
        id: format!("id-of-{name}"),
        driver: driver.to_owned(),
        network: Network {
            name: name.to_owned(),
            labels: BTreeMap::new(),
            bridge: (driver == "bridge").then_some(BRIDGE),
            bridge_name: (driver == "bridge").then(|| "bridge0".to_owned()),
            subnets: Vec::new(),
        },
    }
}
