//! Processes told apart from others that get their numbers later, and this program as a process of its
//! own.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Clock ticks since boot at which a process started (proc_pid_stat(5), field 22); none when it
/// is gone.
pub(crate) fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the third field follows the last of them.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let alive = fields
        .next()
        .is_some_and(|state| state != "Z" && state != "X");
    alive.then(|| fields.nth(18)?.parse().ok()).flatten()
}

/// The program of this process, for a child.
///
/// The program that runs, not what has its path by now: an upgrade puts another file there, whole
/// or not, and begins when the service is started again. The child resolves the link after the
/// fork, when it still is its parent's program.
pub(crate) const THIS: &str = "/proc/self/exe";

/// The same program with the same arguments, as a child.
pub(crate) fn again() -> Command {
    let mut command = Command::new(THIS);
    let mut arguments = std::env::args_os();
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments);
    command
}

/// Such a child says its name: the kernel names a process by the path it was started from, which says
/// `exe` (proc_pid_comm(5)).
pub(crate) fn is_named() {
    if let Err(error) = fs::write("/proc/self/comm", "sortie") {
        tracing::debug!(%error, "this process is listed as `exe`");
    }
}
