use std::time::Duration;

use nfnetlink::conntrack::Tuple;

use super::*;

const TCP: u8 = 6;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A flow of a container, translated to an egress address and this port.
fn flow(from: u16, to: u16) -> Conntrack {
    let server = (ip("198.51.100.9"), 443);
    let original = Tuple::ports(TCP, (ip("172.17.0.2"), from), server);
    let mut flow = Conntrack::new(original, Duration::from_secs(1));
    flow.reply = Tuple::ports(TCP, server, (ip("203.0.113.11"), to));
    flow
}

fn counts(ports: &SourcePorts) -> Vec<u32> {
    ports.counts().map(|(_, count)| count).collect()
}

#[test]
fn a_flow_counts_for_the_source_that_the_other_side_sees() {
    let (towards, port) = port(&flow(40_000, 50_000)).unwrap();
    assert_eq!(towards.source, ip("203.0.113.11"));
    assert_eq!(
        (towards.destination, towards.port),
        (ip("198.51.100.9"), 443)
    );
    assert_eq!(port, 50_000);
}

#[test]
fn what_has_no_port_of_its_own_does_not_count() {
    assert_eq!(port(&flow(500, 500)), None, "given for low ports only");
    let mut icmp = flow(1, 2000);
    icmp.reply.ports = Ports::Icmp {
        id: 2000,
        kind: 0,
        code: 0,
    };
    assert_eq!(port(&icmp), None);
    let mut gre = flow(1, 2000);
    gre.reply.protocol = 47;
    assert_eq!(port(&gre), None);
}

#[test]
fn a_flow_that_is_told_twice_counts_once() {
    let mut ports = SourcePorts::default();
    for to in [50_000, 50_001, 50_000] {
        ports.add(port(&flow(1, to)).unwrap());
    }
    assert_eq!(counts(&ports), [2]);
    // Its end is told before a listing still has it, and after.
    ports.remove(port(&flow(1, 50_000)).unwrap());
    ports.remove(port(&flow(1, 50_000)).unwrap());
    assert_eq!(counts(&ports), [1]);
    ports.remove(port(&flow(1, 50_001)).unwrap());
    assert_eq!(
        counts(&ports),
        [0; 0],
        "nothing is kept of what is not used"
    );
}

#[test]
fn a_listing_replaces_what_was_known() {
    let mut ports = SourcePorts::default();
    ports.add(port(&flow(1, 50_000)).unwrap());
    let listed = [60_000, 50_001, 60_000].map(|to| port(&flow(1, to)).unwrap());
    ports.replace(listed.to_vec());
    assert_eq!(counts(&ports), [2]);
    ports.add(port(&flow(1, 60_000)).unwrap());
    assert_eq!(counts(&ports), [2]);
}

#[test]
fn scarce_is_four_fifths() {
    assert!(!is_scarce(51_609, TRANSLATED));
    assert!(is_scarce(51_610, TRANSLATED));
    assert!(is_scarce(22_586, DIRECT));
}
