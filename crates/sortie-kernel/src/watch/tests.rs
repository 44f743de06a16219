use super::*;
use crate::testing::{in_namespace, sh};

/// Reads until the change comes; the test runner's limit ends a wait in vain.
fn until(watch: &mut Watch, wanted: impl Fn(&Change) -> bool) -> Change {
    watch
        .by_ref()
        .map(Result::unwrap)
        .find(|change| wanted(change))
        .unwrap()
}

#[test]
fn changes_of_every_kind_are_told() {
    in_namespace(|| {
        let mut watch = Watch::open().unwrap();
        sh("ip link add d0 type bridge; ip link set d0 up");
        let made = until(
            &mut watch,
            |change| matches!(change, Change::Link { name, .. } if name == "d0"),
        );
        sh("ip addr add 192.0.2.1/24 dev d0");
        until(&mut watch, |change| matches!(change, Change::Address(_)));
        until(&mut watch, |change| *change == Change::Route);
        sh("ip rule add pref 100 lookup 100");
        until(&mut watch, |change| *change == Change::Rule);
        sh("ip -6 rule add pref 100 lookup 100");
        until(&mut watch, |change| *change == Change::Rule);
        sh("ip link del d0");
        let gone = until(&mut watch, |change| {
            matches!(change, Change::Link { gone: true, .. })
        });
        let (Change::Link { index: first, .. }, Change::Link { index: last, .. }) = (made, gone)
        else {
            unreachable!("until gave links");
        };
        assert_eq!(first, last);
    });
}

#[test]
fn it_ends_when_stopped() {
    in_namespace(|| {
        let mut watch = Watch::open().unwrap();
        let stop = watch.stop_handle();
        let stopper = std::thread::spawn(move || stop.stop());
        assert!(watch.next().is_none());
        stopper.join().unwrap();
    });
}

#[test]
fn an_overrun_is_told_and_the_watch_goes_on() {
    in_namespace(|| {
        let mut watch = Watch::open().unwrap();
        watch.socket.set_rx_buf_sz(2048).unwrap();
        sh("ip link add d0 type bridge; ip link set d0 up
            for i in $(seq 1 50); do ip link set d0 alias $i; done");
        until(&mut watch, |change| *change == Change::Lost);
        watch.socket.set_rx_buf_sz(RECEIVE_BUFFER).unwrap();
        sh("ip link del d0");
        until(&mut watch, |change| {
            matches!(change, Change::Link { gone: true, .. })
        });
    });
}
