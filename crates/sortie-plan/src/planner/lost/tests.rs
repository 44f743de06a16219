use std::time::Duration;

use sortie_api::config::Guard;
use sortie_api::workload::{IfIndex, MacAddress, Workload};

use super::KEPT;
use crate::flow::{Keep, Source};
use crate::nft::Family;
use crate::op::Op;
use crate::planner::Planner;
use crate::planner::tests::{BRIDGE, container, environment, network};
use crate::state::Observed;

const EGRESS: &str = "203.0.113.11";

/// On a guarded network, so that those who are not managed are bound too.
fn planner(label: Option<&str>) -> (Planner, Workload) {
    let mut planner = Planner::new(environment(&[EGRESS], Guard::Networks));
    planner.networks(vec![network("bridge", BRIDGE, true)]);
    let web = container("web", label, 20, &["172.17.0.2"]);
    planner.workload(web.clone(), None);
    (planner, web)
}

/// The same run with its cable laid anew.
fn laid_anew(web: &Workload) -> Workload {
    let mut again = web.clone();
    again.endpoints[0].port = IfIndex(30);
    again.endpoints[0].mac = MacAddress([2, 0, 0, 0, 0, 30]);
    again
}

fn disconnected(web: &Workload) -> Workload {
    Workload {
        endpoints: Vec::new(),
        ..web.clone()
    }
}

/// The flows that end, each with whether that is before the tables change.
fn forgotten(ops: &[Op]) -> Vec<(bool, Keep)> {
    let behind = ops
        .iter()
        .rposition(|op| matches!(op, Op::Nft(..)))
        .unwrap_or(0);
    let source = Source::Address("172.17.0.2".parse().unwrap());
    let flows = ops.iter().enumerate().filter_map(|(at, op)| match op {
        Op::ForgetFlows {
            source: of,
            translated: None,
            keep,
        } if *of == source => Some((at < behind, keep.clone())),
        _ => None,
    });
    flows.collect()
}

fn right() -> Keep {
    Keep::address(EGRESS.parse().unwrap())
}

#[test]
fn flows_go_on_with_a_new_port() {
    let (mut planner, web) = planner(Some(EGRESS));
    let ops = planner.workload(laid_anew(&web), None);
    assert_eq!(forgotten(&ops), [(false, right())]);
    let told = crate::op::describe(&ops);
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn flows_wait_for_a_workload_that_is_disconnected() {
    let (mut planner, web) = planner(Some(EGRESS));
    assert_eq!(planner.workload(disconnected(&web), None), []);
    let ops = planner.workload(laid_anew(&web), None);
    assert_eq!(forgotten(&ops), [(false, right())]);
    assert_eq!(planner.next_end(), None);
}

#[test]
fn they_wait_for_minutes() {
    let (mut planner, web) = planner(Some(EGRESS));
    planner.at(Duration::from_secs(1));
    planner.workload(disconnected(&web), None);
    assert_eq!(planner.next_end(), Some(Duration::from_secs(1) + KEPT));
    let ops = planner.at(Duration::from_secs(1) + KEPT);
    assert_eq!(forgotten(&ops), [(true, Keep::default())]);
    assert_eq!(planner.next_end(), None);
    let kernel = Observed::from(planner.desired());
    let bound = &kernel.tables[&Family::Bridge].sets["bound4"];
    assert!(bound.is_empty(), "{bound:?}");
}

/// Whoever is connected with the address has it, whenever he was started, and gets none of the flows;
/// neither does who had it, when it is his again.
#[test]
fn nobody_inherits_them() {
    for port in [5, 50] {
        let (mut planner, web) = planner(Some(EGRESS));
        planner.workload(disconnected(&web), None);
        let thief = container("thief", Some(EGRESS), port, &["172.17.0.2"]);
        let ops = planner.workload(thief.clone(), None);
        assert_eq!(forgotten(&ops)[0], (true, Keep::default()), "{ops:?}");
        let inet = &planner.desired().tables[&Family::Bridge];
        let bound: Vec<_> = inet.sets["bound4"].elements.keys().collect();
        assert_eq!(bound.len(), 1, "{bound:?}");
        let ops = planner.workload_gone(&thief.id);
        assert_eq!(forgotten(&ops)[0], (true, Keep::default()), "{ops:?}");
    }
}

#[test]
fn another_start_is_another_workload() {
    let (mut planner, web) = planner(Some(EGRESS));
    planner.workload(disconnected(&web), None);
    let mut again = laid_anew(&web);
    again.started += 1;
    let ops = planner.workload(again, None);
    assert_eq!(forgotten(&ops)[0], (true, Keep::default()), "{ops:?}");
    let ops = planner.workload_gone(&web.id);
    assert_eq!(forgotten(&ops)[0], (true, Keep::default()), "{ops:?}");
}

#[test]
fn flows_of_who_is_not_managed_are_left_alone() {
    let (mut planner, web) = planner(None);
    let ops = planner.workload(laid_anew(&web), None);
    assert!(!ops.is_empty());
    assert_eq!(forgotten(&ops), []);
}

#[test]
fn flows_of_a_bypass_go_on() {
    let (mut planner, web) = planner(Some(EGRESS));
    planner.bypass(&web.id, Duration::from_mins(10));
    let ops = planner.workload(laid_anew(&web), None);
    assert!(!ops.is_empty());
    assert_eq!(forgotten(&ops), []);
}
