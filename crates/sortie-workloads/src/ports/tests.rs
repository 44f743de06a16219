use super::*;

const MAC: MacAddress = MacAddress([2, 0x42, 172, 17, 0, 2]);

fn port(index: u32) -> Link {
    Link {
        index,
        name: "veth0a1b2c3".to_owned(),
        kind: Some("veth".to_owned()),
        mac: None,
        peer: Some(index - 1),
        peer_namespace: Some(4),
        master: Some(2),
        lower_up: true,
    }
}

/// The inner ends' namespace, asked for one of them.
fn read(number: i32, index: u32) -> Link {
    assert_eq!(number, 4);
    Link {
        mac: Some(MAC),
        master: None,
        ..port(index)
    }
}

fn up(index: u32) -> PortNews {
    let port = Port {
        index: IfIndex(index),
        bridge: Some(IfIndex(2)),
    };
    PortNews::Up(port, MAC)
}

#[test]
fn a_port_is_told_once_when_its_cable_first_comes_up() {
    let inner = |number, index| Ok(Some(read(number, index)));
    let mut ports = Ports::after(&[port(20)]);
    let down = Link {
        lower_up: false,
        ..port(23)
    };
    let free = Link {
        master: None,
        ..port(23)
    };
    let here = Link {
        peer_namespace: None,
        ..port(23)
    };
    for not_yet in [free, here, down] {
        let news = ports.news(LinkEvent::Changed(not_yet), inner);
        assert!(!matches!(news, Some(PortNews::Up(..))), "{news:?}");
    }
    assert_eq!(
        ports.news(LinkEvent::Changed(port(23)), inner),
        Some(up(23))
    );
    assert_eq!(ports.news(LinkEvent::Changed(port(23)), inner), None);
    assert_eq!(
        ports.news(LinkEvent::Gone(23), inner),
        Some(PortNews::Gone(IfIndex(23)))
    );
}

#[test]
fn a_port_from_before_is_never_told() {
    let inner = |number, index| Ok(Some(read(number, index)));
    let mut ports = Ports::after(&[port(20), port(22), port(7)]);
    assert_eq!(ports.news(LinkEvent::Changed(port(20)), inner), None);
    assert_eq!(ports.news(LinkEvent::Changed(port(22)), inner), None);
    assert_eq!(
        ports.news(LinkEvent::Changed(port(24)), inner),
        Some(up(24))
    );
}

#[test]
fn a_link_that_leaves_its_bridge_or_enters_another_is_told() {
    let inner = |number, index| Ok(Some(read(number, index)));
    let mut ports = Ports::after(&[port(20)]);
    let within = |master| Link { master, ..port(20) };
    let moved = Some(PortNews::Moved(IfIndex(20)));
    for (master, news) in [
        (Some(2), None),
        (None, moved),
        (None, None),
        (Some(3), moved),
        (Some(2), moved),
        (Some(2), None),
    ] {
        let event = LinkEvent::Changed(within(master));
        assert_eq!(ports.news(event, inner), news, "{master:?}");
    }
}

#[test]
fn an_inner_end_that_cannot_be_read_is_not_guessed_later() {
    let inner = |number, index| Ok(Some(read(number, index)));
    let mut ports = Ports::after(&[]);
    let denied = |_, _| Err(io::ErrorKind::PermissionDenied.into());
    let news = ports.news(LinkEvent::Changed(port(23)), denied);
    assert_eq!(news, Some(PortNews::Moved(IfIndex(23))));
    assert_eq!(ports.news(LinkEvent::Changed(port(23)), inner), None);
}
