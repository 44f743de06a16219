use super::*;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

const A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const B: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const EGRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 11));

fn translated() -> Conntrack {
    let mut entry = Conntrack::new(Tuple::ports(6, (A, 1000), (B, 80)), Duration::from_mins(1));
    entry.reply.dst = EGRESS;
    entry.mark = 0x1234;
    entry.zone = 7;
    entry
}

#[test]
fn an_entry_reads_back_as_written() {
    for ports in [
        Ports::Ports { src: 1, dst: 2 },
        Ports::Icmp {
            id: 9,
            kind: 8,
            code: 0,
        },
        Ports::None,
    ] {
        let mut entry = translated();
        entry.original.ports = ports;
        entry.tcp_state = Some(3);
        entry.status = Status::ASSURED | Status::SRC_NAT;
        let mut w = Writer::new();
        entry.encode(&mut w);
        assert_eq!(Conntrack::decode(w.as_slice()), Ok(entry));
    }
}

#[test]
fn a_filter_wants_all_that_is_set() {
    let entry = translated();
    let from = Filter::original_src(A);
    assert!(Filter::all().matches(&entry));
    assert!(from.matches(&entry));
    assert!(!Filter::original_src(B).matches(&entry));
    assert!(from.reply_dst(EGRESS).matches(&entry));
    assert!(!from.reply_dst(A).matches(&entry));
    assert!(!from.except_reply_dst(EGRESS).matches(&entry));
    assert!(from.except_reply_dst(A).matches(&entry));
    assert!(from.zone(7).matches(&entry));
    assert!(!from.zone(0).matches(&entry));
    assert!(from.mark(0x30, 0xf0).matches(&entry));
    assert!(!from.mark(0x40, 0xf0).matches(&entry));
}
