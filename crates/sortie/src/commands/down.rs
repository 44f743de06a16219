//! `sortie down`.

use std::process::ExitCode;

use sortie_agent::api::Removed;
use sortie_agent::client::Client;

use crate::error::CliError;
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Stop an agent that does not answer, and remove without it
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    output: Output,
}

pub(crate) async fn run(args: &Args, client: &Client) -> Result<ExitCode, CliError> {
    let removed = if args.force {
        remove_without_agent()?
    } else {
        client.down().await?
    };
    args.output.print(&removed, as_text)?;
    Ok(ExitCode::SUCCESS)
}

/// Stands where the agent's own teardown goes, for `--force`.
fn remove_without_agent() -> Result<Removed, CliError> {
    Err(CliError::NotBuilt("`down --force`"))
}

fn as_text(removed: &Removed) -> String {
    if removed.steps.is_empty() {
        return "nothing of Sortie's was there\n".to_owned();
    }
    removed.steps.join("\n") + "\n"
}
