//! Random bytes, and real messages with random changes: nothing makes the decoder panic.

use std::net::Ipv4Addr;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::chain::{Chain, ChainType, HookPoint};
use crate::conntrack::{Conntrack, Tuple};
use crate::datatype::DataType;
use crate::monitor::Event;
use crate::uapi::nl::{NLM_F_CREATE, message_type};
use crate::wire::Writer;
use crate::{Batch, Element, Family, NamedCounter, Rule, Set, Table, Verdict, expr};

const T: &str = "t";

/// One batch with every kind of message.
fn ruleset() -> Vec<u8> {
    let (f, ip) = (Family::Netdev, DataType::IPV4_ADDR);
    let a = Ipv4Addr::new(10, 0, 0, 1);
    let mut batch = Batch::new();
    batch.add_table(&Table::new(f, T).comment("c"));
    let egress = HookPoint::NETDEV_EGRESS;
    let chain = Chain::base(f, T, "c", ChainType::Filter, egress, -5);
    batch.add_chain(&chain.devices(["a", "b"]).comment("x"));
    batch.add_rule(&Rule::new(f, T, "c", expr::samples()).comment("r"));
    let timed = Set::map(f, T, "m", [ip, ip], ip).interval().counter();
    batch.add_set(&timed.timeout(Duration::from_secs(5)).comment("s"));
    let element = Element::map(a, Verdict::Goto("c".into()))
        .key_end(a)
        .timeout(Duration::from_secs(9))
        .expr(expr::Counter::default())
        .comment("e");
    batch.add_elements(f, T, "m", [element, Element::object(a, "n")]);
    batch.add_counter(&NamedCounter::new(f, T, "n").comment("n"));
    batch.delete_table(f, T);
    batch.datagram(1).as_slice().to_vec()
}

fn connection() -> Vec<u8> {
    let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    let mut entry = Conntrack::new(
        Tuple::ports(6, (a.into(), 1), (b.into(), 2)),
        Duration::from_secs(7),
    );
    entry.mark = 5;
    entry.tcp_state = Some(3);
    let mut w = Writer::new();
    let kind = message_type(NFNL_SUBSYS_CTNETLINK, 0);
    let mark = w.begin_message(kind, NLM_F_CREATE, 1, 2, 0);
    entry.encode(&mut w);
    w.end_message(mark);
    w.as_slice().to_vec()
}

fn packet() -> Vec<u8> {
    let mut w = Writer::new();
    let mark = w.begin_message(message_type(NFNL_SUBSYS_ULOG, 0), 0, 0, 7, 3);
    w.bytes(1, &[8, 0, 1, 0]);
    w.bytes(3, &[0; 16]);
    w.be32(4, 9);
    w.bytes(8, &[0, 6, 0, 0, 1, 2, 3, 4, 5, 6, 0, 0]);
    w.bytes(9, &[0x45; 40]);
    w.str(10, "prefix");
    w.end_message(mark);
    w.as_slice().to_vec()
}

fn real() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(ruleset()), Just(connection()), Just(packet())]
}

/// Decodes, and asserts that decoded expressions are written and read without loss.
fn exercise(datagram: &[u8]) {
    for decoded in decode(datagram) {
        let Ok(Decoded::Ruleset(Event::NewRule(rule))) = decoded else {
            continue;
        };
        let mut batch = Batch::new();
        batch.add_rule(&rule);
        let again = decode(batch.datagram(1).as_slice())
            .filter_map(Result::ok)
            .find_map(|decoded| match decoded {
                Decoded::Ruleset(Event::NewRule(rule)) => Some(rule),
                _ => None,
            });
        assert_eq!(again.map(|rule| rule.exprs), Some(rule.exprs));
    }
}

#[test]
fn real_messages_decode_whole() {
    for (datagram, count) in [(ruleset(), 9), (connection(), 1), (packet(), 1)] {
        let all: Vec<_> = decode(&datagram).collect::<Result<_, _>>().unwrap();
        assert_eq!(all.len(), count);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        exercise(&bytes);
    }

    #[test]
    fn random_attributes_do_not_panic(
        subsys in prop_oneof![Just(1_u16), Just(4), Just(10)],
        kind in 0_u16..40,
        bytes in prop::collection::vec(0_u8..40, 0..256),
    ) {
        let mut w = Writer::new();
        let mark = w.begin_message(message_type(subsys, kind), 0, 0, 2, 0);
        w.bytes(4, &bytes);
        w.end_message(mark);
        exercise(w.as_slice());
    }

    #[test]
    fn changed_messages_do_not_panic(
        mut datagram in real(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
        truncate in any::<bool>(),
    ) {
        for (at, value) in changes {
            let at = at.index(datagram.len());
            datagram[at] = value;
        }
        if truncate {
            datagram.truncate(cut.index(datagram.len()));
        }
        exercise(&datagram);
    }
}
