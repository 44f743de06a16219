//! Waiting for a condition, with a deadline: the one place that polls.

use std::time::{Duration, Instant};

use crate::error::{LabError, Result};

/// How long a test waits for what should happen at once. Generous: it only costs time on failure.
pub const SOON: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(10);

/// Calls `condition` until it answers `Ok`, at most for `limit`; its last `Err` explains a failure.
///
/// # Errors
/// [`LabError::Deadline`] with the last answer.
pub fn eventually<T, E: std::fmt::Display>(
    limit: Duration,
    what: &str,
    mut condition: impl FnMut() -> Result<T, E>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match condition() {
            Ok(value) => return Ok(value),
            Err(last) if Instant::now() >= deadline => {
                return Err(LabError::Deadline {
                    what: what.to_owned(),
                    limit,
                    last: format!(": {last}"),
                });
            }
            Err(_) => pause(),
        }
    }
}

/// As [`eventually`], for a condition that is just true or not.
///
/// # Errors
/// [`LabError::Deadline`].
pub fn eventually_true(
    limit: Duration,
    what: &str,
    mut condition: impl FnMut() -> bool,
) -> Result<()> {
    eventually(limit, what, || {
        if condition() { Ok(()) } else { Err("not yet") }
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the named place where the lab waits between two looks"
)]
fn pause() {
    std::thread::sleep(PAUSE);
}
