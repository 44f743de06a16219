//! What workloads' packets were seen with: flows, drops, and what `sortie verify` found.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::AuditNote;

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
