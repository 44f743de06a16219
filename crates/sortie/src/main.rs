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

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use sortie_agent::{probe, runtime};

use commands::Cli;
use error::CliError;

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let name = words.next();
    if probe::is_called_as(name.as_deref()) {
        println!("{}", probe::told(words));
        return ExitCode::SUCCESS;
    }
    if let Some(link) = runtime::called_as(name) {
        return become_runtime(&link, words.collect());
    }
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

/// An engine calls this program as its OCI runtime, by a link.
fn become_runtime(link: &Path, arguments: Vec<OsString>) -> ExitCode {
    match runtime::run(link, arguments) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("{error}");
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
    if let Some(word) = command_without_dashes(usage) {
        eprintln!(
            "sortie: write -- before the command `{word}`, as in: sortie run --address 203.0.113.11 -- curl example.com"
        );
        return ExitCode::from(2);
    }
    let text = usage.to_string();
    let text = text.trim_end();
    match text.strip_prefix("error: ") {
        Some(text) => eprintln!("sortie: {text}"),
        // `sortie` alone: its help.
        None => eprintln!("{text}"),
    }
    ExitCode::from(2)
}

/// The one thing that clap cannot know: what looks like an argument of `run` is the command.
fn command_without_dashes(usage: &clap::Error) -> Option<&str> {
    let Some(ContextValue::String(word)) = usage.get(ContextKind::InvalidArg) else {
        return None;
    };
    let mut arguments = std::env::args().skip(1);
    let is_command = usage.kind() == ErrorKind::UnknownArgument
        && !word.starts_with('-')
        && arguments.any(|argument| argument == "run")
        && arguments.all(|argument| argument != "--");
    is_command.then_some(word)
}
