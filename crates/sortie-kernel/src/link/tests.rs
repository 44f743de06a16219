use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use sortie_plan::op::Op;
use sortie_plan::state::{ProxyNeighbour, Route, Sysctl};

use super::*;
use crate::testing::{in_namespace, open_kernel, sh};

/// Generous: only a failure waits so long.
const LIMIT: Duration = Duration::from_secs(20);

fn owner() -> WorkloadId {
    WorkloadId::from("process/42")
}

/// The host, the calling thread's namespace, has `up0` to an internet that is given.
fn internet() -> Namespace {
    let internet = Namespace::anonymous().unwrap();
    // Detection of duplicates would delay the first IPv6 packets by seconds.
    let no_detection =
        "for conf in all default; do echo 0 > /proc/sys/net/ipv6/conf/$conf/accept_dad; done";
    sh(no_detection);
    let fd = internet.as_fd().as_raw_fd();
    let path = format!("/proc/{}/fd/{fd}", std::process::id());
    internet.enter(|| sh(no_detection)).unwrap();
    sh(&format!(
        "ip link add up0 type veth peer name far0 netns {path}
         ip addr add 192.0.2.2/24 dev up0; ip addr add 2001:db8::2/64 dev up0 nodad
         ip link set up0 up"
    ));
    internet
        .enter(|| {
            sh("ip link set lo up
                ip addr add 192.0.2.1/24 dev far0; ip addr add 2001:db8::1/64 dev far0 nodad
                ip link set far0 up");
        })
        .unwrap();
    internet
}

/// What the plan asks of the host for a direct workload.
fn plan(link: &DirectLink, addresses: &[IpAddr]) -> Vec<Op> {
    let mut ops: Vec<Op> = [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
        ("net/ipv6/conf/up0/proxy_ndp", "1"),
        ("net/ipv4/neigh/up0/proxy_delay", "0"),
        ("net/ipv6/neigh/up0/proxy_delay", "0"),
    ]
    .map(|(name, value)| Op::SetSysctl(Sysctl(name.to_owned()), value.to_owned()))
    .into();
    for address in addresses {
        ops.push(Op::AddRoute(Route {
            table: 254,
            destination: (*address).into(),
            device: link.host_name.clone(),
            gateway: None,
        }));
        ops.push(Op::AddNeighbour(ProxyNeighbour {
            address: *address,
            device: "up0".to_owned(),
        }));
    }
    ops.push(Op::AddForwarded(link.host_name.clone()));
    ops
}

#[test]
fn a_process_is_seen_with_its_own_address() {
    in_namespace(|| {
        let internet = internet();
        sh("iptables-nft -P FORWARD DROP; ip6tables-nft -P FORWARD DROP");
        let (mut kernel, _state) = open_kernel();
        let workload = Namespace::anonymous().unwrap();
        let addresses: [IpAddr; 2] = ["192.0.2.11", "2001:db8::11"].map(|ip| ip.parse().unwrap());
        let link = kernel.create_link(&owner(), &workload).unwrap();
        kernel.apply(&plan(&link, &addresses)).unwrap();
        kernel.configure_link(&link, &workload, &addresses).unwrap();
        for address in addresses {
            kernel.announce("up0", address).unwrap();
        }

        // Nobody on the pair ever asks for a MAC.
        let permanent = || sh("ip neigh show nud permanent; ip -6 neigh show nud permanent");
        let host = permanent();
        assert!(addresses.iter().all(|own| host.contains(&own.to_string())));
        let inside = workload.enter(permanent).unwrap();
        assert!(inside.contains("169.254.1.1 dev eth0") && inside.contains("fe80::1 dev eth0"));

        for (observer, own) in ["192.0.2.1", "2001:db8::1"].iter().zip(addresses) {
            let at = (observer.parse::<IpAddr>().unwrap(), 0);
            let (tcp, udp) = internet
                .enter(|| (TcpListener::bind(at).unwrap(), UdpSocket::bind(at).unwrap()))
                .unwrap();
            let to = tcp.local_addr().unwrap();
            let mut stream = workload
                .enter(|| TcpStream::connect_timeout(&to, LIMIT).unwrap())
                .unwrap();
            let (accepted, peer) = tcp.accept().unwrap();
            assert_eq!(peer.ip(), own);
            drop(accepted);
            stream.read_to_end(&mut Vec::new()).unwrap();

            let to = udp.local_addr().unwrap();
            let any = if own.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let sender = workload.enter(|| UdpSocket::bind(any).unwrap()).unwrap();
            udp.set_read_timeout(Some(LIMIT)).unwrap();
            sender.set_read_timeout(Some(LIMIT)).unwrap();
            sender.send_to(b"hello", to).unwrap();
            let (_, peer) = udp.recv_from(&mut [0; 16]).unwrap();
            assert_eq!(peer.ip(), own);
            udp.send_to(b"answer", peer).unwrap();
            sender.recv_from(&mut [0; 16]).unwrap();
        }
        let rules = sh("iptables-nft -S FORWARD; ip6tables-nft -S FORWARD; iptables-nft-save");
        assert!(
            rules.contains(&format!("-i {} ", link.host_name)),
            "{rules}"
        );
    });
}

#[test]
fn the_inner_end_is_eth0_or_the_next_name_and_down() {
    in_namespace(|| {
        let (mut kernel, _state) = open_kernel();
        let workload = Namespace::anonymous().unwrap();
        let link = kernel.create_link(&owner(), &workload).unwrap();
        assert_eq!(link.inner_name, "eth0");
        let other = WorkloadId::from("process/43");
        let second = kernel.create_link(&other, &workload).unwrap();
        assert_eq!(second.inner_name, "eth1");
        let inner = workload
            .enter(|| facts::links(&mut Rtnetlink::open().unwrap()).unwrap())
            .unwrap();
        assert!(inner.iter().all(|link| !link.up));
        assert!(inner.iter().any(|found| found.mac == Some(link.inner_mac)));
        let host = facts::link_by_name(kernel.rtnetlink(), &link.host_name)
            .unwrap()
            .unwrap();
        assert!(host.up);
        assert_eq!(host.mac, Some(link.host_mac));
    });
}

#[test]
fn pairs_are_found_replaced_and_deleted() {
    in_namespace(|| {
        let (mut kernel, _state) = open_kernel();
        let workload = Namespace::anonymous().unwrap();
        let first = kernel.create_link(&owner(), &workload).unwrap();
        let again = kernel.create_link(&owner(), &workload).unwrap();
        assert_eq!(again.host_name, first.host_name);
        assert_ne!(again.host, first.host);
        // Another program's, with a name like ours.
        sh("ip link add srt0123456789 type veth peer name x0
            ip link set srt0123456789 alias theirs");
        let found = kernel.links().unwrap();
        let [only] = found.as_slice() else {
            panic!("{found:?}");
        };
        assert_eq!(only.owner, Some(owner()));
        kernel.delete_found_link(only).unwrap();
        kernel.delete_link(&owner()).unwrap();
        assert_eq!(kernel.links().unwrap(), []);
    });
}

#[test]
fn a_pair_that_a_crash_left_without_a_label_is_found() {
    in_namespace(|| {
        let (mut kernel, _state) = open_kernel();
        sh(&format!(
            "ip link add {} type veth peer name eth0",
            host_name(&owner())
        ));
        let found = kernel.links().unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].owner, None);
    });
}
