//! `sortie observe`.

use std::net::SocketAddr;
use std::process::ExitCode;

use sortie_agent::observe::{Caller, Observer};
use tokio::sync::mpsc;

use crate::error::CliError;
use crate::output::{Columns, Output, list, write};

/// The port when nothing is said.
const PORT: u16 = 8080;
/// Callers that may wait for being printed.
const WAITING: usize = 4096;

const COLUMNS: Columns<4> = Columns {
    head: ["TIME", "PROTOCOL", "ADDRESS", "PORT"],
    widths: [20, 8, 15, 5],
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen, TCP and UDP alike; an IPv6 address takes IPv6 only. Without it, port
    /// 8080 of every address
    #[arg(short, long, value_name = "ADDRESS:PORT", value_delimiter = ',', value_parser = place)]
    listen: Vec<SocketAddr>,
    #[command(flatten)]
    output: Output,
}

fn place(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "write ADDRESS:PORT, such as 0.0.0.0:8080 or [::]:8080".to_owned())
}

/// Ends only with an error, or with the process.
pub(crate) async fn run(args: &Args) -> Result<ExitCode, CliError> {
    let observer = if args.listen.is_empty() {
        Observer::bind_all(PORT)?
    } else {
        Observer::bind(&args.listen)?
    };
    if args.output.is_table() {
        eprintln!("observing at {}", list(observer.addresses()));
        write(&COLUMNS.header())?;
    }
    let (sender, mut callers) = mpsc::channel(WAITING);
    let serving = tokio::spawn(observer.serve(sender));
    while let Some(caller) = callers.recv().await {
        args.output.item(&caller, row)?;
    }
    serving.abort();
    Ok(ExitCode::SUCCESS)
}

fn row(caller: &Caller) -> String {
    COLUMNS.row(&[
        format!("{:.0}", caller.time),
        caller.protocol.clone(),
        caller.address.to_string(),
        caller.port.to_string(),
    ])
}
