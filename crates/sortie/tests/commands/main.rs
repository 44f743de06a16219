//! The binary against a stand-in agent: what it asks, prints and exits with.

#![expect(
    clippy::unwrap_used,
    reason = "clippy's exception for tests covers only functions marked #[test]"
)]

mod agent;
mod changes;
mod export;
mod lists;
mod mistakes;
mod observe;
mod run;
mod streams;

use std::process::{Command, Output};

/// The binary, without anything of the caller's environment that it reads.
fn sortie(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sortie"));
    command.args(arguments).env_remove("SORTIE_SOCKET");
    command
}

/// Exit code, standard output and standard error, as one text for golden files.
fn shown(output: &Output) -> String {
    let code = output.status.code().expect("an exit code");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let mut text = format!("exit code {code}\n");
    for (name, stream) in [("stdout", stdout), ("stderr", stderr)] {
        if !stream.is_empty() {
            text.extend([format!("--- {name}\n"), stream.into_owned()]);
        }
    }
    text
}
