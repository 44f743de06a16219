use super::*;
use crate::testing::{in_namespace, open_kernel, sh};

#[test]
fn a_neighbours_stale_entry_is_corrected() {
    in_namespace(|| {
        sh(
            "for conf in all default; do echo 0 > /proc/sys/net/ipv6/conf/$conf/accept_dad; done
            ip link add up0 type veth peer name far0
            ip link set up0 up; ip link set far0 up
            ip addr add 192.0.2.1/24 dev far0; ip addr add 2001:db8::1/64 dev far0
            ip neigh add 192.0.2.11 lladdr 02:00:00:00:00:01 dev far0 nud stale
            ip neigh add 2001:db8::11 lladdr 02:00:00:00:00:01 dev far0 nud stale",
        );
        let (mut kernel, _state) = open_kernel();
        let uplink = facts::link_by_name(kernel.rtnetlink(), "up0")
            .unwrap()
            .unwrap();
        let MacAddress(bytes) = uplink.mac.unwrap();
        let expected = bytes.map(|byte| format!("{byte:02x}")).join(":");
        for address in ["192.0.2.11", "2001:db8::11"] {
            kernel.announce("up0", address.parse().unwrap()).unwrap();
            let entry = sh(&format!("ip neigh show {address} dev far0"));
            assert!(entry.contains(&expected), "{entry}");
        }
    });
}

#[test]
fn an_uplink_that_is_gone_is_named() {
    in_namespace(|| {
        let (mut kernel, _state) = open_kernel();
        let error = kernel
            .announce("up7", "192.0.2.11".parse().unwrap())
            .unwrap_err();
        assert!(error.to_string().contains("up7"), "{error}");
    });
}
