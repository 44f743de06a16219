//! The command of `sortie run`: started, sent signals, waited for.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode, ExitStatus};

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgrp, getpid, getppid, tcgetpgrp};
use tokio::signal::unix::{SignalKind, signal};

use crate::error::CliError;

/// Starts the command with this process' standard streams, and waits for its end.
///
/// The exit code is the command's, or 128 and the signal's number, as shells have it.
pub(super) async fn run(program: &str, arguments: &[String]) -> Result<ExitCode, CliError> {
    let mut command = Command::new(program);
    command.args(arguments);
    die_with(&mut command, getpid());
    // Signals are caught before there is a command, so that none is lost.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CliError::Wait)?;
    let mut quit = signal(SignalKind::quit()).map_err(CliError::Wait)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(CliError::Wait)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(CliError::Wait)?;
    let mut child = tokio::process::Command::from(command)
        .spawn()
        .map_err(|source| CliError::Start {
            command: program.to_owned(),
            source,
        })?;
    loop {
        let received = tokio::select! {
            ended = child.wait() => {
                return ended.map(code).map_err(CliError::Wait);
            }
            _ = interrupt.recv() => Signal::SIGINT,
            _ = quit.recv() => Signal::SIGQUIT,
            _ = hangup.recv() => Signal::SIGHUP,
            _ = terminate.recv() => Signal::SIGTERM,
        };
        if received != Signal::SIGTERM && terminal_sends_to_all() {
            continue;
        }
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid {
            // It may have just ended; then the next turn sees that.
            let _ = kill(Pid::from_raw(pid), received);
        }
    }
}

/// Has the kernel kill the command when `parent` dies, whatever it dies of: without its owner
/// the command has no interface, and nobody waits for it.
#[expect(
    unsafe_code,
    reason = "std has no safe way to set the parent-death signal"
)]
fn die_with(command: &mut Command, parent: Pid) {
    let before_exec = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        if getppid() != parent {
            // It died before the line above.
            return Err(io::ErrorKind::NotConnected.into());
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe things may be done: these are two
    // system calls, prctl(2) and getppid(2), and no memory is allocated.
    unsafe {
        command.pre_exec(before_exec);
    }
}

/// Whether Ctrl-C and its like, sent by the terminal to its whole foreground group, have reached
/// the command already; sent again, it would see them twice.
fn terminal_sends_to_all() -> bool {
    tcgetpgrp(io::stdin()).is_ok_and(|foreground| foreground == getpgrp())
}

fn code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}
