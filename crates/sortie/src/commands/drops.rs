//! `sortie drops`.

use std::pin::pin;
use std::process::ExitCode;

use futures_util::TryStreamExt;
use sortie_agent::api::Drop;
use sortie_agent::client::Client;

use super::addresses::with_port;
use crate::error::CliError;
use crate::output::{Columns, Output, dash, write};

const COLUMNS: Columns<7> = Columns {
    head: [
        "TIME", "WORKLOAD", "PROTOCOL", "FROM", "TO", "REASON", "MEANING",
    ],
    widths: [20, 16, 8, 21, 21, 12, 0],
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Go on with drops as they come
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    output: Output,
}

pub(crate) async fn run(args: &Args, client: &Client) -> Result<ExitCode, CliError> {
    let mut drops = pin!(client.drops(args.follow).await?);
    if args.output.is_table() {
        write(&COLUMNS.header())?;
    }
    while let Some(drop) = drops.try_next().await? {
        args.output.item(&drop, row)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(drop: &Drop) -> String {
    COLUMNS.row(&[
        drop.time.clone(),
        dash(drop.workload.as_ref()),
        drop.protocol.clone(),
        dash(drop.from.map(|from| with_port(from, drop.from_port))),
        dash(drop.to.map(|to| with_port(to, drop.to_port))),
        drop.reason.clone(),
        drop.meaning.clone(),
    ])
}
