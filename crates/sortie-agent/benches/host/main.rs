//! What one host costs, each figure beside its peers where it has any, in the same run.
//!
//! Facts go the agent's way: planner, steps, `Kernel::apply`. Everything is in network namespaces of
//! its own, so root is needed. Results go to `docs/benchmarks/host.json` and into the host's part of
//! `docs/benchmarks.md`. `cargo bench … -- start|traffic|change|container` runs a part, and keeps the records
//! of the others.

use std::error::Error;
use std::process::ExitCode;

mod change;
mod container;
mod document;
mod programs;
mod record;
mod rig;
mod start;
mod traffic;

type Failure = Box<dyn Error + Send + Sync>;

/// A part of the bench: its name on the command line, and what it measures.
type Part = (&'static str, fn() -> Result<Vec<record::Record>, Failure>);

/// This bench's part of the document.
const PART: document::Part = document::Part {
    name: "host",
    sizes: "Workloads",
    keeps: true,
    remarks: |_| String::new(),
};

const PARTS: [Part; 4] = [
    ("traffic", traffic::run),
    ("change", change::run),
    ("start", start::run),
    ("container", container::run),
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("host: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(start::ROUND) {
        return start::print_round(&arguments.next().ok_or("how many workloads?")?);
    }
    // Cargo adds `--bench` of its own.
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    if let Some(unknown) = asked
        .iter()
        .find(|name| PARTS.iter().all(|(part, _)| part != name))
    {
        return Err(format!("there is no part {unknown}").into());
    }
    for (name, part) in PARTS {
        if asked.is_empty() || asked.iter().any(|asked| asked == name) {
            // After each part, so that a failure later loses nothing.
            document::update(&PART, &part()?)?;
        }
    }
    Ok(())
}
