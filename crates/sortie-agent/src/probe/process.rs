//! The same for workloads in the host's network namespace. What tells those apart is the cgroup in which
//! a socket is made, and a process is in one cgroup: so another one asks, this program again.

use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sortie_workloads::cgroup;

use super::{Exchange, ObserverUrl, ProbeError};
use crate::process;

/// What that process tells, as JSON on its standard output.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Told {
    /// The address that the observer saw.
    Seen(IpAddr),
    /// The observer did not tell it.
    Failed(String),
    /// Nothing was tried.
    Outside(String),
}

/// Connects as the process `pid` would, and returns the source address that the observer saw. Blocks.
pub fn probe_as(pid: u32, observer: &ObserverUrl) -> Result<IpAddr, ProbeError> {
    let outside = |detail: String| ProbeError::Cgroup { pid, detail };
    let output = Command::new(process::THIS)
        .args(["probe", &pid.to_string(), &observer.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| outside(format!("{}: {error}", process::THIS)))?;
    let told = serde_json::from_slice(&output.stdout);
    match told.map_err(|_| outside(format!("who should have ended with {}", output.status)))? {
        Told::Seen(address) => Ok(address),
        Told::Failed(error) => Err(ProbeError::Told(error)),
        Told::Outside(detail) => Err(outside(detail)),
    }
}

/// What the process does: what it is to print.
pub fn become_one(pid: u32, observer: &ObserverUrl, limit: Duration) -> String {
    process::is_named();
    let told = match cgroup::join(pid) {
        Ok(()) => match Exchange::new(observer, limit).ask() {
            Ok(address) => Told::Seen(address),
            Err(error) => Told::Failed(error.to_string()),
        },
        Err(detail) => Told::Outside(detail),
    };
    serde_json::to_string(&told).unwrap_or_default()
}
