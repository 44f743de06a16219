//! The command line, and what each subcommand calls.

mod addresses;
mod agent;
mod apply;
mod attach;
mod bypass;
mod completion;
mod delete;
mod demo;
mod doctor;
mod down;
mod drops;
mod explain;
mod export;
mod flows;
mod gateway;
mod get;
mod install;
mod observe;
mod run;
mod status;
mod validate;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use sortie_agent::client::{Client, DEFAULT_SOCKET};

use crate::error::CliError;

/// Decides which address a container, pod or process is seen with when it calls out,
/// makes the kernel do it, and proves it.
#[derive(Debug, Parser)]
#[command(
    name = "sortie",
    version,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "Exit codes: 0 fine; 1 failed, or something is not right; 2 wrong command line."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    agent: Socket,
}

/// Where the agent is.
#[derive(Debug, Clone, Args)]
pub(crate) struct Socket {
    /// The agent's socket
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "SORTIE_SOCKET",
        default_value = DEFAULT_SOCKET
    )]
    socket: PathBuf,
}

impl Socket {
    fn client(&self) -> Client {
        Client::new(&self.socket)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show workloads, their addresses, and what is not right (exit code 1 if anything)
    Status(status::Args),
    /// Say why a workload leaves with an address towards a destination
    Explain(explain::Args),
    /// Print policies as configuration of Envoy or Istio
    Export(export::Args),
    /// Check policy files, show what changes, and put them into force
    Apply(apply::Args),
    /// Show what `apply` would change, changing nothing
    Plan(apply::PlanArgs),
    /// List policies, workloads or addresses
    Get(get::Args),
    /// Take policies out of force
    Delete(delete::Args),
    /// Check policy files without an agent
    Validate(validate::Args),
    /// Find what on this host is in the way (exit code 1 if anything but notes)
    Doctor(doctor::Args),
    /// Let a workload leave as without Sortie for a while, or list who does
    Bypass(bypass::Args),
    /// Connect from inside workloads, and compare the source that an observer sees
    Verify(verify::Args),
    /// Show the flows of managed workloads, with expected and actual source
    Flows(flows::Args),
    /// Show each dropped packet, and why
    Drops(drops::Args),
    /// Run a command that leaves with an address
    Run(run::Args),
    /// Give a container started with `--network none` an address to leave with
    Attach(attach::Args),
    /// Take away what `attach` or `run` gave
    Detach(attach::DetachArgs),
    /// Tell callers the address they are seen with, over HTTP, TCP and UDP
    Observe(observe::Args),
    /// Run the agent: the process that makes the kernel follow the policies
    Agent(agent::Args),
    /// Run resolver and gateway for workloads whose policies speak of names, beside the agent
    Gateway(gateway::Args),
    /// Make Docker or Podman hold each container's start until its decision is in the kernel
    Install(install::Args),
    /// Give Docker or Podman its former runtime back
    Uninstall(install::UninstallArgs),
    /// Remove everything that Sortie ever made on this host
    Down(down::Args),
    /// Show it all in a lab host with a real Docker engine (exit code 1 if a row is not right)
    Demo(demo::Args),
    /// Print a completion script for a shell
    Completion(completion::Args),
}

/// Starts no runtime itself: `agent` and `run` have something to do before they have threads.
pub(crate) fn run(cli: Cli) -> Result<ExitCode, CliError> {
    let socket = cli.agent;
    match cli.command {
        Command::Status(args) => block_on(status::run(&args, &socket.client())),
        Command::Explain(args) => block_on(explain::run(&args, &socket.client())),
        Command::Export(args) => block_on(export::run(&args, &socket.client())),
        Command::Apply(args) => block_on(apply::run(&args, &socket.client())),
        Command::Plan(args) => block_on(apply::plan(&args, &socket.client())),
        Command::Get(args) => block_on(get::run(&args, &socket.client())),
        Command::Delete(args) => block_on(delete::run(&args, &socket.client())),
        Command::Validate(args) => validate::run(&args),
        Command::Doctor(args) => block_on(doctor::run(&args, &socket.client())),
        Command::Bypass(args) => block_on(bypass::run(&args, &socket.client())),
        Command::Verify(args) => block_on(verify::run(&args, &socket.client())),
        Command::Flows(args) => block_on(flows::run(&args, &socket.client())),
        Command::Drops(args) => block_on(drops::run(&args, &socket.client())),
        Command::Run(args) => run::run(&args, &socket.client(), &socket.socket),
        Command::Attach(args) => block_on(attach::run(&args, &socket.client())),
        Command::Detach(args) => block_on(attach::detach(&args, &socket.client())),
        Command::Observe(args) => block_on(observe::run(&args)),
        Command::Agent(args) => agent::run(&args, &socket.socket),
        Command::Gateway(args) => gateway::run(&args, &socket.socket),
        Command::Install(args) => block_on(install::install(&args, &socket.socket)),
        Command::Uninstall(args) => block_on(install::uninstall(&args, &socket.socket)),
        Command::Down(args) => block_on(down::run(&args, &socket.client(), &socket.socket)),
        Command::Demo(args) => block_on(demo::run(&args)),
        Command::Completion(args) => completion::run(&args),
    }
}

/// Runs a command to its end on this thread.
fn block_on(
    command: impl Future<Output = Result<ExitCode, CliError>>,
) -> Result<ExitCode, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CliError::Runtime)?;
    runtime.block_on(command)
}
