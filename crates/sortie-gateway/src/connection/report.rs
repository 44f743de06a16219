//! What the log will say of one request or tunnel, gathered on the way.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use sortie_api::workload::WorkloadId;
use sortie_plan::planner::audit::Now;

use super::tunnel::Carried;
use crate::decide::{Audited, Reason, Verdict, Way, Would};
use crate::log::{AuditRecord, Record, micros};
use crate::meter::{By, Left};
use crate::refusal::Refusal;
use crate::serve::Core;

/// What became of a request that was forwarded and answered.
const OK: &str = "ok";

/// Its texts keep their memory from request to request.
pub(super) struct Report {
    workload: WorkloadId,
    began: Instant,
    port: u16,
    method: String,
    host: String,
    path: String,
    status: Option<u16>,
    policy: Option<Arc<str>>,
    refused: Option<String>,
    /// What became of it, in a word.
    result: &'static str,
    left: Left,
    /// How it was to leave; none before it was decided.
    way: Option<Way>,
    /// What policies that only audit would have decided.
    would: Option<Arc<Would>>,
    intended: Option<IpAddr>,
    actual: Option<IpAddr>,
    upstream: Option<SocketAddr>,
    reused: bool,
    sent: u64,
    received: u64,
}

impl Report {
    pub(super) fn begin(workload: &WorkloadId, port: u16) -> Self {
        Self {
            workload: workload.clone(),
            began: Instant::now(),
            port,
            method: String::new(),
            host: String::new(),
            path: String::new(),
            status: None,
            policy: None,
            refused: None,
            result: OK,
            left: Left::Nowhere,
            way: None,
            would: None,
            intended: None,
            actual: None,
            upstream: None,
            reused: false,
            sent: 0,
            received: 0,
        }
    }

    /// Begins the next one of the same connection.
    pub(super) fn again(&mut self) {
        self.began = Instant::now();
        for text in [&mut self.method, &mut self.host, &mut self.path] {
            text.clear();
        }
        self.status = None;
        self.policy = None;
        self.refused = None;
        (self.result, self.left) = (OK, Left::Nowhere);
        (self.way, self.would) = (None, None);
        self.intended = None;
        self.actual = None;
        self.upstream = None;
        self.reused = false;
        (self.sent, self.received) = (0, 0);
    }

    pub(super) fn port(&mut self, port: u16) {
        self.port = port;
    }

    pub(super) fn host(&mut self, host: &str) {
        self.host.clear();
        self.host.push_str(host);
    }

    /// The name that was told, if one was.
    pub(super) fn name(&self) -> Option<&str> {
        there(&self.host)
    }

    pub(super) fn request(&mut self, method: &str, path: &str) {
        self.method.push_str(method);
        self.path.push_str(path);
    }

    pub(super) fn verdict(&mut self, verdict: &Verdict) {
        self.policy.clone_from(&verdict.policy);
        self.way = Some(verdict.way);
        self.would.clone_from(&verdict.would);
    }

    /// Whom it reached, and with which source it is seen there.
    pub(super) fn upstream(
        &mut self,
        verdict: &Verdict,
        (peer, source): (SocketAddr, Option<IpAddr>),
        reused: bool,
    ) {
        self.intended = match verdict.way {
            Way::Egress { sources, .. } => sources.towards(peer.ip()),
            Way::AsHost | Way::Refused(_) => None,
        };
        self.left = verdict.left(peer.ip());
        self.actual = source;
        self.upstream = Some(peer);
        self.reused = reused;
    }

    pub(super) fn status(&mut self, status: u16) {
        self.status = Some(status);
    }

    pub(super) fn refused(&mut self, refusal: &Refusal) {
        self.refused = Some(refusal.proxy_status());
        self.result = refusal.word();
        if refusal.policy.is_some() {
            self.policy.clone_from(&refusal.policy);
        }
        if let Some(reason) = refusal.reason {
            self.way = Some(Way::Refused(reason));
        }
    }

    /// It ended because policies are others now.
    pub(super) fn changed(&mut self) {
        // It was cut off by what policies say now, and audited is what they said.
        self.would = None;
        self.refused(&Refusal::changed());
    }

    /// The response did not come whole, and its status is sent already.
    pub(super) fn broke(&mut self) {
        if self.result != OK {
            return;
        }
        self.result = "http_response_incomplete";
        self.refused = Some(format!("sortie; error={}", self.result));
    }

    pub(super) fn carried(&mut self, carried: &Carried) {
        self.bytes(carried.sent, carried.received);
        if carried.changed {
            self.changed();
        }
    }

    pub(super) fn bytes(&mut self, sent: u64, received: u64) {
        self.sent = sent;
        self.received = received;
    }

    pub(super) fn method(&self) -> &str {
        &self.method
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Writes it.
    pub(super) fn end(&self, core: &Core) {
        let audited = self.audited(core);
        let record = Record {
            time: Timestamp::now().to_string(),
            workload: self.workload.as_str(),
            method: there(&self.method),
            host: there(&self.host),
            port: self.port,
            path: there(&self.path),
            status: self.status,
            policy: self.policy.as_deref(),
            refused: self.refused.as_deref(),
            intended_source: self.intended,
            actual_source: self.actual,
            audit: audited.as_ref().map(|it| AuditRecord {
                policy: &it.policy,
                outcome: it.outcome,
                source: it.source,
                refused: it.refused.map(Reason::name),
            }),
            upstream: self.upstream,
            bytes_sent: self.sent,
            bytes_received: self.received,
            reused: self.reused,
            duration_us: micros(self.began.elapsed()),
        };
        core.lines.add(&record, &*core.outside.log);
        let by = By {
            policy: self.policy.clone(),
            left: self.left,
        };
        core.counts.ended(by, self.result, self.sent, self.received);
        if let Some(Audited {
            policy, outcome, ..
        }) = audited
        {
            core.counts.audited(policy, &self.workload, outcome);
        }
    }

    /// What a policy that only audits would have changed.
    fn audited(&self, core: &Core) -> Option<Audited> {
        let would = self.would.as_ref()?;
        let now = match self.way? {
            Way::Refused(_) => Now::Dropped,
            Way::AsHost => Now::AsWithoutSortie(self.actual),
            Way::Egress { sources, .. } => {
                let towards = self.upstream.map(|peer| peer.ip());
                sources.any(towards).map_or(Now::Dropped, Now::With)
            }
        };
        let decide = &*core.outside.decide;
        decide.audited(&self.workload, would, self.upstream, now)
    }
}

fn there(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
