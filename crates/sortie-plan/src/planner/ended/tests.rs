use std::collections::BTreeMap;

use sortie_api::workload::{Workload, WorkloadId};

use super::*;
use crate::fake;
use crate::planner::tests::{on_host, planner_with};
use crate::state::Observed;

const LABEL: &str = "203.0.113.11,2001:db8::11";

fn web() -> Workload {
    on_host("web", Some(LABEL), 1001, 2)
}

fn id() -> WorkloadId {
    web().id
}

/// How many elements each set of the inet table with any for a cgroup has.
fn of_cgroups(kernel: &Observed) -> BTreeMap<String, usize> {
    let sets = &kernel.tables[&Family::Inet].sets;
    let sets = sets.iter().filter(|(name, elements)| {
        (name.starts_with("cgroup") || **name == *"own-flows") && !elements.is_empty()
    });
    sets.map(|(name, elements)| (name.to_string(), elements.len()))
        .collect()
}

fn has_chains(kernel: &Observed) -> bool {
    let chains = &kernel.tables[&Family::Inet].chains;
    chains.iter().any(|name| **name == *"sockets-2")
}

fn only_known() -> BTreeMap<String, usize> {
    SETS.into_iter().map(|set| (set.to_owned(), 1)).collect()
}

/// Its sockets are known, and nothing is theirs, until the kernel has given up.
#[test]
fn what_its_sockets_still_send_is_dropped() {
    let mut planner = planner_with(vec![web()], Vec::new());
    let mut kernel = Observed::from(planner.desired());
    planner.at(Duration::from_secs(7));
    let ops = planner.containers(Vec::new(), &[id()]);
    fake::apply(&mut kernel, &ops);
    assert_eq!(of_cgroups(&kernel), only_known());
    assert!(has_chains(&kernel));
    assert_eq!(kernel, Observed::from(planner.desired()));

    assert!(planner.at(SOCKETS_SEND).is_empty());
    let end = Duration::from_secs(7) + SOCKETS_SEND;
    assert_eq!(planner.next_end(), Some(end));
    let ops = planner.at(end);
    fake::apply(&mut kernel, &ops);
    assert_eq!(of_cgroups(&kernel), BTreeMap::new());
    assert!(!has_chains(&kernel));
    assert_eq!(kernel, Observed::from(planner.desired()));
}

/// Of whom nothing was managed nothing is kept; started again it has another cgroup; told anew
/// it is what it was.
#[test]
fn only_managed_ones_that_are_gone() {
    let mut planner = planner_with(vec![on_host("free", None, 1002, 2)], Vec::new());
    planner.containers(Vec::new(), &["docker/free".into()]);
    assert_eq!(planner.ended, BTreeMap::new());

    planner.workload(web(), None);
    let before = planner.desired();
    let changed = on_host("web", Some("203.0.113.12,2001:db8::11"), 1001, 2);
    planner.workload(changed, None);
    planner.workload(web(), None);
    assert_eq!(planner.ended, BTreeMap::new());
    assert_eq!(planner.desired(), before);

    let mut kernel = Observed::from(before);
    let ops = planner.workload(on_host("web", Some(LABEL), 1003, 2), None);
    fake::apply(&mut kernel, &ops);
    let sets = of_cgroups(&kernel);
    assert_eq!((sets["cgroups4"], sets["own-flows"]), (2, 1));
    assert_eq!(kernel, Observed::from(planner.desired()));
}

/// It ended while no agent ran: the next one finds its cgroup in the kernel.
#[test]
fn the_next_agent_knows_it() {
    let mut kernel = Observed::from(planner_with(vec![web()], Vec::new()).desired());
    let mut planner = planner_with(Vec::new(), Vec::new());
    planner.inherit(&kernel);
    let parts: Vec<_> = planner.adopt(&kernel).flatten().collect();
    fake::apply(&mut kernel, &parts);
    assert_eq!(of_cgroups(&kernel), only_known());
    assert!(has_chains(&kernel));
    // Compared again it does not begin anew, and it may be there after all.
    planner.at(Duration::from_secs(9));
    planner.inherit(&kernel);
    assert_eq!(planner.next_end(), Some(SOCKETS_SEND));
    planner.workload(web(), None);
    assert_eq!(planner.ended, BTreeMap::new());
}
