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
            source: Ipv4Addr::new(10, 0, 0, last).into(),
            keep: keep.map(Into::into),
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
