//! `sortie delete`.

use std::path::PathBuf;
use std::process::ExitCode;

use sortie_agent::api::Change;
use sortie_agent::client::Client;

use super::apply;
use crate::error::CliError;
use crate::files;
use crate::output::{Output, warn};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Policies, by name
    #[arg(value_name = "NAME", required_unless_present = "files")]
    names: Vec<String>,
    /// The policies in these files, folders of *.yaml, or - for standard input
    #[arg(short, long = "file", value_name = "FILE", conflicts_with = "names")]
    files: Vec<PathBuf>,
    /// Show what would change, changing nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: Output,
}

/// One policy's failure does not keep the others.
pub(crate) async fn run(args: &Args, client: &Client) -> Result<ExitCode, CliError> {
    let mut names = args.names.clone();
    if !args.files.is_empty() {
        let (_, set) = files::checked(&args.files)?;
        names.extend(set.policies().map(|policy| policy.name.0.clone()));
    }
    let mut whole = Change {
        dry_run: args.dry_run,
        ..Change::default()
    };
    let mut failures = Vec::new();
    for name in names {
        match client.delete(&name, args.dry_run).await {
            Ok(change) => {
                whole.policies.extend(change.policies);
                whole.workloads.extend(change.workloads);
                whole.steps.extend(change.steps);
                whole.warning = change.warning;
            }
            Err(error) => failures.push(error),
        }
    }
    if !whole.policies.is_empty() {
        args.output.print(&whole, apply::as_text)?;
        warn(whole.warning.as_deref());
    }
    if failures.is_empty() {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(CliError::Several(failures))
    }
}
