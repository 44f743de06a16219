//! `sortie gateway`.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use sortie_agent::gateway;

use super::agent::{LogFormat, log};
use crate::error::CliError;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How the log is written, on standard error
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
    /// Answer scrapes of Prometheus at `http://ADDRESS:PORT/metrics`
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
}

pub(crate) fn run(args: &Args, socket: &Path) -> Result<ExitCode, CliError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(CliError::NotRoot {
            command: "gateway",
            reason: "it listens inside containers' network namespaces",
        });
    }
    log(args.log_format);
    let options = gateway::Options {
        socket: socket.to_owned(),
        metrics: args.metrics,
    };
    Ok(gateway::run(&options)?)
}
