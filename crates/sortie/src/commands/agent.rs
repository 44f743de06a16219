//! `sortie agent`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::error::CliError;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The agent's own settings; without the file, their defaults
    #[arg(long, value_name = "FILE", default_value = "/etc/sortie/agent.yaml")]
    config: PathBuf,
    /// The folder whose *.yaml are in force
    #[arg(long, value_name = "FOLDER", default_value = "/etc/sortie/policies")]
    policies: PathBuf,
    /// What the agent keeps across restarts
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/sortie")]
    state: PathBuf,
    /// Docker's socket, instead of the one in the settings
    #[arg(long, value_name = "SOCKET")]
    docker: Option<PathBuf>,
    /// Fail on purpose at these points, for tests
    #[arg(long, value_name = "SPEC", hide = true)]
    failpoints: Option<String>,
}

pub(crate) fn run(args: &Args, socket: &Path) -> Result<ExitCode, CliError> {
    start_agent(args, socket)
}

/// Stands where `sortie_agent::run(options)` goes.
fn start_agent(_args: &Args, _socket: &Path) -> Result<ExitCode, CliError> {
    Err(CliError::NotBuilt("the agent"))
}
