//! What on a host keeps Sortie from doing its work, or will: facts in, findings out.
//!
//! The name of a finding is for scripts, and does not change.

mod address;
pub mod facts;
mod kernel;
mod others;
mod runtime;

use std::fmt;

use serde::Serialize;

use facts::Facts;

/// One thing that is not right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Such as `rp-filter-strict`.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: an interface, an address, a setting, a chain.
    pub object: String,
    /// What is wrong, and what follows from it.
    pub why: String,
    /// The line that mends it. Words in capitals are for the reader to fill in.
    pub fix: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Severity {
    /// Packets are lost now, or could leave with another source.
    Error,
    /// It works, with less than it promises, or until something more happens.
    Warning,
    /// Worth knowing; nothing need be done.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

type Check = fn(&Facts, &mut Vec<Finding>);

const CHECKS: &[Check] = &[
    kernel::features,
    kernel::forwarding,
    kernel::rp_filter,
    kernel::bridged_packets,
    kernel::conntrack,
    kernel::mtu,
    address::missing,
    address::duplicate,
    address::selectable,
    address::ports,
    others::translation,
    others::forward,
    others::marks,
    others::legacy,
    others::tables,
    others::uplinks,
    others::agent,
    others::rootless,
    runtime::link,
    runtime::engine,
];

/// Everything that is not right, the worst first.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for check in CHECKS {
        check(facts, &mut findings);
    }
    findings.sort_by_key(|finding| finding.severity);
    findings
}

#[cfg(test)]
mod tests;
