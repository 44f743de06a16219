use std::net::{IpAddr, UdpSocket};

use super::*;
use crate::testing::{in_namespace, sh};

/// In alphabetical order. The error that a sender is told of may ask for others.
const TO: [&str; 4] = ["192.0.2.1", "192.0.2.3", "198.51.100.1", "2001:db8::1"];

#[test]
fn only_what_waits_at_this_interface_is_dropped() {
    in_namespace(|| {
        sh("ip link add up0 type veth peer name far0
            ip link add up1 type veth peer name far1
            ip link set up0 up; ip link set far0 up; ip link set up1 up; ip link set far1 up
            ip addr add 192.0.2.2/24 dev up0; ip addr add 198.51.100.2/24 dev up1
            ip addr add 2001:db8::2/64 dev up0 nodad
            ip neigh add 192.0.2.9 dev up0 lladdr 02:00:00:00:00:01 nud reachable");
        for to in TO {
            let to: IpAddr = to.parse().unwrap();
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).unwrap();
            socket.send_to(b"?", (to, 7)).unwrap();
        }
        let waiting = || {
            let mut found: Vec<String> = sh("ip neigh show nud incomplete")
                .lines()
                .filter_map(|line| line.split(' ').next().map(str::to_owned))
                .filter(|address| TO.contains(&address.as_str()))
                .collect();
            found.sort();
            found
        };
        assert_eq!(waiting(), TO);
        let mut rtnl = Rtnetlink::open().unwrap();
        drop(&mut rtnl, "up0").unwrap();
        assert_eq!(waiting(), ["198.51.100.1"]);
        assert!(sh("ip neigh show 192.0.2.9").contains("REACHABLE"));
        drop(&mut rtnl, "up0").unwrap();
        drop(&mut rtnl, "not-there").unwrap();
    });
}
