use std::collections::BTreeMap;
use std::path::Path;

use sortie_plan::diff::diff;
use sortie_plan::nft::Table;
use sortie_plan::state::HostState;

use super::*;
use crate::kernel::Options;
use crate::testing::{in_namespace, open_kernel, sh};

/// Long enough for a loaded machine.
const LIMIT: Duration = Duration::from_secs(30);

fn plain(state: &Path) -> Kernel {
    Kernel::open(Options {
        state: state.to_owned(),
        failpoints: "probe:persist=unsupported".parse().unwrap(),
        ..Options::default()
    })
    .unwrap()
}

/// Our tables, as if nothing were there.
fn make(kernel: &mut Kernel) {
    let wanted = HostState {
        tables: BTreeMap::from([(Family::Inet, Table::default())]),
        ..HostState::default()
    };
    let ops = diff(&kernel.observe().unwrap(), wanted);
    kernel.apply(&ops).unwrap();
}

#[test]
fn what_others_do_to_our_tables_is_told_once_for_each_transaction() {
    in_namespace(|| {
        let state = tempfile::tempdir().unwrap();
        let mut kernel = plain(state.path());
        let mut watch = TableWatch::open(&kernel).unwrap().unwrap();
        for foreign in [
            "nft flush ruleset",
            "nft delete table inet sortie",
            "nft add chain inet sortie theirs '{ type filter hook input priority 0; }'",
            "nft add set inet sortie theirs '{ type ipv4_addr; elements = { 10.0.0.1 }; }'",
        ] {
            make(&mut kernel);
            assert_eq!(watch.next(Duration::ZERO).unwrap(), None, "our own");
            sh("nft add table inet other; nft delete table inet other; nft add table ip sortie");
            assert_eq!(watch.next(Duration::ZERO).unwrap(), None, "not our tables");
            sh(foreign);
            let told = watch.next(LIMIT).unwrap();
            assert_eq!(told, Some(Foreign::Changed), "{foreign}");
            assert_eq!(watch.next(Duration::ZERO).unwrap(), None, "once");
        }
    });
}

#[test]
fn what_was_lost_is_told_and_the_watch_goes_on() {
    in_namespace(|| {
        let state = tempfile::tempdir().unwrap();
        let mut kernel = plain(state.path());
        let mut watch = TableWatch::open(&kernel).unwrap().unwrap();
        make(&mut kernel);
        assert_eq!(watch.next(Duration::ZERO).unwrap(), None);
        watch.listener.set_receive_buffer(4096).unwrap();
        sh("for i in $(seq 1 100); do echo add table inet other$i; done | nft -f -");
        assert_eq!(watch.next(LIMIT).unwrap(), Some(Foreign::Lost));
        watch.listener.set_receive_buffer(1 << 20).unwrap();
        sh("nft delete table inet sortie");
        assert_eq!(watch.next(LIMIT).unwrap(), Some(Foreign::Changed));
    });
}

#[test]
fn owned_tables_need_no_watch() {
    in_namespace(|| {
        let (kernel, _state) = open_kernel();
        let watch = TableWatch::open(&kernel).unwrap();
        assert_eq!(watch.is_none(), kernel.owns_tables());
    });
}
