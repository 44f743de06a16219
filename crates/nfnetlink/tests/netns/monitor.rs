//! The monitor hears what nft does, and who did it.

use std::time::Duration;

use nfnetlink::monitor::{self, Event, Touch};
use nfnetlink::{Batch, Family, Listener, Notice, Socket, Table};

use super::namespace::{in_namespace, run};

const LIMIT: Duration = Duration::from_secs(20);

/// The events of one transaction, its generation included.
fn transaction(events: &mut Listener<Event>) -> Vec<Event> {
    let mut all = Vec::new();
    loop {
        match events.next(LIMIT).unwrap() {
            Some(Notice::Event(event)) => {
                let end = matches!(event, Event::Generation(_));
                all.push(event);
                if end {
                    return all;
                }
            }
            other => panic!("{other:?} after {all:?}"),
        }
    }
}

#[test]
fn a_transaction_comes_in_order_and_ends_with_its_generation() {
    in_namespace(|| {
        let mut events = monitor::listen().unwrap();
        run(
            "nft",
            &[
                "table inet t { comment \"c\"; counter n { }; set s { type ipv4_addr; \
               elements = { 10.0.0.1 }; }; chain c { ip saddr @s drop comment \"x\"; }; }",
            ],
        );
        let all = transaction(&mut events);
        let has = |wanted: fn(&Event) -> bool| assert!(all.iter().any(wanted), "{all:?}");
        has(|e| matches!(e, Event::NewTable(t) if t.comment.as_deref() == Some("c")));
        has(|e| matches!(e, Event::NewChain(c) if c.name == "c" && c.table == "t"));
        has(|e| matches!(e, Event::NewRule(r) if r.comment.as_deref() == Some("x")));
        has(|e| matches!(e, Event::NewSet(s) if s.name == "s"));
        has(|e| matches!(e, Event::NewElements(e) if e.set == "s" && e.elements.len() == 1));
        has(|e| matches!(e, Event::NewCounter(n) if n.name == "n"));
        let Some(Event::Generation(generation)) = all.last() else {
            panic!("{all:?}");
        };
        assert_eq!(generation.process.as_deref(), Some("nft"));
        assert!(generation.pid.is_some());
        let now = Socket::open().unwrap().generation().unwrap();
        assert_eq!(generation.id, now);

        run("nft", &["delete element inet t s { 10.0.0.1 }"]);
        let all = transaction(&mut events);
        assert!(
            matches!(&all[0], Event::DelElements(e) if e.elements.len() == 1),
            "{all:?}"
        );
        run("nft", &["delete table inet t"]);
        let all = transaction(&mut events);
        assert!(
            all.iter()
                .any(|e| matches!(e, Event::DelTable(t) if t.name == "t"))
        );
        assert!(all.iter().any(|e| matches!(e, Event::DelChain(_))));
        assert!(all.iter().any(|e| matches!(e, Event::DelSet(_))));
        assert!(all.iter().any(|e| matches!(e, Event::DelRule(_))));
        assert!(all.iter().any(|e| matches!(e, Event::DelCounter(_))));
    });
}

#[test]
fn our_own_changes_are_told_apart_by_the_thread() {
    in_namespace(|| {
        let mut events = monitor::listen().unwrap();
        let mut batch = Batch::new();
        batch.add_table(&Table::new(Family::Ip, "mine"));
        Socket::open().unwrap().commit(&batch).unwrap();
        let all = transaction(&mut events);
        let Some(Event::Generation(generation)) = all.last() else {
            panic!("{all:?}");
        };
        let thread = nix::unistd::gettid().as_raw().cast_unsigned();
        assert_eq!(generation.pid, Some(thread));
    });
}

#[test]
fn a_touch_tells_the_table_and_whose_socket_it_was() {
    in_namespace(|| {
        let mut touches = monitor::listen_to_touches().unwrap();
        let mut next = || match touches.next(LIMIT).unwrap() {
            Some(Notice::Event(touch)) => touch,
            other => panic!("{other:?}"),
        };
        let mut socket = Socket::open().unwrap();
        let mine = socket.port().unwrap();
        let mut batch = Batch::new();
        batch.add_table(&Table::new(Family::Ip, "mine"));
        socket.commit(&batch).unwrap();
        let table = Some((Family::Ip, "mine".to_owned()));
        assert_eq!(next(), Touch { port: mine, table });
        let end = Touch {
            port: mine,
            table: None,
        };
        assert_eq!(next(), end);

        run(
            "nft",
            &[
                "table ip mine { counter n { }; set s { type ipv4_addr; elements = { 10.0.0.1 }; }; chain c { ip saddr @s drop; }; }",
            ],
        );
        let mut things = 0;
        loop {
            let touch = next();
            assert_ne!(touch.port, mine);
            match touch.table {
                Some(table) => assert_eq!(table, (Family::Ip, "mine".to_owned())),
                None => break,
            }
            things += 1;
        }
        assert!(things >= 5, "counter, set, element, chain, rule: {things}");
    });
}

#[test]
fn lost_changes_are_told() {
    in_namespace(|| {
        let mut events = monitor::listen().unwrap();
        events.set_receive_buffer(4096).unwrap();
        let mut socket = Socket::open().unwrap();
        for number in 0..200 {
            let mut batch = Batch::new();
            batch.add_table(&Table::new(Family::Ip, format!("t{number}")));
            socket.commit(&batch).unwrap();
        }
        let mut lost = false;
        while let Some(notice) = events.next(Duration::ZERO).unwrap() {
            lost |= notice == Notice::Lost;
        }
        assert!(lost);
    });
}
