//! `sortie agent`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

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
    /// How the log is written, on standard error
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
    /// Fail on purpose at these points, for tests
    #[arg(long, value_name = "SPEC", hide = true)]
    failpoints: Option<String>,
}

/// `--log-format`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    // For people.
    #[default]
    Text,
    // For programs: one object a line.
    Json,
}

pub(crate) fn run(args: &Args, socket: &Path) -> Result<ExitCode, CliError> {
    log(args.log_format);
    let failpoints = args.failpoints.as_deref().unwrap_or_default();
    let options = sortie_agent::Options {
        config: args.config.clone(),
        policies: args.policies.clone(),
        state: args.state.clone(),
        socket: socket.to_owned(),
        docker: args.docker.clone(),
        failpoints: failpoints.parse().map_err(CliError::Failpoints)?,
    };
    Ok(sortie_agent::run(&options)?)
}

pub(super) fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_env("SORTIE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}
