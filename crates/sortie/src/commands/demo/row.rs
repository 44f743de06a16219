//! One row of the demo: what a workload should be seen with, what was seen, and the verdict.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use crate::output::{list, table};

#[cfg(test)]
mod tests;

/// One workload in one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    /// What had happened before.
    pub(super) step: &'static str,
    pub(super) workload: String,
    /// What decides for it.
    pub(super) policy: &'static str,
    /// The only source that may be seen; none where nothing may leave.
    pub(super) expected: Option<IpAddr>,
    #[serde(flatten)]
    pub(super) evidence: Evidence,
    pub(super) verdict: Verdict,
}

/// What both witnesses say of some attempts of a workload to reach a destination of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Evidence {
    /// Attempts made.
    pub(super) attempts: usize,
    /// Attempts that were answered.
    pub(super) answered: usize,
    /// The callers that the observer in the internet saw, each source once.
    pub(super) seen: Vec<IpAddr>,
    /// The sources of the frames that left the host for this destination, each once.
    pub(super) left: Vec<IpAddr>,
}

/// Only `Right` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Verdict {
    /// As expected, in the observer's eyes and on the wire.
    Right,
    /// Something left with a source that it must not have.
    Wrong,
    /// Nothing wrong left, but not every attempt got through.
    Unreachable,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Right => "right",
            Self::Wrong => "wrong",
            Self::Unreachable => "unreachable",
        })
    }
}

impl Row {
    pub(super) fn is_right(&self) -> bool {
        self.verdict == Verdict::Right
    }
}

/// The verdict over all attempts of a row: both witnesses must agree with `expected`.
pub(super) fn judge(expected: Option<IpAddr>, evidence: &Evidence) -> Verdict {
    let mut sources = evidence.seen.iter().chain(&evidence.left);
    if sources.any(|source| Some(*source) != expected) {
        return Verdict::Wrong;
    }
    let complete = match expected {
        // An answer that no witness saw has come some other way.
        None if evidence.answered > 0 => return Verdict::Wrong,
        None => true,
        // Without both witnesses nothing is proved.
        Some(_) => {
            evidence.answered == evidence.attempts
                && !evidence.seen.is_empty()
                && !evidence.left.is_empty()
        }
    };
    if complete {
        Verdict::Right
    } else {
        Verdict::Unreachable
    }
}

/// One table, where a step is named in its first row; below it what its columns have no room for.
pub(super) fn as_text(rows: &[Row]) -> String {
    let mut last = "";
    let cells = rows.iter().map(|row| {
        let step = if row.step == last { "" } else { row.step };
        last = row.step;
        [
            step.to_owned(),
            row.workload.clone(),
            row.policy.to_owned(),
            source(row.expected.as_slice()),
            source(&row.evidence.seen),
            row.verdict.to_string(),
        ]
    });
    let head = ["STEP", "WORKLOAD", "POLICY", "EXPECTED", "SEEN", "VERDICT"];
    let mut text = table(head, cells.collect()) + "\n";
    for row in rows.iter().filter(|row| !row.is_right()) {
        text += &not_right(row);
    }
    let right = rows.iter().filter(|row| row.is_right()).count();
    let all = rows.len();
    text + &format!(
        "{right} of {all} rows are right. Each row: TCP, UDP and ICMP echo, and every frame on the uplink.\n"
    )
}

fn source(addresses: &[IpAddr]) -> String {
    if addresses.is_empty() {
        "nothing".to_owned()
    } else {
        list(addresses)
    }
}

fn not_right(row: &Row) -> String {
    let Evidence {
        attempts,
        answered,
        left,
        ..
    } = &row.evidence;
    format!(
        "{} in step {} is {}: {answered} of {attempts} attempts were answered; on the uplink: {}\n",
        row.workload,
        row.step,
        row.verdict,
        source(left)
    )
}
