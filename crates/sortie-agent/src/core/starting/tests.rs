//! What a start waits for.

use std::net::IpAddr;

use sortie_plan::flow::{Keep, Source};
use sortie_plan::nft::{Family, Name};
use sortie_plan::op::{NftOp, Op};
use sortie_plan::state::Sysctl;

use super::answered_first;

fn flows(source: &str, keep: Option<&str>) -> Op {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    Op::ForgetFlows {
        source: Source::Address(ip(source)),
        translated: None,
        keep: keep.map(ip).map_or_else(Keep::default, Keep::address),
    }
}

fn nft() -> Op {
    Op::Nft(Family::Inet, NftOp::FlushChain(Name::Borrowed("chain")))
}

#[test]
fn a_start_waits_for_all_but_the_end_of_flows_that_can_be_told_apart() {
    let (before, after) = (
        flows("172.17.0.2", None),
        flows("172.17.0.2", Some("203.0.113.11")),
    );
    let set = flows("fd00::2", None);
    let sysctl = Op::RestoreSysctl(Sysctl("net/ipv4/ip_forward".to_owned()));
    let ops = vec![
        nft(),
        before.clone(),
        nft(),
        after.clone(),
        set.clone(),
        sysctl.clone(),
    ];
    let (first, later) = answered_first(ops);
    assert_eq!(first, [nft(), before, nft(), set, sysctl]);
    assert_eq!(later, vec![after.clone()]);
    assert_eq!(answered_first(vec![after.clone()]), (vec![], vec![after]));
    assert_eq!(answered_first(Vec::new()), (vec![], vec![]));
}
