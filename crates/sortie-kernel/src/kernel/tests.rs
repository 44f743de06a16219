mod gateway;

use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use sortie_api::workload::MacAddress;
use sortie_plan::diff::diff;
use sortie_plan::nft::key::Key;
use sortie_plan::nft::rule::{Field, Statement, Verdict};
use sortie_plan::nft::set::{Data, DataType, KeyType, Set};
use sortie_plan::nft::{Chain, Elements, Hook, HookKind, HookPoint, Table};
use sortie_plan::op::NftOp;
use sortie_plan::state::{
    HostState, Network, Observed, OwnAddress, ProxyNeighbour, Route, RoutingRule, RuleBy, Sysctl,
};

use super::*;
use crate::own::Look;
use crate::testing::{in_namespace, open_kernel, sh};

/// Something of every kind.
fn everything() -> HostState {
    let jump = Chain {
        hook: None,
        rules: vec![vec![Verdict::Accept.into()]],
    };
    let base = Chain {
        hook: Some(Hook {
            kind: HookKind::Filter,
            point: HookPoint::Postrouting,
            priority: 150,
            device: None,
        }),
        rules: vec![vec![Statement::VerdictMap {
            fields: vec![Field::IpSaddr],
            map: "check".into(),
        }]],
    };
    let verdicts = Elements::from([(
        IpAddr::from([10, 0, 0, 2]).into(),
        Data::Verdict(Verdict::Goto("pass".into())),
    )]);
    let table = Table {
        tag: "test 1".to_owned(),
        sets: BTreeMap::from([(
            "check".into(),
            Set {
                elements: verdicts,
                ..Set::of(&[KeyType::Ipv4Addr]).to(DataType::Verdict)
            },
        )]),
        chains: BTreeMap::from([("pass".into(), jump), ("guard".into(), base)]),
        counters: vec!["dropped".into()],
    };
    let network = Network {
        routes: [Route {
            table: 1000,
            destination: IpNet::from_str("0.0.0.0/0").unwrap(),
            device: "up0".to_owned(),
            gateway: Some("192.0.2.1".parse().unwrap()),
        }]
        .into(),
        rules: [RoutingRule {
            v6: false,
            priority: 900,
            by: RuleBy::Input("br9".to_owned()),
            table: 1000,
        }]
        .into(),
        neighbours: [ProxyNeighbour {
            address: "192.0.2.9".parse().unwrap(),
            device: "up0".to_owned(),
        }]
        .into(),
        sysctls: [(Sysctl("net/ipv4/ip_forward".to_owned()), "1".to_owned())].into(),
        forwarded: ["up0".to_owned()].into(),
        own: BTreeMap::new(),
        redirects: BTreeMap::new(),
    };
    HostState {
        tables: [(Family::Inet, table)].into(),
        network,
    }
}

fn uplink() {
    sh("ip link add up0 type veth peer name far0
        ip link set up0 addrgenmode none; ip link set far0 addrgenmode none
        ip link set up0 up; ip link set far0 up
        ip addr add 192.0.2.2/24 dev up0
        for end in up0 far0; do
            until ip -6 route show table local | grep -q 'ff00::/8 dev '$end; do :; done
        done
        nft add table ip filter
        nft add chain ip filter FORWARD '{ type filter hook forward priority 0; policy drop; }'");
}

fn reopen(state: &Path, failpoints: &str) -> Result<Kernel, Error> {
    Kernel::open(Options {
        state: state.to_owned(),
        failpoints: failpoints.parse().unwrap(),
        ..Options::default()
    })
}

/// Polls a condition. A process that another test is starting has a copy of every socket between
/// fork and exec, so that ours closes a moment after it is dropped.
fn soon<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "waited in vain");
        std::thread::yield_now();
    }
}

/// The next process's kernel, once the former one's is closed.
fn successor(state: &Path, failpoints: &str) -> Kernel {
    soon(|| match reopen(state, failpoints) {
        Err(Error::TableHeld { .. }) => None,
        other => Some(other.unwrap()),
    })
}

/// All that our steps can change, as other programs see it.
fn footprint() -> String {
    sh("nft list ruleset
        ip route show table all; ip -6 route show table all
        ip rule; ip -6 rule
        ip neigh show proxy; ip -6 neigh show proxy
        cat /proc/sys/net/ipv4/ip_forward")
}

#[test]
fn everything_is_made_observed_and_taken_back() {
    in_namespace(|| {
        uplink();
        let before = footprint();
        let (mut kernel, _state) = open_kernel();
        let wanted = everything();
        kernel
            .apply(&diff(&Observed::default(), wanted.clone()))
            .unwrap();
        assert_ne!(footprint(), before);
        let observed = kernel.observe().unwrap();
        assert_eq!(observed, Observed::from(wanted));
        kernel
            .apply(&diff(&observed, HostState::default()))
            .unwrap();
        assert_eq!(kernel.observe().unwrap(), Observed::default());
        assert_eq!(footprint(), before);
    });
}

#[test]
fn every_step_may_be_done_twice() {
    in_namespace(|| {
        uplink();
        let (mut kernel, _state) = open_kernel();
        let make = diff(&Observed::default(), everything());
        kernel.apply(&make).unwrap();
        let once = footprint();
        kernel.apply(&make).unwrap();
        assert_eq!(footprint(), once);
        let observed = kernel.observe().unwrap();
        let take = diff(&observed, HostState::default());
        kernel.apply(&take).unwrap();
        let gone = footprint();
        kernel.apply(&take).unwrap();
        assert_eq!(footprint(), gone);
    });
}

#[test]
fn after_a_failure_at_any_step_the_next_run_converges() {
    in_namespace(|| {
        uplink();
        let before = footprint();
        let wanted = everything();
        for step in Step::ALL {
            for when in ["before", "after"] {
                let state = tempfile::tempdir().unwrap();
                let spec = format!("{when}:{step}=error");
                let mut kernel = successor(state.path(), &spec);
                let up = kernel.apply(&diff(&Observed::default(), wanted.clone()));
                drop(kernel);
                let mut kernel = successor(state.path(), "");
                let observed = kernel.observe().unwrap();
                kernel.apply(&diff(&observed, wanted.clone())).unwrap();
                assert_eq!(kernel.observe().unwrap(), Observed::from(wanted.clone()));
                drop(kernel);

                let mut kernel = successor(state.path(), &spec);
                let observed = kernel.observe().unwrap();
                let down = kernel.apply(&diff(&observed, HostState::default()));
                drop(kernel);
                let mut kernel = successor(state.path(), "");
                let observed = kernel.observe().unwrap();
                kernel
                    .apply(&diff(&observed, HostState::default()))
                    .unwrap();
                assert_eq!(footprint(), before, "{spec}");

                // Of links and containers, which are not here: their own tests take them.
                let elsewhere = matches!(
                    step,
                    Step::AddOwn
                        | Step::DeleteOwn
                        | Step::AddRedirect
                        | Step::DeleteRedirect
                        | Step::CreateLink
                        | Step::ConfigureLink
                        | Step::DeleteLink
                        | Step::AddGate
                        | Step::DeleteGate
                        | Step::Announce
                );
                if !elsewhere
                    && !matches!(step, Step::ForgetFlows | Step::DropWaiting | Step::LetPass)
                {
                    let injected = |result: Result<(), Unapplied>| {
                        result.is_err_and(|it| matches!(*it.error, Error::Injected { .. }))
                    };
                    assert!(injected(up) || injected(down), "{spec} was never reached");
                }
            }
        }
    });
}

#[test]
fn a_transaction_is_all_or_nothing_and_names_what_was_refused() {
    in_namespace(|| {
        let (mut kernel, _state) = open_kernel();
        let inet = |op| Op::Nft(Family::Inet, op);
        let error = kernel
            .apply(&[
                inet(NftOp::AddTable("t".to_owned())),
                inet(NftOp::AddElements(
                    "missing".into(),
                    vec![(Key::new(), Data::None)],
                )),
            ])
            .unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
        assert_eq!(kernel.observe().unwrap(), Observed::default());
    });
}

#[test]
fn our_tables_survive_us_and_foreign_flushes() {
    in_namespace(|| {
        uplink();
        let (mut kernel, state) = open_kernel();
        assert!(kernel.owns_tables(), "this test needs kernel 6.9");
        let wanted = everything();
        kernel
            .apply(&diff(&Observed::default(), wanted.clone()))
            .unwrap();
        sh("nft flush ruleset");
        assert_eq!(
            kernel.observe().unwrap().tables,
            Observed::from(wanted.clone()).tables
        );
        drop(kernel);
        let mut kernel = successor(state.path(), "");
        sh("nft flush ruleset");
        assert_eq!(
            kernel.observe().unwrap().tables,
            Observed::from(wanted).tables,
            "taken over"
        );
    });
}

#[test]
fn a_second_writer_is_refused_while_the_first_lives() {
    in_namespace(|| {
        let (mut kernel, state) = open_kernel();
        let table = Op::Nft(Family::Inet, NftOp::AddTable("t".to_owned()));
        kernel.apply(&[table]).unwrap();
        let error = reopen(state.path(), "").unwrap_err();
        assert!(matches!(error, Error::TableHeld { .. }), "{error}");
        drop(kernel);
        successor(state.path(), "");
    });
}

#[test]
fn the_right_to_edit_goes_with_the_socket() {
    in_namespace(|| {
        let (mut kernel, state) = open_kernel();
        let table = |tag: &str| Op::Nft(Family::Inet, NftOp::AddTable(tag.to_owned()));
        kernel.apply(&[table("t")]).unwrap();
        let held = kernel.as_fd().try_clone_to_owned().unwrap();
        drop(kernel);
        assert!(matches!(
            reopen(state.path(), "").unwrap_err(),
            Error::TableHeld { .. }
        ));
        let mut heir = Kernel::open(Options {
            state: state.path().to_owned(),
            socket: Some(held),
            ..Options::default()
        })
        .unwrap();
        heir.apply(&[Op::Nft(Family::Inet, NftOp::DeleteTable)])
            .unwrap();
    });
}

#[test]
fn tables_of_a_process_end_with_it() {
    in_namespace(|| {
        let state = tempfile::tempdir().unwrap();
        let mut kernel = Kernel::open(Options {
            state: state.path().to_owned(),
            lifetime: Lifetime::Process,
            ..Options::default()
        })
        .unwrap();
        let table = Op::Nft(Family::Inet, NftOp::AddTable("t".to_owned()));
        kernel.apply(&[table]).unwrap();
        assert_ne!(sh("nft list ruleset"), "");
        drop(kernel);
        soon(|| sh("nft list ruleset").is_empty().then_some(()));
    });
}

#[test]
fn without_persistence_the_tables_are_plain_and_later_made_anew() {
    in_namespace(|| {
        uplink();
        let state = tempfile::tempdir().unwrap();
        let mut old = reopen(state.path(), "probe:persist=unsupported").unwrap();
        assert!(!old.owns_tables());
        let wanted = everything();
        old.apply(&diff(&Observed::default(), wanted.clone()))
            .unwrap();
        assert_eq!(old.observe().unwrap(), Observed::from(wanted.clone()));
        drop(old);
        let mut new = successor(state.path(), "");
        let observed = new.observe().unwrap();
        assert_eq!(observed.tables[&Family::Inet].tag, "", "to be rebuilt");
        new.apply(&diff(&observed, wanted.clone())).unwrap();
        sh("nft flush ruleset");
        assert_eq!(new.observe().unwrap().tables, Observed::from(wanted).tables);
    });
}

#[test]
fn anothers_route_is_left_alone() {
    in_namespace(|| {
        uplink();
        sh("ip route add 203.0.113.5/32 via 192.0.2.77");
        let (mut kernel, _state) = open_kernel();
        let route = Route {
            table: 254,
            destination: "203.0.113.5/32".parse().unwrap(),
            device: "up0".to_owned(),
            gateway: None,
        };
        let error = kernel.apply(&[Op::AddRoute(route.clone())]).unwrap_err();
        assert!(matches!(*error.error, Error::RouteTaken { .. }), "{error}");
        kernel.apply(&[Op::DeleteRoute(route)]).unwrap();
        assert!(sh("ip route").contains("203.0.113.5 via 192.0.2.77"));
    });
}

/// What cannot be done for one keeps back what needs it, and nothing of another.
#[test]
fn a_step_that_fails_keeps_back_only_those_that_need_it() {
    in_namespace(|| {
        uplink();
        sh("ip route add 203.0.113.5/32 via 192.0.2.77");
        let (mut kernel, _state) = open_kernel();
        let route = |destination: &str, device: &str| {
            Op::AddRoute(Route {
                table: 254,
                destination: destination.parse().unwrap(),
                device: device.to_owned(),
                gateway: None,
            })
        };
        let own = |address: &str| {
            Op::AddOwn(OwnAddress {
                pid: u32::MAX,
                mac: MacAddress([2, 0, 0, 0, 0, 1]),
                address: address.parse().unwrap(),
            })
        };
        let ops = [
            route("203.0.113.5/32", "up0"),
            route("203.0.113.6/32", "gone0"),
            route("203.0.113.7/32", "up0"),
            own("203.0.113.5"),
            own("203.0.113.7"),
        ];
        let unapplied = kernel.apply(&ops).unwrap_err();
        assert_eq!(unapplied.steps, [&ops[..2], &ops[3..4]].concat());
        assert!(sh("ip route").contains("203.0.113.7 dev up0"));

        // Behind a change of our tables that fails there is nothing.
        let chain = NftOp::FlushChain("nowhere".into());
        let ops = [Op::Nft(Family::Inet, chain), route("203.0.113.8/32", "up0")];
        let unapplied = kernel.apply(&ops).unwrap_err();
        assert_eq!(unapplied.steps, ops);
        assert!(!sh("ip route").contains("203.0.113.8"));

        // So it is with steps in parts.
        let [tables, behind] = ops;
        let there = route("203.0.113.9/32", "up0");
        let gone = route("203.0.113.6/32", "gone0");
        let parts = [&gone, &there, &tables, &behind].map(|op| vec![op.clone()]);
        let unapplied = kernel.apply_parts(parts.into_iter()).unwrap_err();
        assert_eq!(unapplied.steps, [gone, tables]);
        assert!(sh("ip route").contains("203.0.113.9 dev up0"));
        assert!(!sh("ip route").contains("203.0.113.8"));
    });
}

#[test]
fn steps_are_counted_by_kind() {
    in_namespace(|| {
        uplink();
        let (mut kernel, _state) = open_kernel();
        kernel
            .apply(&diff(&Observed::default(), everything()))
            .unwrap();
        assert_eq!(kernel.applied()[&Step::AddRoute], 1);
        assert!(kernel.applied()[&Step::Nft] >= 1);
        assert_eq!(kernel.applied().get(&Step::DeleteRoute), None);
    });
}

/// Takes every capability from the calling thread (`capset(2)`).
fn drop_capabilities() {
    /// `_LINUX_CAPABILITY_VERSION_3`, and the calling thread.
    const HEADER: [u32; 2] = [0x2008_0522, 0];
    let none = [0_u32; 6];
    // SAFETY: the header and the two sets of three words are what version 3 reads.
    let result = unsafe { libc::syscall(libc::SYS_capset, HEADER.as_ptr(), none.as_ptr()) };
    assert_eq!(result, 0);
}

#[test]
fn without_privileges_it_says_what_is_missing() {
    in_namespace(|| {
        drop_capabilities();
        let state = tempfile::tempdir().unwrap();
        let error = reopen(state.path(), "").unwrap_err();
        assert!(error.to_string().contains("run as root"), "{error}");
    });
}

#[test]
fn it_may_move_to_a_thread_of_its_own() {
    fn movable<T: Send>(value: T) -> T {
        value
    }
    in_namespace(|| {
        let (kernel, _state) = open_kernel();
        movable(movable(kernel).rtnl);
        movable(crate::watch::Watch::open().unwrap());
    });
}

#[test]
fn forwarding_is_put_back_unless_somebody_may_need_it_by_now() {
    for (came, left) in [("true", "0"), ("ip link add docker0 type bridge", "1")] {
        in_namespace(|| {
            let forwarding = Sysctl("net/ipv4/ip_forward".to_owned());
            sh("echo 0 > /proc/sys/net/ipv4/ip_forward");
            let (mut kernel, state) = open_kernel();
            kernel
                .apply(&[Op::SetSysctl(forwarding.clone(), "1".into())])
                .unwrap();
            sh(came);
            kernel
                .apply(&[Op::RestoreSysctl(forwarding.clone())])
                .unwrap();
            assert_eq!(crate::sysctl::read(&forwarding).unwrap(), left);
            let said = kernel.take_left();
            assert_eq!(said.len(), usize::from(left == "1"));
            for left in said {
                let text = left.to_string();
                assert!(
                    text.contains("docker0") && text.contains("net.ipv4.ip_forward=0"),
                    "{text}"
                );
            }
            assert!(
                kernel
                    .observe_network(Look::Everywhere)
                    .unwrap()
                    .sysctls
                    .is_empty()
            );
            drop(state);
        });
    }
}
