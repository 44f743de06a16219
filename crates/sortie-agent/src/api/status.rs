//! What `sortie status` shows.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sortie_api::mark_mask::MarkMask;

use super::{Bypass, Draining};

/// The agent at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Whether the nftables tables are owned (kernel 6.9) or plain.
    pub tables: String,
    /// Whether each engine answers; otherwise why not.
    pub engines: Vec<EngineStatus>,
    /// The bits of packet marks that name uplinks.
    #[serde(default, skip_serializing_if = "MarkMask::is_usual")]
    pub mark_mask: MarkMask,
    /// The interfaces that packets leave through.
    pub uplinks: Vec<String>,
    /// Every workload that a policy, a label or a guarded network concerns, by name; with
    /// `all`, every one.
    pub workloads: Vec<WorkloadStatus>,
    /// Every egress address that a policy names.
    pub addresses: Vec<AddressStatus>,
    /// What needs somebody's attention besides workloads.
    pub problems: Vec<Problem>,
    /// Drops by reason since the tables were made, reasons without drops left out.
    pub drops: Vec<DropCount>,
    /// Flows that left with another source than expected.
    pub leaks: u64,
    /// What the policies with `enforcement: Audit` would have changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audits: Vec<AuditStatus>,
}

impl Status {
    /// Whether what is known of the engines is up to date: none is away, and at least one is there.
    pub fn engines_answer(&self) -> bool {
        let mut states = self.engines.iter().map(|engine| engine.state);
        let connected = |state| state == EngineState::Connected;
        states.clone().any(connected) && states.all(|state| state != EngineState::Away)
    }
}

/// What a policy with `enforcement: Audit` would have changed; at least, since the kernel's reports
/// may be lost, and the gateway's with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditStatus {
    /// The policy.
    pub policy: String,
    /// RFC 3339: when counting began, with the policy's text or the agent.
    pub since: String,
    /// Of every workload, those that have ended included.
    pub all: AuditCount,
    /// Of each workload that is there, by name.
    pub workloads: Vec<AuditedWorkload>,
}

/// The part of one workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditedWorkload {
    /// Its name.
    pub name: String,
    /// Its flows and requests.
    #[serde(flatten)]
    pub count: AuditCount,
}

/// Flows that began, and requests, tunnels and look-ups at the gateway, for which such a policy would
/// decide.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditCount {
    /// Nothing would be different.
    pub same: u64,
    /// They would have had another source.
    pub other_source: u64,
    /// They would have been dropped or refused.
    pub dropped: u64,
    /// Nobody knows: their requests would decide, and are not seen.
    #[serde(default)]
    pub unseen: u64,
    /// Packets, not flows: they were dropped, and would have left.
    pub passed_packets: u64,
    /// Requests, tunnels and look-ups that were refused, and would not have been.
    #[serde(default)]
    pub passed_requests: u64,
}

/// An engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineStatus {
    /// `docker` or `podman`.
    pub name: String,
    /// Its socket.
    pub socket: String,
    /// Whether what is known of it is up to date.
    pub state: EngineState,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How an engine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EngineState {
    /// What is known of it is up to date.
    Connected,
    /// It does not answer; what it said stays valid.
    Away,
    /// This host does not have it, or not yet.
    Absent,
}

impl EngineState {
    /// In a sentence.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Away => "away",
            Self::Absent => "not there",
        }
    }
}

/// One workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadStatus {
    /// `ENGINE/ID`.
    pub id: String,
    /// The engine's name.
    pub name: String,
    /// `docker`, `podman` or `process`.
    pub kind: String,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// The policies that select it, the first to decide first.
    pub policies: Vec<String>,
    /// Those that select it and only audit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audits: Vec<String>,
    /// What its packets to everything that is not local leave with; several where it depends on
    /// the destination.
    pub egress: Vec<IpAddr>,
    /// What answered flows from before a change still leave with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub draining: Vec<Draining>,
    /// While it leaves as without Sortie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bypass: Option<Bypass>,
    /// How it stands.
    pub state: WorkloadState,
    /// Why, where `state` is not `Ready` or `Unmanaged`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The command or line that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// Packets dropped for it.
    pub dropped: u64,
}

/// How a workload stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkloadState {
    /// It leaves as its policies say.
    Ready,
    /// Some of its packets are dropped until something is mended.
    Blocked,
    /// It is selected but cannot be managed, or its label is wrong.
    Error,
    /// It leaves as without Sortie for a while, because somebody said so.
    Bypassed,
    /// No policy concerns it.
    Unmanaged,
}

/// One egress address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressStatus {
    /// The address.
    pub address: IpAddr,
    /// The interface that holds it; none while it is not on the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The container that has it itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The interface it leaves through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uplink: Option<String>,
    /// Whether packets can leave with it now.
    pub usable: bool,
    /// The line that makes it so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// Its source ports towards the destination that most are used for; none while nothing uses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_ports: Option<SourcePorts>,
}

/// Source ports of an egress address that are in use towards one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourcePorts {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The destination.
    pub destination: IpAddr,
    /// Its port.
    pub port: u16,
    /// Ports in use.
    pub used: u32,
    /// As many as there are.
    pub of: u32,
    /// Whether they may soon be used up: from 80 % on.
    pub scarce: bool,
}

/// Something that needs attention.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// What it is about.
    pub object: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// Drops of one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DropCount {
    /// As in [`super::Drop::reason`].
    pub reason: String,
    /// What it means.
    pub meaning: String,
    /// Packets.
    pub packets: u64,
}
