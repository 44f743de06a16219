use sortie_api::policy::{Action, EgressPolicy};
use sortie_api::workload::Workload;

use super::*;
use crate::explain::{Expected, Verdict};
use crate::fake;
use crate::planner::tests::{container, planner_with, policy, v4};
use crate::precedence::Target;
use crate::state::Observed;

const WEB: &str = "docker/web";

fn web() -> Workload {
    container("web", Some("203.0.113.11"), 20, &["172.17.0.2"])
}

fn id() -> WorkloadId {
    WEB.into()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn flows_ended(ops: &[Op]) -> Vec<String> {
    let flows = ops.iter().filter(|op| matches!(op, Op::ForgetFlows { .. }));
    flows.map(ToString::to_string).collect()
}

fn let_by(kernel: &Observed, set: &'static str) -> usize {
    kernel.tables[&Family::Inet].sets[set].len()
}

#[test]
fn it_is_let_by_for_its_time_and_nothing_of_it_goes_on() {
    let mut planner = planner_with(vec![web()], Vec::new());
    let mut kernel = Observed::from(planner.desired());
    let before = planner.desired();
    let ops = planner.bypass(&id(), seconds(60));
    fake::apply(&mut kernel, &ops);
    assert_eq!(flows_ended(&ops), ["conntrack -D -s 172.17.0.2"]);
    assert_eq!(
        (let_by(&kernel, "bypass4"), let_by(&kernel, "bypassed4")),
        (1, 1)
    );
    let tracked = &planner.workloads()[&id()];
    let target = Target::address([198, 51, 100, 9].into(), None);
    assert_eq!(planner.expected(tracked, target), Expected::Any);
    assert_eq!(
        planner.explain(tracked, target).verdict,
        Verdict::AsWithoutSortie
    );

    // Told again, the time begins anew, and flows go on.
    planner.at(seconds(50));
    let ops = planner.bypass(&id(), seconds(60));
    fake::apply(&mut kernel, &ops);
    assert_eq!(flows_ended(&ops), [] as [&str; 0]);
    assert_eq!(planner.next_end(), Some(seconds(110)));
    assert_eq!(planner.at(seconds(109)), []);

    let ops = planner.at(seconds(110));
    fake::apply(&mut kernel, &ops);
    assert_eq!(
        flows_ended(&ops),
        ["conntrack -D -s 172.17.0.2, but for those translated to 203.0.113.11"]
    );
    assert_eq!(planner.bypassed(&id()), None);
    assert_eq!(planner.desired(), before);
    assert_eq!(kernel, Observed::from(before));
}

#[test]
fn it_ends_when_told_and_with_the_workload() {
    for (end, flows) in [
        (
            0,
            "conntrack -D -s 172.17.0.2, but for those translated to 203.0.113.11",
        ),
        (1, "conntrack -D -s 172.17.0.2"),
        (
            2,
            "conntrack -D -s 172.17.0.2, but for those translated to 203.0.113.11",
        ),
    ] {
        let mut planner = planner_with(vec![web()], Vec::new());
        let mut kernel = Observed::from(planner.desired());
        let ops = planner.bypass(&id(), seconds(60));
        fake::apply(&mut kernel, &ops);
        let ops = match end {
            0 => planner.end_bypass(&id()),
            1 => planner.workload_gone(&id()),
            // The same container, started again.
            _ => planner.workload(
                Workload {
                    started: 99,
                    ..web()
                },
                None,
            ),
        };
        fake::apply(&mut kernel, &ops);
        assert_eq!(planner.bypassed(&id()), None);
        assert_eq!(
            (let_by(&kernel, "bypass4"), let_by(&kernel, "bypassed4")),
            (0, 0)
        );
        assert!(
            flows_ended(&ops).iter().any(|op| op == flows),
            "{end}: {ops:?}"
        );
        assert_eq!(kernel, Observed::from(planner.desired()));
    }
    let mut planner = planner_with(Vec::new(), Vec::new());
    assert_eq!(planner.bypass(&id(), seconds(60)), []);
    assert_eq!(planner.bypassed(&id()), None);
}

/// Who may send nothing is let by too; and an address that comes later.
#[test]
fn a_closed_workload_and_its_later_addresses() {
    let closed = EgressPolicy {
        destinations: Vec::new(),
        ..policy("closed", &[], &[], Action::Deny)
    };
    let plain = |addresses: &[&str]| container("web", None, 20, addresses);
    let mut planner = planner_with(vec![plain(&["172.17.0.2"])], vec![closed]);
    let mut kernel = Observed::from(planner.desired());
    for ops in [
        planner.bypass(&id(), seconds(60)),
        planner.workload(plain(&["172.17.0.2", "172.17.0.3"]), None),
    ] {
        fake::apply(&mut kernel, &ops);
    }
    assert_eq!(let_by(&kernel, "bypass4"), 2);
    fake::apply(
        &mut kernel,
        &planner.policies_changed(vec![policy("p", &[], &[443], v4("203.0.113.12"))]),
    );
    assert_eq!(let_by(&kernel, "bypass4"), 2);
    assert_eq!(planner.bypassed(&id()), Some(seconds(60)));
}

/// What a dead agent could not end: its record is taken over, or else its marks in the kernel.
#[test]
fn a_new_agent_ends_what_is_over() {
    let mut old = planner_with(vec![web()], Vec::new());
    old.bypass(&id(), seconds(60));
    let mut kernel = Observed::from(old.desired());
    let sets = &mut kernel.tables.get_mut(&Family::Inet).unwrap().sets;
    sets.get_mut("bypass4").unwrap().clear();
    let right = "conntrack -D -s 172.17.0.2, but for those translated to 203.0.113.11";

    let new = planner_with(vec![web()], Vec::new());
    assert_eq!(
        flows_ended(&new.adopt(&kernel).flatten().collect::<Vec<_>>()),
        [right]
    );

    let mut new = planner_with(vec![web()], Vec::new());
    new.learn_bypass(&id(), Duration::ZERO);
    let ops = new.at(Duration::ZERO);
    assert_eq!(flows_ended(&ops), [right]);

    let mut new = planner_with(vec![web()], Vec::new());
    new.learn_bypass(&id(), seconds(30));
    assert_eq!(new.bypassed(&id()), Some(seconds(30)));
    assert_eq!(
        flows_ended(&new.adopt(&kernel).flatten().collect::<Vec<_>>()),
        [] as [&str; 0]
    );
}
