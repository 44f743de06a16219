//! Under a service manager: the process that the manager starts and waits for, in front of the gateway.
//!
//! A manager starts the next process when this one has gone, not before. What the gateway carries may
//! take its time to end. So it is a child, which outlives this one: the kernel sends it SIGTERM when
//! this one ends, however it ends, and it finishes what it has begun while the next one serves already.
//! This one has nothing to do, and nothing to lose.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

use crate::Error;
use crate::process;
use crate::systemd;

/// Tells the gateway that it is the child.
const BEHIND: &str = "SORTIE_GATEWAY_BEHIND";

/// Waits for the gateway, as its parent; none where this process is to be the gateway.
pub(super) fn stand() -> Result<Option<ExitCode>, Error> {
    if std::env::var_os(BEHIND).is_some() {
        process::is_named();
        return Ok(None);
    }
    if !systemd::is_managed() {
        return Ok(None);
    }
    let mut child = gateway()
        .spawn()
        .map_err(Error::system("start the gateway"))?;
    // It has them; those of workloads that have gone shall not stay open for the sake of this one.
    drop(systemd::passed());
    let ended = child
        .wait()
        .map_err(Error::system("wait for the gateway"))?;
    if !ended.success() {
        tracing::error!(status = %ended, "the gateway has ended");
    }
    let code = ended.code().and_then(|code| u8::try_from(code).ok());
    Ok(Some(code.map_or(ExitCode::FAILURE, ExitCode::from)))
}

/// The same program, with the same descriptors.
fn gateway() -> Command {
    let mut command = process::again();
    command.env(BEHIND, "1");
    let parent = std::process::id();
    let prepare = move || {
        prctl::set_pdeathsig(Signal::SIGTERM)?;
        // It may have ended before that.
        if getppid().as_raw().cast_unsigned() != parent {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe));
        }
        Ok(())
    };
    // SAFETY: prctl and getppid are async-signal-safe, and the closure allocates nothing.
    unsafe { command.pre_exec(prepare) };
    command
}
