use std::net::Ipv4Addr;

use super::*;
use crate::testing::{in_namespace, open_kernel, sh};

/// Flows of 10.0.0.1 to 10.0.0.`sources`, each to two servers, translated differently.
fn flows(sources: u8) {
    sh(&format!(
        "for source in $(seq 1 {sources}); do for last in 11 12; do
           conntrack -I -p udp -s 10.0.0.$source -d 192.0.2.$last --sport 5 --dport 53 \
             -r 192.0.2.$last -q 203.0.113.$last --reply-port-src 53 --reply-port-dst 5$source -t 60
         done; done"
    ));
}

fn left() -> usize {
    sh("conntrack -L").lines().count()
}

fn forget_first(sources: u8, keep: Option<Ipv4Addr>) -> Vec<Op> {
    (1..=sources)
        .map(|last| Op::ForgetFlows {
            source: Source::Address(Ipv4Addr::new(10, 0, 0, last).into()),
            translated: None,
            keep: keep.map_or_else(Keep::default, |keep| Keep::address(keep.into())),
        })
        .collect()
}

#[test]
fn flows_end_but_those_that_are_right_and_those_of_others() {
    // One source is asked for alone, six in one walk.
    for sources in [1, 6] {
        in_namespace(|| {
            let (mut kernel, _state) = open_kernel();
            flows(sources + 1);
            let keep = Some(Ipv4Addr::new(203, 0, 113, 11));
            kernel.apply(&forget_first(sources, keep)).unwrap();
            assert_eq!(left(), usize::from(sources) + 2);
            kernel.apply(&forget_first(sources, None)).unwrap();
            assert_eq!(left(), 2);
            assert!(sh("conntrack -L").contains(&format!("src=10.0.0.{}", sources + 1)));
        });
    }
}

/// The end of a drain takes flows with the former address, and no others; during the drain only
/// answered ones stay.
#[test]
fn a_drain_is_for_answered_flows_with_the_former_address() {
    in_namespace(|| {
        let (mut kernel, _state) = open_kernel();
        let flow = |port: u8, last: u8, more: &str| {
            sh(&format!(
                "conntrack -I -p tcp --state ESTABLISHED -s 10.0.0.1 -d 192.0.2.1 --sport {port} --dport 53 \
                   -r 192.0.2.1 -q 203.0.113.{last} --reply-port-src 53 --reply-port-dst {port} -t 60 {more}"
            ));
        };
        flow(1, 11, "-u SEEN_REPLY");
        flow(2, 11, "");
        flow(3, 12, "");
        flow(4, 13, "-u SEEN_REPLY");
        let ports = || -> Vec<u8> {
            let left = (1..=4).filter(|port| {
                sh("conntrack -L").contains(&format!("src=10.0.0.1 dst=192.0.2.1 sport={port} "))
            });
            left.collect()
        };
        let address = |last| Ipv4Addr::new(203, 0, 113, last).into();
        let mut keep = Keep::address(address(12));
        keep.draining.insert(address(11));
        let forget = |translated, keep: &Keep| Op::ForgetFlows {
            source: Source::Address(Ipv4Addr::new(10, 0, 0, 1).into()),
            translated,
            keep: keep.clone(),
        };
        kernel.apply(&[forget(None, &keep)]).unwrap();
        assert_eq!(ports(), [1, 3]);
        kernel
            .apply(&[forget(Some(address(13)), &Keep::default())])
            .unwrap();
        assert_eq!(ports(), [1, 3]);
        keep.draining.clear();
        kernel.apply(&[forget(Some(address(11)), &keep)]).unwrap();
        assert_eq!(ports(), [3]);
    });
}
