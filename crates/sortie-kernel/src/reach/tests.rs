use super::*;
use crate::testing::{in_namespace, sh};

#[test]
fn a_cable_and_a_router_that_are_not_there_are_told() {
    in_namespace(|| {
        sh("ip link add up0 type veth peer name far0
            ip addr add 192.0.2.2/24 dev up0
            ip addr add 2001:db8::2/64 dev up0 nodad");
        let mut rtnl = Rtnetlink::open().unwrap();
        let gateways: [IpAddr; 2] = ["192.0.2.1", "2001:db8::1"].map(|it| it.parse().unwrap());
        let mut told = |gateway| trouble(&mut rtnl, "up0", gateway).unwrap();
        assert_eq!(told(None), Some(Trouble::Down));
        sh("ip link set up0 up");
        assert_eq!(told(None), Some(Trouble::NoCarrier));
        sh("ip link set far0 up");
        for gateway in gateways {
            let gateway = Some(gateway);
            assert_eq!(told(None), None);
            assert_eq!(told(gateway), None, "nobody has asked yet");
        }
        for gateway in gateways {
            let neighbour = format!("ip neigh replace {gateway} dev up0");
            sh(&format!("{neighbour} nud failed"));
            assert_eq!(told(Some(gateway)), Some(Trouble::Silent(gateway)));
            for state in ["reachable", "stale", "permanent"] {
                sh(&format!("{neighbour} lladdr 02:00:00:00:00:01 nud {state}"));
                assert_eq!(told(Some(gateway)), None, "{state}");
            }
        }
    });
}
