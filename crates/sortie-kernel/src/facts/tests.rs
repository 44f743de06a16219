use super::*;
use crate::testing::{in_namespace, sh};

fn by_name<'a>(facts: &'a Facts, name: &str) -> &'a Link {
    facts.links.iter().find(|link| link.name == name).unwrap()
}

#[test]
fn links_addresses_and_default_routes_are_read() {
    in_namespace(|| {
        sh("ip link add br0 type bridge
            ip link add up0 type veth peer name far0
            ip link add port0 type veth peer name far1
            ip link set port0 master br0 alias 'some text'
            ip link set up0 up; ip link set far0 up; ip link set br0 up
            ip addr add 192.0.2.2/24 dev up0
            ip addr add 192.0.2.9/32 dev up0
            ip addr add 2001:db8::2/64 dev up0 nodad
            ip addr add 2001:db8::9/128 dev up0 nodad preferred_lft 0
            ip addr add 10.0.0.1 peer 10.0.0.2 dev lo
            ip route add default via 192.0.2.1 metric 5
            ip route add default via 192.0.2.3 metric 3
            ip route add 198.51.100.0/24 via 192.0.2.1
            ip route add default via 192.0.2.4 table 100
            ip route add default via 192.0.2.5 table 83002 proto 83
            ip -6 route add default via 2001:db8::1 metric 7");
        let facts = read(&mut Rtnetlink::open().unwrap()).unwrap();
        let up = by_name(&facts, "up0");
        let bridge = by_name(&facts, "br0");
        let port = by_name(&facts, "port0");
        assert_eq!(up.kind.as_deref(), Some("veth"));
        assert!(up.up && up.carrier && up.mac.is_some());
        assert_eq!(bridge.kind.as_deref(), Some("bridge"));
        assert_eq!(port.master, Some(bridge.index));
        assert_eq!(port.alias.as_deref(), Some("some text"));
        assert!(!port.up && !port.carrier);

        let find = |net: &str| {
            let net: IpNet = net.parse().unwrap();
            facts.addresses.iter().find(|found| found.net == net)
        };
        assert_eq!(find("192.0.2.9/32").unwrap().link, up.index);
        assert!(!find("2001:db8::2/64").unwrap().deprecated);
        assert!(find("2001:db8::9/128").unwrap().deprecated);
        assert!(find("10.0.0.1/32").is_some(), "the peer is not our address");

        let expected = [
            (false, "192.0.2.3", 3),
            (false, "192.0.2.1", 5),
            (true, "2001:db8::1", 7),
        ]
        .map(|(v6, gateway, metric)| DefaultRoute {
            v6,
            link: up.index,
            gateway: Some(gateway.parse().unwrap()),
            metric,
        });
        assert_eq!(facts.defaults, expected);
        let others = facts.other_defaults.iter();
        let others: Vec<_> = others.map(|route| route.gateway.unwrap()).collect();
        assert_eq!(others, ["192.0.2.4".parse::<IpAddr>().unwrap()]);
    });
}

#[test]
fn every_next_hop_of_a_default_route_is_told() {
    in_namespace(|| {
        sh("ip link add p0 type veth peer name q0
            ip link set p0 up; ip link set q0 up
            ip addr add 192.0.2.2/24 dev p0
            ip route add default nexthop via 192.0.2.1 nexthop via 192.0.2.3");
        let (defaults, _) = default_routes(&mut Rtnetlink::open().unwrap()).unwrap();
        let gateways: Vec<_> = defaults
            .iter()
            .map(|route| route.gateway.unwrap().to_string())
            .collect();
        assert_eq!(gateways, ["192.0.2.1", "192.0.2.3"]);
    });
}

#[test]
fn the_kernels_own_choice_of_a_route_is_told() {
    in_namespace(|| {
        sh("ip link add p0 type veth peer name q0
            ip link set p0 up; ip link set q0 up
            ip addr add 192.0.2.2/24 dev p0
            ip addr add 2001:db8::2/64 dev p0 nodad
            ip route add default via 192.0.2.1
            ip route add blackhole 198.51.100.0/24
            ip -6 route add unreachable 2001:db8:1::/48");
        let mut rtnl = Rtnetlink::open().unwrap();
        let device = link_by_name(&mut rtnl, "p0").unwrap().unwrap().index;
        let mut ask = |destination: &str| {
            let query = RouteQuery {
                destination: destination.parse().unwrap(),
                source: None,
                input: None,
                mark: 0,
            };
            lookup(&mut rtnl, &query).unwrap()
        };
        let far = ask("203.0.113.1").unwrap();
        assert_eq!(far.link, device);
        assert_eq!(far.gateway, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(far.source, Some("192.0.2.2".parse().unwrap()));
        assert_eq!(ask("192.0.2.77").unwrap().gateway, None);
        assert!(ask("192.0.2.2").unwrap().local);
        assert_eq!(ask("198.51.100.1"), None);
        assert_eq!(ask("2001:db8::7").unwrap().link, device);
        assert_eq!(ask("2001:db8:1::1"), None);
        assert_eq!(ask("2001:db8:ffff::1"), None, "no default route");
    });
}

#[test]
fn an_interface_that_is_not_there_is_none() {
    in_namespace(|| {
        let mut rtnl = Rtnetlink::open().unwrap();
        assert_eq!(link_by_name(&mut rtnl, "nope0").unwrap(), None);
        assert_eq!(link_by_name(&mut rtnl, "lo").unwrap().unwrap().index.0, 1);
    });
}
