//! What `explain` answers.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::planner::audit::{Audited, Now, Outcome};

/// The answer to `sortie explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The workload's name.
    pub workload: String,
    /// The destination's address.
    pub destination: IpAddr,
    /// Destination port and protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// What becomes of the packet.
    pub verdict: Verdict,
    /// Who decides: the kernel, so far always.
    pub plane: String,
    /// The policy that decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The source that the other side sees; none where the engine decides or nothing leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// The interface it leaves through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uplink: Option<String>,
    /// The next hop and interface that the kernel's routing tables yield for it, as `ip route` has
    /// them: filled in by who can ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// What answered flows from before a change may still leave with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub draining: Vec<Draining>,
    /// In words.
    pub reason: String,
    /// The line that mends it, where something is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// What would become of it, if the policies that only audit were enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditNote>,
    /// Every policy that selects the workload, the one that decides first, with why it does not.
    pub candidates: Vec<Considered>,
}

/// What a policy that only audits would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditNote {
    /// The policy.
    pub policy: String,
    /// What would become of the packet, behind "would".
    pub would: String,
    /// What of it differs from what becomes of it.
    pub outcome: Outcome,
}

impl AuditNote {
    /// Beside what becomes of the packet.
    pub fn new(audited: &Audited, now: Now) -> Self {
        Self {
            policy: audited.policy.0.clone(),
            would: audited.would.to_string(),
            outcome: Outcome::of(audited.would, now),
        }
    }
}

/// A former egress address that answered flows go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Draining {
    /// The address.
    pub address: IpAddr,
    /// For how long still; what is less than a second counts as one.
    pub seconds_left: u64,
}

impl Draining {
    /// From what the planner says.
    pub fn new(address: IpAddr, left: Duration) -> Self {
        Self {
            address,
            seconds_left: whole_seconds(left),
        }
    }
}

/// What is less than a second counts as one.
pub fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It leaves with the policy's address.
    Egress,
    /// It is dropped.
    Drop,
    /// It goes its way as without Sortie.
    AsWithoutSortie,
}

/// One candidate and its fate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Considered {
    /// The policy.
    pub policy: String,
    /// Its part that was looked at: an entry of its destinations, a prefix.
    pub matches: String,
    /// `decides`, or why not.
    pub outcome: String,
}

/// What is wrong with an egress address, and what mends it; none when it can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// In words.
    pub reason: String,
    /// A command line.
    pub fix: String,
}

/// What must be seen of a workload's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// This source.
    Source(IpAddr),
    /// Nothing at all.
    Nothing,
    /// Whatever the engine makes of it.
    Any,
}
