//! What the agent and its clients say to each other: JSON over HTTP on a Unix socket.
//!
//! | Request | Body → answer |
//! |---|---|
//! | `GET /v1/status` | → [`Status`] |
//! | `GET /v1/policies` | → [`Vec<PolicyRecord>`] |
//! | `GET /v1/policies/whole?workload=NAME` | → `Vec<`[`Carried`](sortie_api::policy::Carried)`>` |
//! | `POST /v1/policies?dryRun=BOOL` | [`Files`] → [`Change`] |
//! | `DELETE /v1/policies/{name}?dryRun=BOOL` | → [`Change`] |
//! | `POST /v1/explain` | [`Question`] → [`Explanation`] |
//! | `POST /v1/explain/name` | [`NameQuestion`] → [`NameExplanation`] |
//! | `GET /v1/flows?follow=BOOL` | → [`Flow`], one JSON object a line |
//! | `GET /v1/drops?follow=BOOL` | → [`Drop`], one JSON object a line |
//! | `POST /v1/verify` | [`VerifyRequest`] → [`Vec<Verification>`] |
//! | `POST /v1/attachments` | [`AttachRequest`] → [`Attachment`] |
//! | `DELETE /v1/attachments/{owner}` | → `{}` |
//! | `GET /v1/bypasses` | → [`Vec<Bypass>`] |
//! | `POST /v1/bypasses` | [`BypassRequest`] → [`Bypass`] |
//! | `DELETE /v1/bypasses/{workload}` | → [`Bypass`] |
//! | `POST /v1/starting` | [`StartingRequest`] → [`Starting`] |
//! | `GET /v1/gateway` | → [`GatewayLine`], one JSON object a line |
//! | `POST /v1/gateway/learned` | [`Vec<Learned>`] → `Vec<Vec<`[`Told`]`>>` |
//! | `POST /v1/gateway/opened` | [`Opened`] |
//! | `POST /v1/gateway/faults` | certificates that cannot be used, as sentences |
//! | `POST /v1/down` | → [`Removed`] |
//!
//! An answer other than 2xx has an [`ErrorBody`].

mod gateway;
mod proof;
mod status;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use gateway::{
    AuditedThere, ByName, EgressAddress, GatewayHost, GatewayLine, GatewayProxy, Heard, KnownName,
    Learned, Opened, PacketMark, Told,
};
pub use proof::{Drop, Flow, Verification, VerifyRequest};
pub use sortie_plan::explain::{
    AuditNote, Considered, Draining, Explanation, NameExplanation, Plane, Verdict,
};
pub use sortie_plan::planner::Meanwhile;
pub use sortie_plan::planner::audit::Outcome;
pub use sortie_workloads::docker::begun::Begun;
pub use status::{
    AddressStatus, AuditCount, AuditStatus, AuditedWorkload, DropCount, EngineState, EngineStatus,
    Problem, SourcePorts, Status, WorkloadState, WorkloadStatus,
};

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// For people: what, which object, why, what to do. May have several lines.
    pub error: String,
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
    /// What else the kernel does not hold yet: it keeps nothing of this change back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
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

/// `sortie explain` of a name or a URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameQuestion {
    /// A name or id, or the beginning of an id.
    pub workload: String,
    /// The name of the destination.
    pub name: String,
    /// The destination port, with `protocol`.
    pub port: Option<u16>,
    /// `tcp` or `udp`; TCP when there is a port and nothing is said.
    pub protocol: Option<String>,
    /// Whether TLS hides what is sent.
    #[serde(default)]
    pub encrypted: bool,
    /// What is sent, of a URL.
    pub request: Option<AskedRequest>,
}

/// A request as its client writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedRequest {
    /// Such as `GET`.
    pub method: String,
    /// Begins with `/`; without the query.
    pub path: String,
    /// Names and values.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
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
    /// In answer to a change: what else the kernel does not hold yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
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
