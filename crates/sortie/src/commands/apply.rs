//! `sortie apply` and `sortie plan`: policy files into force, or what that would change.

use std::path::PathBuf;
use std::process::ExitCode;

use sortie_agent::api::Change;
use sortie_agent::client::Client;

use crate::error::CliError;
use crate::files;
use crate::output::{Output, table, warn, write};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    plan: PlanArgs,
    /// Show what would change, changing nothing; as `sortie plan`
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {
    /// Policy files, folders of *.yaml, or - for standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// Steps: the files are checked here; the agent says what changes; then it does it.
pub(crate) async fn run(args: &Args, client: &Client) -> Result<ExitCode, CliError> {
    if args.dry_run {
        return plan(&args.plan, client).await;
    }
    let (files, _) = files::checked(&args.plan.files)?;
    let output = args.plan.output;
    if output.is_table() {
        write(&as_text(&client.apply(&files, true).await?))?;
        let change = client.apply(&files, false).await?;
        write("applied\n")?;
        warn(change.warning.as_deref());
    } else {
        let change = client.apply(&files, false).await?;
        output.print(&change, as_text)?;
        warn(change.warning.as_deref());
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn plan(args: &PlanArgs, client: &Client) -> Result<ExitCode, CliError> {
    let (files, _) = files::checked(&args.files)?;
    let change = client.apply(&files, true).await?;
    args.output.print(&change, as_text)?;
    Ok(ExitCode::SUCCESS)
}

/// What becomes of policies, of workloads, and of the kernel.
pub(super) fn as_text(change: &Change) -> String {
    let policies = change.policies.iter();
    let policies = policies.map(|policy| format!("policy {}: {}\n", policy.name, policy.change));
    let mut text: String = policies.collect::<Vec<_>>().concat();
    if change.workloads.is_empty() {
        text.push_str("no workload's egress changes\n");
    } else {
        let rows = change.workloads.iter().map(|workload| {
            [
                workload.name.clone(),
                workload.before.clone(),
                workload.after.clone(),
            ]
        });
        text.push('\n');
        text += &table(["WORKLOAD", "BEFORE", "AFTER"], rows.collect());
    }
    if !change.steps.is_empty() {
        text.push_str("\nin the kernel:\n");
        let steps = change.steps.iter();
        text.extend(steps.map(|step| format!("  {}\n", step.trim_end().replace('\n', "\n  "))));
    }
    text
}
