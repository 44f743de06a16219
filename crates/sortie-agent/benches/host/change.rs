//! From a changed policy to its enforcement, with many containers that it does not concern.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::Instant;

use sortie_api::policy::{EgressPolicy, parse};
use sortie_plan::op::Op;

use crate::Failure;
use crate::programs::nft;
use crate::record::Record;
use crate::rig::{CONTAINER, EGRESS, Joined, Rig, restore, snat_rules};

const ROUNDS: usize = 7;
const WORKLOADS: u32 = 10_000;
/// Of ours in one round; the peers' are slow enough to be measured once.
const CHANGES: usize = 100;

pub(crate) fn run() -> Result<Vec<Record>, Failure> {
    let ours = Rig::new(Joined::Bridge)?;
    let mut managed = ours.sortie(WORKLOADS)?;
    let iptables = Rig::new(Joined::Bridge)?;
    let nftables = Rig::new(Joined::Bridge)?;
    let other = Ipv4Addr::from(u32::from(EGRESS) + 1);
    let both = [EGRESS, other];
    let policies = [policy(EGRESS)?, policy(other)?];
    let mut figures: [Vec<f64>; 5] = Default::default();
    for round in 0..ROUNDS {
        let [mut enforced, mut ended] = [(); 2].map(|()| Vec::with_capacity(CHANGES));
        for policy in policies.iter().cycle().take(CHANGES) {
            let policy = policy.clone();
            let (until_enforced, until_ended) = ours.host.enter(|| {
                let begin = Instant::now();
                let ops = managed.planner.policies_changed(vec![policy]);
                // From the end of the transaction on the guard drops what has the former address.
                let is_flow = |op: &Op| matches!(op, Op::ForgetFlows { .. });
                let transaction = ops.iter().take_while(|op| !is_flow(op)).count();
                managed.kernel.apply(&ops[..transaction])?;
                let enforced = begin.elapsed();
                managed.kernel.apply(&ops[transaction..])?;
                Ok::<_, Failure>((enforced, begin.elapsed()))
            })??;
            enforced.push(until_enforced.as_secs_f64() * 1e9);
            ended.push(until_ended.as_secs_f64() * 1e9);
        }
        for figures in [&mut enforced, &mut ended] {
            figures.sort_by(f64::total_cmp);
        }
        let address = both[round % 2];
        let rules = snat_rules(WORKLOADS, address);
        let ruleset = whole_ruleset(address);
        let of_round = [
            enforced[CHANGES / 2],
            enforced[CHANGES * 99 / 100],
            ended[CHANGES / 2],
            iptables.host.enter(|| time(|| restore(&rules)))??,
            nftables.host.enter(|| time(|| nft(&ruleset)))??,
        ];
        eprintln!(
            "round {}: ours, p99, old flows ended, iptables-restore, nft -f: {of_round:.0?} ns",
            round + 1
        );
        for (all, figure) in figures.iter_mut().zip(of_round) {
            all.push(figure);
        }
    }
    let [ours, p99, ended, iptables, nftables] = figures;
    let n = u64::from(WORKLOADS);
    Ok(vec![
        Record::beside(
            "policy-change",
            n,
            "ns",
            &ours,
            ("iptables-restore", &iptables),
        ),
        Record::beside("policy-change", n, "ns", &ours, ("nft-f", &nftables)),
        Record::alone("policy-change/p99", n, "ns", &p99),
        Record::alone("policy-change/old-flows-ended", n, "ns", &ended),
    ])
}

/// Nanoseconds.
fn time(run: impl FnOnce() -> Result<(), Failure>) -> Result<f64, Failure> {
    let begin = Instant::now();
    run()?;
    Ok(begin.elapsed().as_secs_f64() * 1e9)
}

/// Gives the measured container this address, whatever its label says.
fn policy(address: Ipv4Addr) -> Result<EgressPolicy, Failure> {
    let yaml = format!(
        "apiVersion: sortie.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {{name: bench}}\nspec:\n  \
         priority: 100\n  workloads:\n  - containers: {{names: [measured]}}\n  action: Egress\n  \
         egress: {{addresses: [{address}]}}\n"
    );
    let policies = parse("bench.yaml", &yaml).map_err(|problems| format!("{problems:?}"))?;
    Ok(policies.into_iter().next().ok_or("no policy")?)
}

/// What a script that knows maps would load: one table, one map, one rule.
fn whole_ruleset(measured: Ipv4Addr) -> String {
    let mut elements = format!("{CONTAINER} : {measured}");
    for number in 1..WORKLOADS {
        let container = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 10)) + number);
        let egress = Ipv4Addr::from(u32::from(EGRESS) + number % 100);
        // Writing to a String cannot fail.
        let _ = write!(elements, ", {container} : {egress}");
    }
    format!(
        "table ip egress {{}}\ndelete table ip egress\ntable ip egress {{\n map to {{ type ipv4_addr : \
         ipv4_addr; elements = {{ {elements} }} }}\n chain post {{ type nat hook postrouting priority \
         99; snat to ip saddr map @to; }}\n}}\n"
    )
}
