//! From simulated workloads to real nftables elements: start to enforced, and one workload more.
//!
//! Each measurement has a network
//! namespace of its own; the kernel's elements are read back and compared.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sortie_agent::host::environment;
use sortie_api::config::AgentConfig;
use sortie_api::workload::{Snapshot, Workload};
use sortie_kernel::kernel::{Kernel, Options};
use sortie_kernel::{facts, netns::Namespace};
use sortie_plan::op::Op;
use sortie_plan::planner::Planner;
use sortie_plan::state::Observed;
use sortie_workloads::simulated::simulated;

use crate::Failure;
use crate::record::Record;

const SIZES: [u32; 4] = [1, 1_000, 10_000, 100_000];
const ROUNDS: usize = 5;
/// One workload comes and goes so often in each round.
const CHANGES: usize = 100;
/// Workloads share so many egress addresses of each family.
const EGRESS: u32 = 100;
/// Sets with one element for each workload of this bench, which has one port, one IPv4 and one
/// IPv6 address.
const PER_WORKLOAD: [&str; 13] = [
    "ports", "bound4", "bound6", "known4", "known6", "own4", "own6", "snat4", "snat6", "allowed4",
    "allowed6", "managed4", "managed6",
];
/// The figures of one round, by bench: nanoseconds, and bytes for [`RSS`].
type Round = Vec<(&'static str, f64)>;

/// The agent's memory once all is enforced.
const RSS: &str = "agent/rss";
/// The argument of a process that does one round, before the number of workloads.
pub(crate) const ROUND: &str = "--round";

pub(crate) fn run() -> Result<Vec<Record>, Failure> {
    let mut figures: BTreeMap<(String, u32), Vec<f64>> = BTreeMap::new();
    for number in 1..=ROUNDS {
        for size in SIZES {
            // A process for each, or the memory of the one before would count.
            let program = std::env::current_exe()?;
            let output = Command::new(program)
                .args([ROUND, &size.to_string()])
                .output()?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into());
            }
            let round: BTreeMap<String, f64> = serde_json::from_slice(&output.stdout)?;
            for (bench, figure) in round {
                eprintln!("round {number}: {bench}, {size} workloads: {figure:.0}");
                figures.entry((bench, size)).or_default().push(figure);
            }
        }
    }
    let record = |((bench, size), all): (&(String, u32), &Vec<f64>)| {
        let unit = if bench == RSS { "bytes" } else { "ns" };
        Record::alone(bench, u64::from(*size), unit, all)
    };
    Ok(figures.iter().map(record).collect())
}

/// One round of so many workloads, printed as JSON.
pub(crate) fn print_round(size: &str) -> Result<(), Failure> {
    let size = size.parse()?;
    let round = Namespace::anonymous()?.enter(|| round(size))??;
    let round: BTreeMap<&str, f64> = round.into_iter().collect();
    println!("{}", serde_json::to_string(&round)?);
    Ok(())
}

/// Bytes of this process that are in memory (`VmRSS` of proc_pid_status(5)).
fn resident() -> Result<f64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes: f64 = line
        .and_then(|line| line.split_whitespace().next())
        .ok_or("no VmRSS")?
        .parse()?;
    Ok(kibibytes * 1024.0)
}

fn nanoseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}

/// Start with `size` workloads, then one more and one fewer, many times.
fn round(size: u32) -> Result<Round, Failure> {
    uplink()?;
    let (snapshot, last) = snapshot(size)?;
    let state = tempfile::tempdir()?;
    let begin = Instant::now();
    let mut kernel = Kernel::open(Options {
        state: state.path().to_owned(),
        ..Options::default()
    })?;
    let facts = facts::read(kernel.rtnetlink())?;
    let observed = kernel.observe()?;
    let planned_from = Instant::now();
    let mut planner = Planner::new(environment(&facts, &AgentConfig::default()));
    // As at the agent's start: no step is done before the snapshot is complete.
    planner.networks(snapshot.networks);
    planner.learn(snapshot.workloads, &[]);
    let mut loading = Duration::ZERO;
    for ops in planner.adopt(&observed) {
        let from = Instant::now();
        kernel.apply(&ops)?;
        loading += from.elapsed();
    }
    let end = Instant::now();

    let mut round = vec![
        ("agent/start", nanoseconds(end - begin)),
        (
            "plan/full",
            nanoseconds((end - planned_from).saturating_sub(loading)),
        ),
        ("kernel/load", nanoseconds(loading)),
        (RSS, resident()?),
    ];
    round.extend(changes(&mut kernel, &mut planner, &last)?);
    // Once, at the end: hash tables that still grow are listed several times over.
    let observed = verify(&mut kernel, &planner, size)?;
    round.push(("kernel/observe", nanoseconds(observed)));
    Ok(round)
}

/// `last` comes and goes.
fn changes(kernel: &mut Kernel, planner: &mut Planner, last: &Workload) -> Result<Round, Failure> {
    let [mut plan, mut decided, mut enforced, mut gone] =
        [(); 4].map(|()| Vec::with_capacity(CHANGES));
    for _ in 0..CHANGES {
        let workload = last.clone();
        let begin = Instant::now();
        let ops = planner.workload(workload, None);
        plan.push(begin.elapsed());
        // Flows that are tracked already end last.
        let is_flow = |op: &Op| matches!(op, Op::ForgetFlows { .. });
        let (transaction, flows) = ops.split_at(ops.iter().take_while(|op| !is_flow(op)).count());
        kernel.apply(transaction)?;
        decided.push(begin.elapsed());
        kernel.apply(flows)?;
        enforced.push(begin.elapsed());
        let begin = Instant::now();
        let ops = planner.workload_gone(&last.id);
        kernel.apply(&ops)?;
        gone.push(begin.elapsed());
    }
    for of_change in [&mut plan, &mut decided, &mut enforced, &mut gone] {
        of_change.sort_unstable();
    }
    Ok(vec![
        ("plan/workload", percentile(&plan, 50)),
        ("workload/decided", percentile(&decided, 50)),
        ("workload/decided/p99", percentile(&decided, 99)),
        ("workload/enforced", percentile(&enforced, 50)),
        ("workload/enforced/p99", percentile(&enforced, 99)),
        ("workload/gone", percentile(&gone, 50)),
        ("workload/gone/p99", percentile(&gone, 99)),
    ])
}

/// The kernel holds what the plan wants, and so many workloads of it; yields how long reading it
/// back took.
fn verify(kernel: &mut Kernel, planner: &Planner, workloads: u32) -> Result<Duration, Failure> {
    let begin = Instant::now();
    let observed = kernel.observe()?;
    let duration = begin.elapsed();
    for name in PER_WORKLOAD {
        let mut sets = observed
            .tables
            .values()
            .filter_map(|table| table.sets.get(name));
        let elements = sets.next().map_or(0, BTreeMap::len);
        if elements != workloads as usize {
            return Err(format!("{elements} elements in {name}, not {workloads}").into());
        }
    }
    if observed != Observed::from(planner.desired()) {
        return Err("the kernel holds something else than the plan wants".into());
    }
    Ok(duration)
}

/// `size` workloads that each have a label with an egress address, and one more on a network that
/// is there.
fn snapshot(size: u32) -> Result<(Snapshot, Workload), Failure> {
    let mut snapshot = simulated(size + 1);
    for (workload, number) in snapshot.workloads.iter_mut().zip((1..=EGRESS).cycle()) {
        let label = format!("192.0.2.{number},2001:db8::{number}");
        let labels = workload.labels.iter();
        workload.labels = labels.chain([("sortie.egress", &*label)]).collect();
    }
    let last = snapshot
        .workloads
        .pop()
        .ok_or("a snapshot without workloads")?;
    Ok((snapshot, last))
}

/// Makes an uplink that has all egress addresses.
fn uplink() -> Result<(), Failure> {
    let links = "link set lo up\n\
        link add up0 type veth peer name far0\n\
        link set far0 up\n\
        link set up0 up\n";
    let addresses = (1..=EGRESS).map(|number| {
        format!(
            "addr add 192.0.2.{number}/24 dev up0\n\
             addr add 2001:db8::{number}/64 dev up0 nodad\n"
        )
    });
    let script = links.to_owned() + &addresses.collect::<String>();
    let mut ip = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()?;
    ip.stdin
        .take()
        .ok_or("no standard input")?
        .write_all(script.as_bytes())?;
    let status = ip.wait()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("ip: {status}").into())
    }
}

/// Of sorted durations, that which so many percent are not longer than.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let at = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    nanoseconds(sorted.get(at).copied().unwrap_or_default())
}
