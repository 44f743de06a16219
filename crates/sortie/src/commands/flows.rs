//! `sortie flows`.

use std::pin::pin;
use std::process::ExitCode;

use futures_util::TryStreamExt;
use sortie_agent::api::Flow;
use sortie_agent::client::Client;

use crate::error::CliError;
use crate::output::{Columns, Output, dash, write};

const COLUMNS: Columns<9> = Columns {
    head: [
        "TIME", "EVENT", "WORKLOAD", "PROTOCOL", "FROM", "TO", "EXPECTED", "ACTUAL", "VERDICT",
    ],
    widths: [20, 5, 16, 8, 15, 21, 15, 15, 7],
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
    ])
}
