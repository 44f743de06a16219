//! From simulated workloads to real nftables elements: start to enforced, and one workload more.
//!
//! Facts go the agent's way: planner, steps, `Kernel::apply`. Each measurement has a network
//! namespace of its own, so root is needed; the kernel's elements are read back and compared.
//! Results go to `docs/benchmarks/host.json` and into the host's part of `docs/benchmarks.md`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sortie_agent::host::environment;
use sortie_api::config::AgentConfig;
use sortie_api::workload::{Snapshot, Workload};
use sortie_kernel::kernel::{Kernel, Options};
use sortie_kernel::{facts, netns::Namespace};
use sortie_plan::op::Op;
use sortie_plan::planner::Planner;
use sortie_plan::state::Observed;
use sortie_workloads::simulated::simulated;

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
/// Around what this bench writes in the document.
const MARKS: [&str; 2] = ["<!-- host: begin -->\n", "<!-- host: end -->\n"];

type Failure = Box<dyn Error + Send + Sync>;

/// The durations of one round, by bench.
type Round = Vec<(&'static str, Duration)>;
/// The durations of all rounds, by bench and size.
type Durations = BTreeMap<(&'static str, u32), Vec<Duration>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("workloads: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let mut durations = Durations::new();
    for number in 1..=ROUNDS {
        for size in SIZES {
            // A new one each time: nothing of the round before is in it.
            let namespace = Namespace::anonymous()?;
            for (bench, duration) in namespace.enter(|| round(size))?? {
                eprintln!("round {number}: {bench}, {size} workloads: {duration:?}");
                durations.entry((bench, size)).or_default().push(duration);
            }
        }
    }
    for of_bench in durations.values_mut() {
        of_bench.sort_unstable();
    }
    write(&durations)
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
    for workload in snapshot.workloads {
        planner.workload(workload, None);
    }
    let ops = planner.adopt(&observed);
    let applied_from = Instant::now();
    kernel.apply(&ops)?;
    let end = Instant::now();

    let mut round = vec![
        ("agent/start", end - begin),
        ("plan/full", applied_from - planned_from),
        ("kernel/load", end - applied_from),
    ];
    round.extend(changes(&mut kernel, &mut planner, &last)?);
    // Once, at the end: hash tables that still grow are listed several times over.
    round.push(("kernel/observe", verify(&mut kernel, &planner, size)?));
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
        workload.labels.insert("sortie.egress".to_owned(), label);
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
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let at = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(at).copied().unwrap_or_default()
}

fn write(durations: &Durations) -> Result<(), Failure> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let records: Vec<Value> = durations
        .iter()
        .map(|((bench, size), sorted)| record(bench, *size, sorted))
        .collect();
    let json = records
        .iter()
        .map(Value::to_string)
        .collect::<Vec<_>>()
        .join(",\n");
    fs::write(docs.join("benchmarks/host.json"), format!("[\n{json}\n]\n"))?;

    let path = docs.join("benchmarks.md");
    let text = fs::read_to_string(&path)?;
    let [begin, end] = MARKS;
    let outside = |text: &str| -> Option<(String, String)> {
        let (before, rest) = text.split_once(begin)?;
        let (_, after) = rest.split_once(end)?;
        Some((before.to_owned(), after.to_owned()))
    };
    let (before, after) = outside(&text).ok_or("docs/benchmarks.md has no part for the host")?;
    fs::write(
        &path,
        format!("{before}{begin}{}{end}{after}", document(durations)?),
    )?;
    Ok(())
}

fn record(bench: &str, size: u32, sorted: &[Duration]) -> Value {
    let nanoseconds =
        |percent| u64::try_from(percentile(sorted, percent).as_nanos()).unwrap_or(u64::MAX);
    json!({
        "bench": bench,
        "n": size,
        "peer": null,
        "unit": "ns",
        "rounds": sorted.len(),
        "sortie": {"min": nanoseconds(0), "median": nanoseconds(50), "max": nanoseconds(100)},
    })
}

/// The host's part of the document.
fn document(durations: &Durations) -> Result<String, Failure> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let (_, model) = model.unwrap_or(("", "unknown CPU"));
    let cores = std::thread::available_parallelism()?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let kernel = release.trim().split('-').next().unwrap_or_default();
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d");
    let columns = |title: &str, benches: &[(&str, &'static str)]| {
        let names = benches.iter().map(|(name, _)| (*name).to_owned());
        let head = row(title, names);
        let rule = row("---", benches.iter().map(|_| "---".to_owned()));
        let body = SIZES.map(|size| {
            let sorted = |bench| durations.get(&(bench, size)).map_or(&[][..], Vec::as_slice);
            let cells = benches.iter().map(|(_, bench)| cell(sorted(*bench)));
            row(&size.to_string(), cells)
        });
        head + &rule + &body.concat()
    };
    let start = columns(
        "Workloads",
        &[
            ("start to enforced", "agent/start"),
            ("of it plan", "plan/full"),
            ("of it kernel", "kernel/load"),
            ("read all back", "kernel/observe"),
        ],
    );
    let change = columns(
        "Workloads there",
        &[
            ("one more: plan", "plan/workload"),
            ("one more: in the kernel", "workload/decided"),
            ("p99", "workload/decided/p99"),
            ("and old flows ended", "workload/enforced"),
            ("p99", "workload/enforced/p99"),
            ("one fewer", "workload/gone"),
            ("p99", "workload/gone/p99"),
        ],
    );
    Ok(format!(
        "{cores} cores, {model}; Linux {kernel}; {date}. Median (lowest–highest) of {ROUNDS} rounds, \
         in milliseconds; each round of a change is {CHANGES} changes.\n\n{start}\n{change}"
    ))
}

fn row(first: &str, others: impl Iterator<Item = String>) -> String {
    let others: Vec<String> = others.collect();
    format!("| {first} | {} |\n", others.join(" | "))
}

/// Milliseconds.
fn cell(sorted: &[Duration]) -> String {
    let [low, middle, high] =
        [0, 50, 100].map(|percent| percentile(sorted, percent).as_secs_f64() * 1e3);
    let digits = match middle {
        ..1.0 => 3,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{middle:.digits$} ({low:.digits$}–{high:.digits$})")
}
