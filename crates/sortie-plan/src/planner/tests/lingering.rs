//! Addresses that only what the gateway has begun may still have.

use std::net::IpAddr;
use std::time::Duration;

use sortie_api::policy::{Action, EgressPolicy, OnChange, Selector};

use super::{container, planner_with};
use crate::planner::Planner;
use crate::precedence::tests::any::{policy, to_host};

const FIRST: u8 = 11;
const SECOND: u8 = 12;

/// For every container, by name, with an address of this host.
fn by_name(last: u8, on_change: OnChange) -> EgressPolicy {
    let mut policy = policy("api", vec![to_host("api.test", &[])], last);
    if let Action::Egress(egress) = &mut policy.action {
        egress.v4 = Some([203, 0, 113, last].into());
    }
    policy.workloads = vec![Selector {
        names: vec!["*".to_owned()],
        ..Selector::default()
    }];
    policy.on_change = on_change;
    policy
}

fn has(planner: &Planner, last: u8) -> bool {
    let address = IpAddr::from([203, 0, 113, last]);
    planner.gateway_addresses().any(|it| it == address)
}

/// After a change of address, for how many seconds the former one stays.
#[track_caller]
fn stays(on_change: OnChange, seconds: u64) {
    let web = container("web", None, 20, &["172.17.0.2"]);
    let mut planner = planner_with(vec![web], vec![by_name(FIRST, OnChange::Reset)]);
    planner.policies_changed(vec![by_name(SECOND, on_change)]);
    assert!(has(&planner, FIRST) && has(&planner, SECOND));
    let named: Vec<IpAddr> = planner.egress_addresses().collect();
    assert_eq!(named, [IpAddr::from([203, 0, 113, SECOND])]);
    planner.at(Duration::from_secs(seconds - 1));
    assert!(has(&planner, FIRST), "it goes too early");
    planner.at(Duration::from_secs(seconds));
    assert!(!has(&planner, FIRST), "it stays");
    assert!(has(&planner, SECOND));
}

#[test]
fn a_former_address_stays_until_requests_have_ended() {
    stays(OnChange::Reset, 35);
    stays(OnChange::Drain { seconds: 600 }, 600);
}

#[test]
fn nothing_stays_where_nobody_needs_the_gateway() {
    let web = container("web", None, 20, &["172.17.0.2"]);
    let mut plain = by_name(FIRST, OnChange::Reset);
    plain.destinations.clear();
    let mut planner = planner_with(vec![web], vec![plain]);
    planner.policies_changed(Vec::new());
    assert!(!has(&planner, FIRST));
}
