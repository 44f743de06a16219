//! `sortie down`.

use std::path::Path;
use std::process::ExitCode;

use sortie_agent::api::Removed;
use sortie_agent::client::{Client, ClientError};

use crate::error::CliError;
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// End the agent first, whether it answers or not, and remove without it
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    output: Output,
}

pub(crate) async fn run(args: &Args, client: &Client, socket: &Path) -> Result<ExitCode, CliError> {
    let removed = if args.force {
        sortie_agent::down_by_force(socket)?
    } else {
        match client.down().await {
            Err(ClientError::NoAgent { .. }) => sortie_agent::down(socket)?,
            answer => answer?,
        }
    };
    args.output.print(&removed, as_text)?;
    Ok(ExitCode::SUCCESS)
}

fn as_text(removed: &Removed) -> String {
    if removed.steps.is_empty() {
        return "nothing of Sortie's was there\n".to_owned();
    }
    removed.steps.join("\n") + "\n"
}
