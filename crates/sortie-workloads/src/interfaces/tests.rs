use super::*;

/// `eth0`, number 5 inside, whose other end is 23 outside; inside, the host is namespace 0,
/// outside, the container is namespace 4.
fn inner() -> Link {
    Link {
        index: 5,
        name: "eth0".to_owned(),
        kind: Some("veth".to_owned()),
        mac: Some(MacAddress([2, 0x42, 0xac, 0x11, 0, 2])),
        peer: Some(23),
        peer_namespace: Some(0),
        master: None,
        lower_up: true,
    }
}

fn outer() -> Link {
    Link {
        index: 23,
        name: "veth0a1b2c3".to_owned(),
        kind: Some("veth".to_owned()),
        mac: None,
        peer: Some(5),
        peer_namespace: Some(4),
        master: Some(2),
        lower_up: true,
    }
}

#[test]
fn both_ends_agree() {
    assert_eq!(host_end(&inner(), Some(0)), Some(23));
    assert_eq!(
        agreed_port(&inner(), &outer(), Some(4)),
        Some(Port {
            index: IfIndex(23),
            bridge: Some(IfIndex(2)),
        })
    );
}

#[test]
fn an_index_counts_only_in_the_namespace_that_it_is_of() {
    // Both ends inside: no namespace number.
    let pair_inside = Link {
        peer_namespace: None,
        ..inner()
    };
    assert_eq!(host_end(&pair_inside, Some(0)), None);
    assert_eq!(host_end(&pair_inside, None), None);
    // The other end is in a third namespace, as with Docker's overlay networks.
    assert_eq!(host_end(&inner(), Some(1)), None);
    assert_eq!(host_end(&inner(), None), None);
    // A macvlan's parent is not a port.
    let macvlan = Link {
        kind: Some("macvlan".to_owned()),
        ..inner()
    };
    assert_eq!(host_end(&macvlan, Some(0)), None);
}

#[test]
fn a_port_that_does_not_lead_back_is_no_port() {
    let other_interface = Link {
        peer: Some(6),
        ..outer()
    };
    assert_eq!(agreed_port(&inner(), &other_interface, Some(4)), None);
    let other_namespace = Link {
        peer_namespace: Some(3),
        ..outer()
    };
    assert_eq!(agreed_port(&inner(), &other_namespace, Some(4)), None);
    let nowhere = Link {
        peer_namespace: None,
        ..outer()
    };
    assert_eq!(agreed_port(&inner(), &nowhere, None), None);
}
