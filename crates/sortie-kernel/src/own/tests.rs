use std::process::Command;

use super::*;
use crate::testing::{Container, in_namespace, sh};

fn own(container: &Container, address: &str) -> OwnAddress {
    OwnAddress {
        pid: container.pid(),
        mac: container.mac,
        address: address.parse().unwrap(),
    }
}

/// Addresses and default routes.
fn shown(container: &Container) -> String {
    container.sh(
        "ip -o addr show dev eth0 scope global; ip route show default; ip -6 route show default",
    )
}

#[test]
fn it_is_given_repaired_and_taken_back() {
    in_namespace(|| {
        let state = tempfile::tempdir().unwrap();
        let container = Container::new();
        let before = shown(&container);
        let both = ["203.0.113.21", "2001:db8::21"].map(|address| own(&container, address));
        let whole = BTreeMap::from(both.clone().map(|own| (own, Held::Whole)));
        let mut addresses = OwnAddresses::load(state.path()).unwrap();
        for own in both.iter().chain(&both) {
            addresses.add(own).unwrap();
        }
        assert_eq!(addresses.observe(Look::Everywhere).unwrap(), whole);
        let to_v4 = container.sh("ip route get 198.51.100.7");
        assert!(to_v4.contains("src 203.0.113.21"), "{to_v4}");
        let to_v6 = container.sh("ip -6 route get 2001:db8:51::7");
        assert!(to_v6.contains("src 2001:db8::21"), "{to_v6}");
        let beside = container.sh("ip -6 route get fd00::9");
        assert!(beside.contains("src fd00::2"), "{beside}");

        // Another process finds it by its notes, and what an engine does to it.
        let mut addresses = OwnAddresses::load(state.path()).unwrap();
        container.sh("ip route replace default via 172.17.0.1 dev eth0");
        container.sh("ip addr del 2001:db8::21/128 dev eth0");
        let found = addresses.observe(Look::Everywhere).unwrap();
        assert_eq!(found[&both[0]], Held::Partly);
        assert_ne!(found.get(&both[1]), Some(&Held::Whole));
        for own in &both {
            addresses.add(own).unwrap();
        }
        assert_eq!(addresses.observe(Look::Everywhere).unwrap(), whole);

        for own in both.iter().chain(&both) {
            addresses.delete(own).unwrap();
        }
        assert_eq!(shown(&container), before);
        assert_eq!(
            addresses.observe(Look::Everywhere).unwrap(),
            BTreeMap::new()
        );
    });
}

#[test]
fn what_is_gone_needs_nothing_and_the_host_is_never_touched() {
    in_namespace(|| {
        let state = tempfile::tempdir().unwrap();
        let mut addresses = OwnAddresses::load(state.path()).unwrap();
        let mut container = Container::new();
        let own = own(&container, "203.0.113.21");
        addresses.add(&own).unwrap();
        container.end();
        assert_eq!(
            addresses.observe(Look::Everywhere).unwrap(),
            BTreeMap::new()
        );
        addresses.add(&own).unwrap();
        addresses.delete(&own).unwrap();

        sh("ip link add up0 type veth peer name far0
            ip link set up0 up; ip link set far0 up; ip addr add 192.0.2.1/24 dev up0");
        let links = facts::links(&mut Rtnetlink::open().unwrap()).unwrap();
        let up = links.iter().find(|link| link.name == "up0").unwrap();
        // In this very namespace, as a container with the host's network is.
        let mut here = Command::new("sleep").arg("600").spawn().unwrap();
        let host = OwnAddress {
            pid: here.id(),
            mac: up.mac.unwrap(),
            ..own
        };
        addresses.add(&host).unwrap();
        let shown = sh("ip addr show up0");
        here.kill().unwrap();
        here.wait().unwrap();
        assert!(!shown.contains("203.0.113.21"), "{shown}");
    });
}

#[test]
fn a_namespace_is_looked_into_when_it_is_asked_for_or_was_given_something() {
    in_namespace(|| {
        let state = tempfile::tempdir().unwrap();
        let container = Container::new();
        let own = own(&container, "203.0.113.21");
        let mut addresses = OwnAddresses::load(state.path()).unwrap();
        let spoil = || container.sh("ip route replace default via 172.17.0.1 dev eth0");
        addresses.add(&own).unwrap();
        spoil();
        let mut found = |look| addresses.observe(look).unwrap()[&own];
        assert_eq!(found(Look::Nowhere), Held::Partly, "it was never looked at");
        assert_eq!(found(Look::Nowhere), Held::Partly);
        addresses.add(&own).unwrap();
        let mut found = |look| addresses.observe(look).unwrap()[&own];
        assert_eq!(found(Look::Nowhere), Held::Whole);
        spoil();
        assert_eq!(found(Look::Nowhere), Held::Whole, "as it was found last");
        assert_eq!(found(Look::Into(own.pid + 1)), Held::Whole);
        assert_eq!(found(Look::Into(own.pid)), Held::Partly);
        assert_eq!(found(Look::Nowhere), Held::Partly);
    });
}
