//! Programs of the system, run to their end.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::Failure;

/// Runs `ip -batch`.
pub(crate) fn ip(script: &str) -> Result<(), Failure> {
    run("ip", &["-batch", "-"], script)
}

/// Runs `nft -f`.
pub(crate) fn nft(script: &str) -> Result<(), Failure> {
    run("nft", &["-f", "-"], script)
}

/// Runs a program of the calling thread's namespace to its end.
pub(crate) fn run(program: &str, arguments: &[&str], input: &str) -> Result<(), Failure> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    child
        .stdin
        .take()
        .ok_or("no standard input")?
        .write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr)).into())
    }
}
