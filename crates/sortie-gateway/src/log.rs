//! The access log: one JSON line for each request or tunnel, handed on in batches.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Serialize;
use sortie_plan::planner::audit::Outcome;

/// Lines are handed on when there are so many bytes of them, and twice a second.
const BATCH: usize = 32 * 1024;

/// Takes lines of the access log. Called on the threads that carry requests.
pub trait AccessLog: Send + Sync {
    /// Takes whole lines, each with its line feed.
    fn lines(&self, lines: &[u8]);
}

/// What is told of one request or tunnel.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Record<'a> {
    /// When it ended; RFC 3339.
    pub(crate) time: String,
    pub(crate) workload: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<&'a str>,
    pub(crate) port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<&'a str>,
    /// The status that the client got; none for tunnels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<&'a str>,
    /// Why it was refused, as `Proxy-Status` says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<&'a str>,
    /// The source that the policy wants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) intended_source: Option<IpAddr>,
    /// The source that the kernel's flow has, where [`crate::SeenSource`] could tell it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) actual_source: Option<IpAddr>,
    /// What a policy that only audits would have changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) audit: Option<AuditRecord<'a>>,
    /// The address that was called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) upstream: Option<SocketAddr>,
    /// Bytes from the client: of bodies, or through a tunnel.
    pub(crate) bytes_sent: u64,
    /// Bytes to the client.
    pub(crate) bytes_received: u64,
    /// Whether a connection was used again.
    pub(crate) reused: bool,
    /// From the request's head to the response's end.
    pub(crate) duration_us: u64,
}

/// What a policy that only audits would have changed.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct AuditRecord<'a> {
    pub(crate) policy: &'a str,
    pub(crate) outcome: Outcome,
    /// The source that it would give; none as the host, and where nothing would leave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<IpAddr>,
    /// Why nothing would leave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<&'static str>,
}

/// The lines of one core that were not handed on yet.
#[derive(Default)]
pub(crate) struct Lines(RefCell<Vec<u8>>);

impl Lines {
    pub(crate) fn add(&self, record: &Record<'_>, log: &dyn AccessLog) {
        let mut lines = self.0.borrow_mut();
        // Writing to memory cannot fail, and the record has a form in JSON.
        if serde_json::to_writer(&mut *lines, record).is_ok() {
            lines.push(b'\n');
        }
        if lines.len() >= BATCH {
            log.lines(&lines);
            lines.clear();
        }
    }

    pub(crate) fn hand_on(&self, log: &dyn AccessLog) {
        let mut lines = self.0.borrow_mut();
        if !lines.is_empty() {
            log.lines(&lines);
            lines.clear();
        }
    }
}

/// Microseconds, as far as 64 bits go.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
