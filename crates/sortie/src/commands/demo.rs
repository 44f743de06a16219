//! `sortie demo`: a lab host with a real Docker engine, and what the other side saw of it.
//!
//! - `stage`: the lab, its host, engine, agent and workloads.
//! - `play`: the steps, and the rows of each.
//! - `row`: what was expected, what was seen, and the verdict.

mod play;
mod row;
mod stage;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::unistd::geteuid;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::CliError;
use crate::output::Output;
use row::{Row, as_text};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    output: Output,
}

/// Set once a signal asked the demo to end.
#[derive(Debug, Clone, Default)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    fn check(&self) -> Result<(), CliError> {
        if self.0.load(Ordering::Relaxed) {
            return Err(CliError::Interrupted);
        }
        Ok(())
    }
}

pub(crate) async fn run(args: &Args) -> Result<ExitCode, CliError> {
    if !geteuid().is_root() {
        return Err(CliError::NotRoot {
            command: "demo",
            reason: "its lab is made of network namespaces",
        });
    }
    let rows = play_until_signal().await?;
    args.output.print(&rows, |rows| as_text(rows))?;
    Ok(if rows.iter().all(Row::is_right) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The lab is taken down on the thread that made it, so a signal only asks that thread to stop.
async fn play_until_signal() -> Result<Vec<Row>, CliError> {
    let stop = Stop::default();
    let [mut interrupt, mut terminate, mut hangup] = [
        listen(SignalKind::interrupt())?,
        listen(SignalKind::terminate())?,
        listen(SignalKind::hangup())?,
    ];
    let (asked, runtime) = (stop.clone(), Handle::current());
    let mut play = tokio::task::spawn_blocking(move || play::all(&asked, &runtime));
    loop {
        tokio::select! {
            ended = &mut play => {
                let rows = ended.map_err(|panic| CliError::Wait(panic.into()))?;
                // Ctrl-C reaches the lab's programs too, and then anything may fail.
                return stop.check().and(rows);
            }
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        stop.0.store(true, Ordering::Relaxed);
        say("stopping, and taking the lab down");
    }
}

fn listen(kind: SignalKind) -> Result<Signal, CliError> {
    signal(kind).map_err(CliError::Wait)
}

/// One line of progress: standard output is for the table.
fn say(line: &str) {
    eprintln!("demo: {line}");
}
