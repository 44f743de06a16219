//! What the agent and its clients say to each other: JSON over HTTP on a Unix socket.
//!
//! | Request | Body → answer |
//! |---|---|
//! | `GET /v1/status` | → [`Status`] |
//! | `GET /v1/policies` | → [`Vec<PolicyRecord>`] |
//! | `POST /v1/policies?dryRun=BOOL` | [`Files`] → [`Change`] |
//! | `DELETE /v1/policies/{name}?dryRun=BOOL` | → [`Change`] |
//! | `POST /v1/explain` | [`Question`] → [`Explanation`] |
//! | `GET /v1/flows?follow=BOOL` | → [`Flow`], one JSON object a line |
//! | `GET /v1/drops?follow=BOOL` | → [`Drop`], one JSON object a line |
//! | `POST /v1/verify` | [`VerifyRequest`] → [`Vec<Verification>`] |
//! | `POST /v1/attachments` | [`AttachRequest`] → [`Attachment`] |
//! | `DELETE /v1/attachments/{owner}` | → `{}` |
//! | `GET /v1/bypasses` | → [`Vec<Bypass>`] |
//! | `POST /v1/bypasses` | [`BypassRequest`] → [`Bypass`] |
//! | `DELETE /v1/bypasses/{workload}` | → [`Bypass`] |
//! | `POST /v1/starting` | [`StartingRequest`] → [`Starting`] |
//! | `POST /v1/down` | → [`Removed`] |
//!
//! An answer other than 2xx has an [`ErrorBody`].

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sortie_api::mark_mask::MarkMask;

pub use sortie_plan::explain::{AuditNote, Draining, Explanation, Verdict};
pub use sortie_plan::planner::Meanwhile;
pub use sortie_plan::planner::audit::Outcome;
pub use sortie_workloads::docker::begun::Begun;

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// For people: what, which object, why, what to do. May have several lines.
    pub error: String,
}

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

/// What a policy with `enforcement: Audit` would have changed; at least, since the kernel's reports
/// may be lost.
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
    /// Its flows.
    #[serde(flatten)]
    pub count: AuditCount,
}

/// Flows that began, and for which such a policy would decide.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditCount {
    /// Nothing would be different.
    pub same: u64,
    /// They would have had another source.
    pub other_source: u64,
    /// They would have been dropped.
    pub dropped: u64,
    /// Packets, not flows: they were dropped, and would have left.
    pub passed_packets: u64,
}

impl Status {
    /// Whether what is known of the engines is up to date: none is away, and at least one is there.
    pub fn engines_answer(&self) -> bool {
        let mut states = self.engines.iter().map(|engine| engine.state);
        let connected = |state| state == EngineState::Connected;
        states.clone().any(connected) && states.all(|state| state != EngineState::Away)
    }
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
    /// As in [`Drop::reason`].
    pub reason: String,
    /// What it means.
    pub meaning: String,
    /// Packets.
    pub packets: u64,
}

/// One policy in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRecord {
    /// `metadata.name`, or `label:NAME`.
    pub name: String,
    /// The file in the policy folder; none for labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// `Egress`, `Bypass` or `Deny`.
    pub action: String,
    /// Whether it only audits.
    #[serde(default)]
    pub audit: bool,
    /// Its egress addresses.
    pub addresses: Vec<IpAddr>,
    /// The names of the workloads that it selects now.
    pub workloads: Vec<String>,
    /// The whole policy, as YAML.
    pub yaml: String,
}

/// Policy files to apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// Each with the name it is kept by, and its text.
    pub files: Vec<File>,
}

/// One policy file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// As the user named it, for errors; its last part is its name in the policy folder.
    pub name: String,
    /// YAML.
    pub text: String,
}

/// What a change of policies does, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Whether it was only asked.
    pub dry_run: bool,
    /// Policies that come, change or go: `created`, `changed`, `unchanged`, `deleted`.
    pub policies: Vec<PolicyChange>,
    /// Workloads whose egress changes.
    pub workloads: Vec<WorkloadChange>,
    /// The steps in the kernel, as text.
    pub steps: Vec<String>,
}

/// What becomes of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyChange {
    /// Its name.
    pub name: String,
    /// `created`, `changed`, `unchanged`, `deleted`.
    pub change: String,
}

/// What becomes of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadChange {
    /// Its name.
    pub name: String,
    /// Before, for people.
    pub before: String,
    /// After.
    pub after: String,
}

/// `sortie explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// A name or id, or the beginning of an id.
    pub workload: String,
    /// The destination's address.
    pub address: IpAddr,
    /// The destination port, with `protocol`.
    pub port: Option<u16>,
    /// `tcp`, `udp`, `icmp`, …; TCP when there is a port and nothing is said.
    pub protocol: Option<String>,
}

/// One flow of a managed workload, from conntrack's events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    /// RFC 3339.
    pub time: String,
    /// `new` or `end`.
    pub event: String,
    /// The workload's name.
    pub workload: String,
    /// `tcp`, `udp`, `icmp`, … or a number.
    pub protocol: String,
    /// The workload's own address.
    pub from: IpAddr,
    /// Where to.
    pub to: IpAddr,
    /// The destination port, where the protocol has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What it should leave with; none where any is right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<IpAddr>,
    /// What it left with.
    pub actual: IpAddr,
    /// `right`; `leak`; `any` where nothing is expected; `drain` with a former address that old
    /// flows may still have; `bypass` while it leaves as without Sortie; `changed` where it began under other policies: seen at its end, or within 5 s of the change.
    pub verdict: String,
    /// At its beginning: what the policies with `enforcement: Audit` would change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditNote>,
    /// Bytes both ways, at the end of a flow, where accounting is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// One dropped packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drop {
    /// RFC 3339.
    pub time: String,
    /// Such as `wrong-source`.
    pub reason: String,
    /// What it means, for people.
    pub meaning: String,
    /// The workload's name, where one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// `tcp`, `udp`, `icmp`, `arp`, … or a number.
    pub protocol: String,
    /// The source the packet had when it was dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    /// Its source port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_port: Option<u16>,
    /// Its destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<IpAddr>,
    /// Its destination port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_port: Option<u16>,
    /// The interface it came in by, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The interface it was to leave by, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// `sortie verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyRequest {
    /// Names or ids; empty for every managed workload.
    pub workloads: Vec<String>,
    /// Observers to connect to: `http://ADDRESS[:PORT]/…` (answers with the caller's address),
    /// `tcp://ADDRESS:PORT` or `udp://ADDRESS:PORT`. One for each address family to be verified.
    pub observers: Vec<String>,
}

/// What one workload was seen with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// Its name.
    pub workload: String,
    /// The first policy that decides for the observer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The observer.
    pub observer: String,
    /// The source that the policies promise; none where nothing may leave, or any is right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<IpAddr>,
    /// The source that the observer saw; none when nothing arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<IpAddr>,
    /// `right`, `wrong`, `blocked` (nothing arrived, and nothing may), `unreachable` (nothing
    /// arrived, and something should have) or `unmanaged`.
    pub verdict: String,
    /// Why, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// `sortie run` and `sortie attach`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachRequest {
    /// What gets the interface.
    pub to: AttachTo,
    /// The egress addresses, at most one of a family.
    pub addresses: Vec<IpAddr>,
    /// The uplink, by name; none for the default route's.
    pub via: Option<String>,
}

/// What gets an interface with an egress address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AttachTo {
    /// The network namespace of a process that waits for it; it is taken away when `owner` ends.
    Process {
        /// The process in the namespace.
        pid: u32,
        /// The process whose life it shares: `sortie run` itself.
        owner: u32,
        /// What people call it: the command's name.
        name: String,
    },
    /// A container started with `--network none`; it is taken away when the container ends.
    Container(String),
}

/// An interface made for `run` or `attach`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// `run/PID` or `attach/CONTAINER`: what to detach.
    pub owner: String,
    /// The host's end.
    pub interface: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The uplink.
    pub uplink: String,
}

/// `sortie bypass WORKLOAD`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BypassRequest {
    /// A name or id, or the beginning of an id.
    pub workload: String,
    /// For how long, in seconds: 1 to 86,400.
    pub seconds: u64,
    /// Why, in one line.
    pub reason: String,
}

/// A workload that leaves as without Sortie for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bypass {
    /// Its name.
    pub workload: String,
    /// `ENGINE/ID`.
    pub id: String,
    /// For how long still; what is less than a second counts as one.
    pub seconds_left: u64,
    /// RFC 3339.
    pub since: String,
    /// RFC 3339, by the clock as it was when it began.
    pub until: String,
    /// The user who asked for it.
    pub uid: u32,
    /// The process that asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Why.
    pub reason: String,
}

/// The runtime is about to start a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartingRequest {
    /// Who it is.
    pub container: Begun,
    /// Its first process, which waits to be started in a network namespace that is complete.
    pub pid: u32,
}

/// Whether that container may start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Starting {
    /// Its decision is in the kernel, or there is none to make.
    Decided,
    /// Not yet: ask again.
    #[serde(rename_all = "camelCase")]
    Undecided {
        /// For people.
        why: String,
        /// What it may do when waiting is in vain.
        meanwhile: Meanwhile,
    },
    /// Never: something selects it, and its packets cannot be managed.
    #[serde(rename_all = "camelCase")]
    Impossible {
        /// For people.
        why: String,
    },
}

/// What `down` took away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// A line each, for people.
    pub steps: Vec<String>,
}
