//! `sortie flows`.

use std::pin::pin;
use std::process::ExitCode;

use futures_util::TryStreamExt;
use sortie_agent::api::{Flow, Outcome};
use sortie_agent::client::Client;

use crate::error::CliError;
use crate::output::{Columns, Output, dash, write};

const COLUMNS: Columns<10> = Columns {
    head: [
        "TIME", "EVENT", "WORKLOAD", "PROTOCOL", "FROM", "TO", "EXPECTED", "ACTUAL", "VERDICT",
        "AUDIT",
    ],
    widths: [20, 5, 16, 8, 15, 21, 15, 15, 7, 20],
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Go on with flows as they come
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    output: Output,
}

pub(crate) async fn run(args: &Args, client: &Client) -> Result<ExitCode, CliError> {
    let mut flows = pin!(client.flows(args.follow).await?);
    if args.output.is_table() {
        write(&COLUMNS.header())?;
    }
    while let Some(flow) = flows.try_next().await? {
        args.output.item(&flow, row)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn audit(flow: &Flow) -> String {
    let differs = flow
        .audit
        .as_ref()
        .filter(|note| note.outcome != Outcome::Same);
    dash(differs.map(|note| format!("{} would {}", note.policy, note.would)))
}

fn row(flow: &Flow) -> String {
    COLUMNS.row(&[
        flow.time.clone(),
        flow.event.clone(),
        flow.workload.clone(),
        flow.protocol.clone(),
        flow.from.to_string(),
        super::addresses::with_port(flow.to, flow.port),
        dash(flow.expected),
        flow.actual.to_string(),
        flow.verdict.clone(),
        audit(flow),
    ])
}
