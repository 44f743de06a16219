use super::*;
use crate::planner::tests::{container, planner_with, policy, v4};

/// The address of a moment ago is excused for a while, and nothing else.
#[test]
fn only_the_former_address_is_excused() {
    let web = container("web", None, 20, &["172.17.0.2"]);
    let id = web.id.clone();
    let all = |address| policy("all", &[], &[], v4(address));
    let mut planner = planner_with(vec![web], vec![all("203.0.113.11")]);
    let gave = |planner: &Planner, address: [u8; 4]| planner.gave_lately(&id, address.into());
    planner.at(Duration::from_mins(1));
    assert!(!gave(&planner, [203, 0, 113, 11]));

    planner.policies_changed(vec![all("203.0.113.12")]);
    assert!(gave(&planner, [203, 0, 113, 11]));
    assert!(!gave(&planner, [203, 0, 113, 12]));
    assert!(!gave(&planner, [203, 0, 113, 1]), "the host's");
    planner.at(Duration::from_secs(64));
    assert!(gave(&planner, [203, 0, 113, 11]));
    planner.at(Duration::from_secs(65));
    assert!(!gave(&planner, [203, 0, 113, 11]));

    planner.policies_changed(Vec::new());
    planner.policies_changed(vec![all("203.0.113.12")]);
    assert!(gave(&planner, [203, 0, 113, 1]), "it was unmanaged");
}

/// A container that leaves before its policy is known has leaked.
#[test]
fn what_came_before_the_first_placement_is_not_excused() {
    let web = container("web", Some("203.0.113.11"), 20, &["172.17.0.2"]);
    let id = web.id.clone();
    let mut planner = planner_with(Vec::new(), Vec::new());
    planner.workload(web, None);
    assert!(!planner.gave_lately(&id, [203, 0, 113, 1].into()));
}
