//! Transactions: all or nothing, errors that name the operation, 100,000 elements.

use std::net::Ipv4Addr;

use nfnetlink::datatype::DataType;
use nfnetlink::{Batch, Data, Element, Family, Set, Socket, Table};

use super::namespace::{in_namespace, nft_objects, nft_objects_of};

const INET: Family = Family::Inet;

fn socket_with_map() -> Socket {
    let mut socket = Socket::open().unwrap();
    let mut batch = Batch::new();
    batch.add_table(&Table::new(INET, "t"));
    let ip = DataType::IPV4_ADDR;
    batch.add_set(&Set::map(INET, "t", "m", ip, ip));
    batch.add_set(&Set::new(INET, "t", "counted", ip).counter());
    socket.commit(&batch).unwrap();
    socket
}

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 + number)
}

#[test]
fn a_refused_batch_changes_nothing_and_names_the_operation() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        let mut batch = Batch::new();
        batch.add_table(&Table::new(INET, "t"));
        batch.delete_chain(INET, "t", "absent");
        batch.add_table(&Table::new(INET, "u"));
        let error = socket.commit(&batch).unwrap_err();
        let nfnetlink::Error::Refused(refusal) = &error else {
            panic!("{error}");
        };
        assert_eq!(refusal.index, Some(1));
        assert_eq!(refusal.operation, "delete chain inet t absent");
        assert!(error.is_not_found());
        assert!(refusal.offset.is_some(), "the kernel points at the name");
        assert_eq!(nft_objects(), Vec::<serde_json::Value>::new());
        // The socket is as good as before.
        let mut batch = Batch::new();
        batch.add_table(&Table::new(INET, "t"));
        socket.commit(&batch).unwrap();
    });
}

#[test]
fn a_refused_element_is_named() {
    in_namespace(|| {
        let mut socket = socket_with_map();
        let mut batch = Batch::new();
        batch.add_elements(INET, "t", "m", [Element::map(address(1500), address(0))]);
        socket.commit(&batch).unwrap();
        let mut batch = Batch::new();
        batch.add_table(&Table::new(INET, "t"));
        let elements = (0..2000).map(|n| Element::map(address(n), address(n)));
        batch.create_elements(INET, "t", "m", elements);
        let error = socket.commit(&batch).unwrap_err();
        assert!(error.is_exists(), "{error}");
        let nfnetlink::Error::Refused(refusal) = error else {
            panic!("{error}");
        };
        assert_eq!(refusal.index, Some(1));
        assert_eq!(refusal.element, Some(1500));
        assert_eq!(refusal.operation, "create element inet t m");
    });
}

#[test]
fn several_refusals_are_counted() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        let mut batch = Batch::new();
        for name in ["a", "b", "c"] {
            batch.delete_table(INET, name);
        }
        let nfnetlink::Error::Refused(refusal) = socket.commit(&batch).unwrap_err() else {
            panic!("refused otherwise");
        };
        assert_eq!((refusal.index, refusal.others), (Some(0), 2));
    });
}

#[test]
fn a_stale_generation_is_refused_as_a_whole() {
    in_namespace(|| {
        let mut socket = socket_with_map();
        let generation = socket.generation().unwrap();
        let mut first = Batch::new().at_generation(generation);
        first.add_table(&Table::new(INET, "u"));
        socket.commit(&first).unwrap();
        let mut second = Batch::new().at_generation(generation);
        second.add_table(&Table::new(INET, "v"));
        let error = socket.commit(&second).unwrap_err();
        assert!(error.is_stale_generation(), "{error}");
        assert_eq!(nft_objects_of("table").len(), 2);
        let now = socket.generation().unwrap();
        socket.commit(&second.at_generation(now)).unwrap();
        assert_eq!(nft_objects_of("table").len(), 3);
    });
}

#[test]
fn a_hundred_thousand_elements_are_one_batch() {
    in_namespace(|| {
        let mut socket = socket_with_map();
        let mut batch = Batch::new();
        let elements = (0..100_000).map(|n| Element::map(address(n), address(n + 1)));
        batch.add_elements(INET, "t", "m", elements);
        assert_eq!(batch.len(), 1);
        socket.commit(&batch).unwrap();

        let found = socket.element(INET, "t", "m", &address(77_777).into());
        let element = found.unwrap().unwrap();
        assert_eq!(element.data, Some(address(77_778).into()));
        let all = socket.elements(INET, "t", "m").unwrap();
        assert_eq!(all.len(), 100_000);

        let mut batch = Batch::new();
        let keys = (0..100_000).map(|n| Element::new(address(n)));
        batch.delete_elements(INET, "t", "m", keys);
        socket.commit(&batch).unwrap();
        assert_eq!(socket.elements(INET, "t", "m").unwrap(), []);
    });
}

#[test]
fn single_elements_are_added_looked_up_and_deleted() {
    in_namespace(|| {
        let mut socket = socket_with_map();
        let key = Data::from(address(1));
        assert_eq!(socket.element(INET, "t", "counted", &key).unwrap(), None);
        let mut batch = Batch::new();
        batch.add_elements(INET, "t", "counted", [Element::new(key).comment("c")]);
        socket.commit(&batch).unwrap();
        let element = socket.element(INET, "t", "counted", &key).unwrap().unwrap();
        assert_eq!(element.counter(), Some(nfnetlink::expr::Counter::default()));
        assert_eq!(element.comment.as_deref(), Some("c"));
        let mut batch = Batch::new();
        batch.delete_elements(INET, "t", "counted", [Element::new(key)]);
        socket.commit(&batch).unwrap();
        assert_eq!(socket.element(INET, "t", "counted", &key).unwrap(), None);
        let error = socket.commit(&batch).unwrap_err();
        assert!(error.is_not_found(), "{error}");
    });
}

#[test]
fn destroying_what_is_not_there_succeeds() {
    in_namespace(|| {
        let mut socket = socket_with_map();
        assert!(socket.supports_destroy().unwrap(), "kernel 6.3 or newer");
        let mut batch = Batch::new();
        batch.destroy_set(INET, "t", "absent");
        batch.destroy_elements(INET, "t", "m", [Element::new(address(9))]);
        batch.destroy_counter(INET, "t", "absent");
        batch.destroy_chain(INET, "t", "absent");
        batch.destroy_table(INET, "absent");
        socket.commit(&batch).unwrap();
    });
}
