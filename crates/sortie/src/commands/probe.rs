//! `sortie probe`, which the agent starts for `sortie verify`: a connection from inside a cgroup.

use std::process::ExitCode;

use sortie_agent::probe::{ObserverUrl, become_one};
use sortie_agent::verify::LIMIT;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Whose cgroup
    pid: u32,
    /// Who tells the source
    observer: ObserverUrl,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    println!("{}", become_one(args.pid, &args.observer, LIMIT));
    ExitCode::SUCCESS
}
