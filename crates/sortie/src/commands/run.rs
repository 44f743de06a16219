//! `sortie run`: a command in a network namespace of its own, whose only way out is the agent's
//! interface.
//!
//! Steps, in order:
//! 1. This process leaves the host's network namespace, while it has one thread. Unix sockets
//!    that have a path are reached from any namespace, the agent's too.
//! 2. The agent puts an interface with the addresses into the namespace.
//! 3. The command starts, and inherits the namespace; signals go on to it.
//! 4. When it has ended, the interface is given back.
//!
//! When this process is killed the kernel kills the command, and the agent, who knows this
//! process as the owner, takes the interface away.
//!
//! Without an agent this process does its part itself; the interface is then closed by the death
//! of this process, and taken away by whoever comes next.

mod child;

use std::path::Path;
use std::process::ExitCode;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;
use sortie_agent::api::{AttachRequest, AttachTo};
use sortie_agent::client::{Client, ClientError};
use sortie_agent::foreground::Foreground;
use sortie_kernel::netns::Namespace;

use super::addresses::Egress;
use super::block_on;
use crate::error::CliError;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    egress: Egress,
    /// The command and its arguments, behind `--`
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

pub(crate) fn run(args: &Args, client: &Client, socket: &Path) -> Result<ExitCode, CliError> {
    if !geteuid().is_root() {
        return Err(CliError::NotRoot {
            command: "run",
            reason: "only root may make network namespaces",
        });
    }
    let host = Namespace::current().map_err(sortie_agent::Error::from)?;
    unshare(CloneFlags::CLONE_NEWNET).map_err(|e| CliError::Namespace(e.into()))?;
    block_on(inside(args, client, host, socket))
}

async fn inside(
    args: &Args,
    client: &Client,
    host: Namespace,
    socket: &Path,
) -> Result<ExitCode, CliError> {
    // clap asks for at least one word.
    let (program, arguments) = match args.command.split_first() {
        Some((program, arguments)) => (program.as_str(), arguments),
        None => ("", [].as_slice()),
    };
    let name = Path::new(program).file_name().unwrap_or_default();
    let pid = std::process::id();
    let request = AttachRequest {
        to: AttachTo::Process {
            pid,
            owner: pid,
            name: name.to_string_lossy().into_owned(),
        },
        addresses: args.egress.addresses(),
        via: args.egress.via.clone(),
    };
    let attachment = match client.attach(&request).await {
        Err(ClientError::NoAgent { .. }) => {
            return without_agent(request, host, socket, program, arguments).await;
        }
        answer => answer?,
    };
    let ended = child::run(program, arguments).await;
    match client.detach(&attachment.owner).await {
        // An agent that is away takes the interface away when it is back.
        Ok(()) | Err(ClientError::NoAgent { .. }) => {}
        Err(error) => eprintln!("sortie: {}: {error}", attachment.owner),
    }
    ended
}

/// The same with an agent's core of our own; all of it ends with this process.
async fn without_agent(
    request: AttachRequest,
    host: Namespace,
    socket: &Path,
    program: &str,
    arguments: &[String],
) -> Result<ExitCode, CliError> {
    let foreground = Foreground::start(host, socket)?;
    let attached = foreground.attach(request).await;
    let (ended, owner) = match attached {
        Ok(attachment) => (child::run(program, arguments).await, Some(attachment.owner)),
        Err(error) => (Err(error.into()), None),
    };
    if let Err(error) = foreground.end(owner).await {
        eprintln!("sortie: {error}; the next `sortie run` or `sortie down` takes the rest away");
    }
    ended
}
