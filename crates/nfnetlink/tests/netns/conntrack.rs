//! Connection tracking, with connections made by netlink and by packets.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use nfnetlink::conntrack::{self, Conntrack, Event, Filter, Groups, Ports, Status, Tuple};
use nfnetlink::{Listener, Notice, Socket};

use super::namespace::{in_namespace, run};

const A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const B: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const SIX: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
const SIX_FAR: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9));
const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const EGRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 11));
const LIMIT: Duration = Duration::from_secs(20);

fn entry(src: IpAddr, port: u16) -> Conntrack {
    let dst = if src.is_ipv4() { FAR } else { SIX_FAR };
    let mut entry = Conntrack::new(Tuple::ports(6, (src, port), (dst, 80)), LIMIT * 100);
    // Established and confirmed, as conntrack wants TCP to be.
    entry.tcp_state = Some(3);
    entry.status = Status::ASSURED | Status::SEEN_REPLY | Status::CONFIRMED;
    entry
}

fn with(mut entry: Conntrack, change: impl FnOnce(&mut Conntrack)) -> Conntrack {
    change(&mut entry);
    entry
}

/// Connections of A and B, some translated, marked, in a zone, of IPv6.
fn populate(socket: &mut Socket) {
    let all = [
        entry(A, 1),
        with(entry(A, 2), |e| e.reply.dst = EGRESS),
        with(entry(A, 3), |e| e.mark = 0x0102),
        with(entry(A, 4), |e| e.zone = 5),
        entry(B, 5),
        entry(SIX, 6),
    ];
    for entry in &all {
        socket.create_conntrack(entry).unwrap();
    }
}

/// The source ports of what a filter lists.
fn ports(socket: &mut Socket, filter: &Filter) -> Vec<u16> {
    let mut ports: Vec<_> = socket
        .conntracks(filter)
        .unwrap()
        .iter()
        .map(|entry| match entry.original.ports {
            Ports::Ports { src, .. } => src,
            other => panic!("{other:?}"),
        })
        .collect();
    ports.sort_unstable();
    ports
}

fn next_event(events: &mut Listener<Event>) -> Event {
    match events.next(LIMIT).unwrap() {
        Some(Notice::Event(event)) => event,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_connection_is_found_by_what_its_answers_look_like() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        populate(&mut socket);
        let answers = Tuple::ports(6, (FAR, 80), (EGRESS, 2));
        let found = socket.conntrack_answered(&answers).unwrap().unwrap();
        assert_eq!(found.original, Tuple::ports(6, (A, 2), (FAR, 80)));
        // Not by what it looks like itself, and not where there is none.
        assert!(
            socket
                .conntrack_answered(&found.original)
                .unwrap()
                .is_none()
        );
        let none = Tuple::ports(6, (FAR, 80), (EGRESS, 3));
        assert!(socket.conntrack_answered(&none).unwrap().is_none());
        let six = Tuple::ports(6, (SIX_FAR, 80), (SIX, 6));
        assert!(socket.conntrack_answered(&six).unwrap().is_some());
    });
}

#[test]
fn filters_list_what_they_say() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        populate(&mut socket);
        let from = Filter::original_src(A);
        assert_eq!(ports(&mut socket, &Filter::all()), [1, 2, 3, 4, 5, 6]);
        assert_eq!(ports(&mut socket, &from), [1, 2, 3, 4]);
        assert_eq!(ports(&mut socket, &Filter::original_src(SIX)), [6]);
        let translated = Filter::all().reply_dst(EGRESS);
        assert_eq!(ports(&mut socket, &translated), [2]);
        let others = from.except_reply_dst(EGRESS);
        assert_eq!(ports(&mut socket, &others), [1, 3, 4]);
        assert_eq!(ports(&mut socket, &Filter::all().zone(5)), [4]);
        assert_eq!(ports(&mut socket, &Filter::all().mark(0x0100, 0xff00)), [3]);
        assert_eq!(ports(&mut socket, &from.mark(0, 0xff00)), [1, 2, 4]);
        // What the tool sees is the same.
        let listed = run("conntrack", &["-L", "-s", "10.0.0.1"]);
        assert_eq!(listed.lines().count(), 4, "{listed}");
    });
}

#[test]
fn entries_read_back_as_created() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        let icmp = Tuple {
            src: A,
            dst: FAR,
            protocol: 1,
            ports: Ports::Icmp {
                id: 77,
                kind: 8,
                code: 0,
            },
        };
        let mut echo = Conntrack::new(icmp, LIMIT * 100);
        echo.reply.ports = Ports::Icmp {
            id: 77,
            kind: 0,
            code: 0,
        };
        echo.status = Status::CONFIRMED;
        let marked = with(entry(A, 9), |e| {
            e.reply.dst = EGRESS;
            e.mark = 7;
            e.zone = 3;
        });
        for expected in [echo, marked, entry(SIX, 8)] {
            socket.create_conntrack(&expected).unwrap();
            let again = socket.create_conntrack(&expected).unwrap_err();
            assert!(again.is_exists(), "{again}");
            let all = socket.conntracks(&Filter::all()).unwrap();
            let [found] = all.as_slice() else {
                panic!("{all:?}");
            };
            assert_eq!(found.original, expected.original);
            assert_eq!(found.reply, expected.reply);
            assert_eq!((found.mark, found.zone), (expected.mark, expected.zone));
            assert_eq!(found.tcp_state, expected.tcp_state);
            assert!(found.status.contains(expected.status), "{found:?}");
            assert!(found.id.is_some());
            assert!(found.timeout.unwrap() > LIMIT);
            socket.delete_conntrack(found).unwrap();
            let error = socket.delete_conntrack(found).unwrap_err();
            assert!(error.is_not_found(), "{error}");
        }
    });
}

#[test]
fn deletion_spares_what_the_filter_spares() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        populate(&mut socket);
        let wrong = Filter::original_src(A).except_reply_dst(EGRESS);
        assert_eq!(socket.delete_conntracks(&wrong).unwrap(), 3);
        assert_eq!(ports(&mut socket, &Filter::all()), [2, 5, 6]);
        assert_eq!(socket.delete_conntracks(&wrong).unwrap(), 0);
    });
}

#[test]
fn a_connection_of_the_same_tuple_but_another_id_stays() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        socket.create_conntrack(&entry(A, 1)).unwrap();
        let found = socket.conntracks(&Filter::all()).unwrap().remove(0);
        let earlier = with(found.clone(), |e| e.id = e.id.map(|id| id ^ 1));
        let error = socket.delete_conntrack(&earlier).unwrap_err();
        assert!(error.is_not_found(), "{error}");
        socket.delete_conntrack(&found).unwrap();
    });
}

#[test]
fn events_tell_of_packets() {
    in_namespace(|| {
        run("ip", &["link", "set", "lo", "up"]);
        run("sysctl", &["-qw", "net.netfilter.nf_conntrack_acct=1"]);
        run("sysctl", &["-qw", "net.netfilter.nf_conntrack_timestamp=1"]);
        // A rule that uses connection tracking switches it on.
        run(
            "nft",
            &[
                "table ip t { chain c { type nat hook postrouting priority 100; \
               udp dport 53 snat to 127.0.0.9; }; }",
            ],
        );
        let mut events = conntrack::listen(Groups::NEW | Groups::UPDATE | Groups::DESTROY).unwrap();
        assert_eq!(events.next(Duration::ZERO).unwrap(), None);
        let server = UdpSocket::bind("127.0.0.1:53").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_read_timeout(Some(LIMIT)).unwrap();
        client.send_to(b"ping", "127.0.0.1:53").unwrap();
        let mut buffer = [0; 16];
        let (_, seen) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(seen.ip(), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9)));

        let Event::New(new) = next_event(&mut events) else {
            panic!("something else came first");
        };
        assert_eq!(new.original.dst, IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert_eq!(new.reply.dst, seen.ip(), "the translated source");
        assert!(new.status.contains(Status::SRC_NAT));

        server.send_to(b"pong", seen).unwrap();
        let Event::Update(update) = next_event(&mut events) else {
            panic!("no update");
        };
        assert!(update.status.contains(Status::SEEN_REPLY));
        assert_eq!(update.id, new.id);

        let mut socket = Socket::open().unwrap();
        assert_eq!(socket.delete_conntracks(&Filter::all()).unwrap(), 1);
        let Event::Destroy(end) = next_event(&mut events) else {
            panic!("no end");
        };
        let counter = end.original_counter.unwrap();
        assert_eq!((counter.packets, counter.bytes), (1, 32));
        assert_eq!(end.reply_counter.unwrap().packets, 1);
        assert!(end.start.unwrap() <= end.stop.unwrap());
    });
}

#[test]
fn lost_events_are_told() {
    in_namespace(|| {
        let mut events = conntrack::listen(Groups::NEW).unwrap();
        events.set_receive_buffer(4096).unwrap();
        let mut socket = Socket::open().unwrap();
        for port in 1..200 {
            socket.create_conntrack(&entry(A, port)).unwrap();
        }
        let mut heard = HashSet::new();
        let mut lost = false;
        while let Some(notice) = events.next(Duration::ZERO).unwrap() {
            match notice {
                Notice::Event(Event::New(entry)) => {
                    heard.insert(entry.original);
                }
                Notice::Event(other) => panic!("{other:?}"),
                Notice::Lost => lost = true,
            }
        }
        assert!(lost && heard.len() < 199, "{} heard", heard.len());
        // It goes on.
        socket.create_conntrack(&entry(B, 1)).unwrap();
        assert!(matches!(next_event(&mut events), Event::New(entry) if entry.original.src == B));
    });
}
