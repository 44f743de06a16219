//! The same for workloads in the host's network namespace. What tells those apart is the cgroup in which
//! a socket is made, and a process is in one cgroup: so another one asks, this program by another name.

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use sortie_workloads::cgroup;

use super::{Exchange, LIMIT, ObserverUrl, ProbeError};
use crate::process;

/// What the program is called then.
const NAME: &str = "sortie-probe";

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
pub(crate) fn probe_as(pid: u32, observer: &ObserverUrl) -> Result<IpAddr, ProbeError> {
    let outside = |detail: String| ProbeError::Cgroup { pid, detail };
    let output = Command::new(process::THIS)
        .arg0(NAME)
        .args([pid.to_string(), observer.to_string()])
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

/// Whether this process is to be one.
pub fn is_called_as(name: Option<&OsStr>) -> bool {
    name.is_some_and(|name| name == NAME)
}

/// What it is to print. `words`: whose cgroup, and the observer.
pub fn told(words: impl Iterator<Item = OsString>) -> String {
    let words: Vec<String> = words.filter_map(|word| word.into_string().ok()).collect();
    let named = match words.as_slice() {
        [pid, observer] => pid.parse().ok().zip(observer.parse().ok()),
        _ => None,
    };
    let told = match named {
        Some((pid, observer)) => ask(pid, &observer),
        None => Told::Outside("no process and observer are named".to_owned()),
    };
    serde_json::to_string(&told).unwrap_or_default()
}

fn ask(pid: u32, observer: &ObserverUrl) -> Told {
    process::is_named();
    if let Err(detail) = cgroup::join(pid) {
        return Told::Outside(detail);
    }
    match Exchange::new(observer, LIMIT).ask() {
        Ok(address) => Told::Seen(address),
        Err(error) => Told::Failed(error.to_string()),
    }
}
