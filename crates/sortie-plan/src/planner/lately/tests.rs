use super::*;
use crate::planner::tests::{container, planner_with, policy, v4};
use sortie_api::policy::Action;

const FAR: [u8; 4] = [198, 51, 100, 9];

fn gave(planner: &Planner, to: [u8; 4], source: [u8; 4]) -> bool {
    let target = Target::address(to.into(), None);
    planner.gave_lately(&"docker/web".into(), target, source.into())
}

/// The address of a moment ago is excused for a while, and nothing else.
#[test]
fn only_the_former_address_is_excused() {
    let web = container("web", None, 20, &["172.17.0.2"]);
    let all = |address| policy("all", &[], &[], v4(address));
    let mut planner = planner_with(vec![web], vec![all("203.0.113.11")]);
    planner.at(Duration::from_mins(1));
    assert!(!gave(&planner, FAR, [203, 0, 113, 11]));

    planner.policies_changed(vec![all("203.0.113.12")]);
    assert!(gave(&planner, FAR, [203, 0, 113, 11]));
    assert!(!gave(&planner, FAR, [203, 0, 113, 12]));
    assert!(!gave(&planner, FAR, [203, 0, 113, 1]), "the host's");
    planner.at(Duration::from_secs(64));
    assert!(gave(&planner, FAR, [203, 0, 113, 11]));
    planner.reports_are_late();
    planner.at(Duration::from_secs(68));
    assert!(gave(&planner, FAR, [203, 0, 113, 11]));
    planner.at(Duration::from_secs(69));
    assert!(!gave(&planner, FAR, [203, 0, 113, 11]));

    planner.policies_changed(Vec::new());
    planner.policies_changed(vec![all("203.0.113.12")]);
    assert!(gave(&planner, FAR, [203, 0, 113, 1]), "it was unmanaged");
}

/// A container that leaves before its policy is known has leaked.
#[test]
fn what_came_before_the_first_placement_is_not_excused() {
    let web = container("web", Some("203.0.113.11"), 20, &["172.17.0.2"]);
    let mut planner = planner_with(Vec::new(), Vec::new());
    planner.workload(web, None);
    assert!(!gave(&planner, FAR, [203, 0, 113, 1]));
}

/// Where policies with destinations left a flow alone, it may have had any address; elsewhere only
/// theirs.
#[test]
fn what_a_set_left_alone_is_excused() {
    let web = container("web", None, 20, &["172.17.0.2"]);
    let all = policy("all", &[], &[], v4("203.0.113.11"));
    let mut near = policy("near", &["192.0.2.0/24"], &[], Action::Bypass);
    near.priority = 1;
    let mut planner = planner_with(vec![web], vec![all.clone(), near]);
    planner.at(Duration::from_mins(1));
    planner.policies_changed(vec![all]);
    assert!(gave(&planner, [192, 0, 2, 9], [203, 0, 113, 1]));
    assert!(!gave(&planner, FAR, [203, 0, 113, 1]));
    assert!(gave(&planner, FAR, [203, 0, 113, 11]));

    let bank = policy("bank", &["192.0.2.0/24"], &[], v4("203.0.113.12"));
    planner.policies_changed(vec![bank]);
    planner.at(Duration::from_mins(2));
    planner.policies_changed(vec![policy("all", &[], &[], v4("203.0.113.11"))]);
    assert!(
        gave(&planner, FAR, [203, 0, 113, 1]),
        "no policy covered it"
    );
    assert!(!gave(&planner, [192, 0, 2, 9], [203, 0, 113, 1]));
}
