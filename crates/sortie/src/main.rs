//! Decides which address a container, pod or process is seen with when it calls out.
//!
//! - `commands`: one file a subcommand: its arguments, the library it calls, what it prints.
//! - `output`: tables, JSON and YAML on standard output.
//! - `destination`: `DEST[:PORT[/PROTO]]`.
//! - `files`: policy files as users name them.
//! - `error`: what is printed once, on standard error, as `sortie: …`.

mod commands;
mod destination;
mod error;
mod files;
mod output;

use std::process::ExitCode;

use clap::Parser;

use commands::Cli;
use error::CliError;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => return refuse(&usage),
    };
    match commands::run(cli) {
        Ok(code) => code,
        // Whoever read the output has seen enough.
        Err(CliError::Closed) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sortie: {}", error.to_string().trim_end());
            ExitCode::FAILURE
        }
    }
}

/// What clap has to say: help and the version, or a wrong command line.
fn refuse(usage: &clap::Error) -> ExitCode {
    if !usage.use_stderr() {
        // As above: nobody may be reading.
        let _ = usage.print();
        return ExitCode::SUCCESS;
    }
    let text = usage.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    eprintln!("sortie: {}", text.trim_end());
    ExitCode::from(2)
}
