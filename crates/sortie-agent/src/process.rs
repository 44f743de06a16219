//! Processes told apart from others that get their numbers later.

use std::fs;

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
