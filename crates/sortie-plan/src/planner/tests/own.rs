//! Containers that have their address themselves.

use super::*;

/// An engine's bridge goes with its last container, before anybody says that this has ended: nothing
/// is wanted over an interface that is not there, and all of it again once it is.
#[test]
fn nothing_is_wanted_over_a_bridge_that_is_gone() {
    let mut web = container("web", None, 20, &["172.17.0.2"]);
    web.labels = BTreeMap::from([
        ("sortie.egress".to_owned(), "203.0.113.14".to_owned()),
        ("sortie.egress.mode".to_owned(), "direct".to_owned()),
    ])
    .into();
    let planner = planner_with(vec![web], Vec::new());
    let whole = planner.desired();
    assert_eq!(whole.network.routes.len(), 1);
    assert_eq!(whole.network.neighbours.len(), 1);

    let mut kernel = Observed::from(whole.clone());
    let mut planner = planner;
    let there = planner.environment().clone();
    let mut gone = there.clone();
    gone.interfaces.remove(&BRIDGE);
    fake::apply(&mut kernel, &planner.environment_changed(gone));
    let network = planner.desired().network;
    assert_eq!(network.routes, [].into());
    assert_eq!(network.neighbours, [].into());
    assert_eq!(network.own, whole.network.own);
    assert_eq!(kernel, Observed::from(planner.desired()));

    fake::apply(&mut kernel, &planner.environment_changed(there));
    assert_eq!(kernel, Observed::from(whole));
}
