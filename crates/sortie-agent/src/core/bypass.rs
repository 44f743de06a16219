//! `sortie bypass`: a workload leaves as without Sortie for a time that somebody answers for.
//!
//! The kernel ends it by its own clock. Who asked and why is in the state folder, and every begin
//! and end is in the log and in a file there.

mod journal;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sortie_api::workload::{WorkloadId, WorkloadKind};
use sortie_plan::compile::treatment::Treatment;
use sortie_plan::explain::whole_seconds;

use super::Core;
use crate::Error;
use crate::api::{Bypass, BypassRequest};
use crate::policies::write_whole;
use journal::Journal;

/// In the state folder. When it is lost, a new agent ends what goes on.
const FILE: &str = "bypasses.json";
/// Reports of flows may be so late: one that began during a bypass is no leak behind it.
const REPORTS_COME: Duration = Duration::from_secs(5);
/// Longest reason, in characters.
const REASON: usize = 500;
/// Longest time: what must last is a policy.
const LONGEST: Duration = Duration::from_hours(24);

/// Who asks through the admin socket.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// The user, as the kernel tells.
    pub uid: u32,
    /// The process; none where the kernel does not tell.
    pub pid: Option<i32>,
}

/// All that go on, and where that is kept.
#[derive(Debug, Default)]
pub struct Bypasses {
    file: PathBuf,
    journal: Journal,
    known: BTreeMap<WorkloadId, Record>,
    /// Those of a former agent, until their engines have told their containers.
    waiting: BTreeMap<WorkloadId, Record>,
    lately: Vec<(WorkloadId, Instant)>,
}

/// What is answered for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    name: String,
    /// The workload's start: after another one it is another workload.
    started: i64,
    uid: u32,
    pid: Option<i32>,
    reason: String,
    since: String,
    until: String,
    /// By the clock that counts from the boot and that nobody sets.
    until_since_boot: Duration,
}

/// The file's text: of another boot it says nothing.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    boot: String,
    bypasses: BTreeMap<WorkloadId, Record>,
}

impl Bypasses {
    /// Those of a former agent, from the state folder.
    pub fn load(state: &Path) -> Self {
        let file = state.join(FILE);
        let kept = read(&file).unwrap_or_else(|error| {
            tracing::warn!(%error, "who bypasses is not known any more: the policies hold again");
            Kept::default()
        });
        let same_boot = boot().is_ok_and(|boot| boot == kept.boot);
        Self {
            file,
            journal: Journal::in_folder(state),
            waiting: if same_boot {
                kept.bypasses
            } else {
                BTreeMap::new()
            },
            ..Self::default()
        }
    }

    fn keep(&self) -> Result<(), Error> {
        let all = self.known.iter().chain(&self.waiting);
        let kept = Kept {
            boot: boot()?,
            bypasses: all
                .map(|(id, record)| (id.clone(), record.clone()))
                .collect(),
        };
        let json = serde_json::to_string_pretty(&kept).unwrap_or_default();
        write_whole(&self.file, &json)
    }

    fn keep_what_is_left(&self) {
        if let Err(error) = self.keep() {
            tracing::warn!(%error, "the end of a bypass is not kept");
        }
    }
}

impl Core {
    /// Bypasses are kept there, and those of a former agent taken over once the engine has told.
    pub fn remember_bypasses(&mut self, bypasses: Bypasses) {
        self.bypasses = bypasses;
    }

    /// Steps: the request is checked; what is answered for is kept; the kernel lets the workload by.
    pub fn bypass(&mut self, request: &BypassRequest, caller: Caller) -> Result<Bypass, Error> {
        let time = Duration::from_secs(request.seconds);
        let reason = checked(&request.reason, time)?;
        let tracked = self.find(&request.workload)?;
        let workload = &tracked.workload;
        let refused = |why: &str| Err(Error::Refused(format!("{}: {why}", workload.name)));
        if workload.kind == WorkloadKind::Process {
            return refused(
                "it has its address on its own interface, so nothing can be bypassed; end it, or `sortie detach` it",
            );
        }
        let placement = &tracked.placement;
        let treatments = [&placement.v4.treatment, &placement.v6.treatment];
        if treatments
            .iter()
            .any(|it| matches!(it, Treatment::Own { .. }))
        {
            return refused(
                "it has its egress address itself, and no other to leave with; a policy or label without `mode: Direct` gives it the network's again",
            );
        }
        if workload.cgroup.is_some() {
            return refused(
                "containers on the host's network cannot be bypassed; apply a policy for it with a higher priority and `action: Bypass`",
            );
        }
        if let Some(reason) = &workload.unmanageable {
            return refused(&format!(
                "it is not managed, and leaves as without Sortie already: {reason}"
            ));
        }
        if !tracked.placement.is_managed() {
            return refused(
                "no policy changes anything for it: it leaves as without Sortie already",
            );
        }
        if workload.endpoints.is_empty() {
            return refused(
                "it is on the host's network, where a bypass has no address to go by; give it a policy with `action: Bypass`",
            );
        }
        let (id, now) = (workload.id.clone(), Timestamp::now());
        let record = Record {
            name: workload.name.clone(),
            started: workload.started,
            uid: caller.uid,
            pid: caller.pid,
            reason,
            since: now.to_string(),
            until: wall(SystemTime::now() + time),
            until_since_boot: since_boot()? + time,
        };
        let before = self.bypasses.known.insert(id.clone(), record.clone());
        if let Err(error) = self.bypasses.keep() {
            match before {
                Some(before) => self.bypasses.known.insert(id, before),
                None => self.bypasses.known.remove(&id),
            };
            return Err(error);
        }
        tracing::warn!(
            workload = record.name,
            uid = record.uid,
            pid = record.pid,
            until = record.until,
            reason = record.reason,
            "bypass: it leaves as without Sortie"
        );
        self.bypasses.journal.write("begin", &id, &record, None);
        let ops = self.planner.bypass(&id, time);
        self.enforce(&ops)
            .map_err(|why| Error::Refused(format!("the bypass is noted, but {why}")))?;
        Ok(Bypass {
            warning: self.warning(),
            ..told(&id, &record, time)
        })
    }

    /// The policies hold again, before the time is over.
    pub fn end_bypass(&mut self, workload: &str, caller: Caller) -> Result<Bypass, Error> {
        let mut known = self.bypasses.known.iter();
        let found = known.find(|(id, record)| record.name == workload || id.as_str() == workload);
        let id = match found {
            Some((id, _)) => id.clone(),
            None => self.find(workload)?.workload.id.clone(),
        };
        let left = self.planner.bypassed(&id).unwrap_or_default();
        let Some(record) = self.bypasses.known.get(&id).cloned() else {
            return Err(Error::Refused(format!(
                "{workload} is not bypassed; `sortie bypass` lists who is"
            )));
        };
        let ops = self.planner.end_bypass(&id);
        let done = self.enforce(&ops);
        self.bypass_ended(&id, &format!("ended by uid {}", caller.uid));
        done.map_err(|why| Error::Refused(format!("the end is noted, but {why}")))?;
        Ok(Bypass {
            warning: self.warning(),
            ..told(&id, &record, left)
        })
    }

    /// Those that go on, by name.
    pub fn bypass_list(&self) -> Vec<Bypass> {
        let all = self.bypasses.known.iter().filter_map(|(id, record)| {
            let left = self.planner.bypassed(id)?;
            Some(told(id, record, left))
        });
        let mut all: Vec<_> = all.collect();
        all.sort_by(|a, b| (&a.workload, &a.id).cmp(&(&b.workload, &b.id)));
        all
    }

    /// The one of a workload.
    pub(super) fn bypass_of(&self, id: &WorkloadId) -> Option<Bypass> {
        let left = self.planner.bypassed(id)?;
        Some(told(id, self.bypasses.known.get(id)?, left))
    }

    /// Whether what is reported of a workload now may have happened while it was bypassed.
    pub(crate) fn was_bypassed(&self, id: &WorkloadId) -> bool {
        let mut lately = self.bypasses.lately.iter();
        self.planner.bypassed(id).is_some()
            || lately.any(|(ended, at)| ended == id && at.elapsed() < REPORTS_COME)
    }

    /// An engine has told: what a former agent let by goes on for the time that is left, where it
    /// is the same workload still. What is over ends at the next look at the clock. Who is not
    /// known once all engines have told has ended.
    pub(super) fn recall_bypasses(&mut self) {
        let waiting = std::mem::take(&mut self.bypasses.waiting);
        let now = since_boot().unwrap_or(Duration::MAX);
        for (id, record) in waiting {
            let tracked = self.planner.workloads().get(&id);
            if tracked.is_none() && !self.compared {
                self.bypasses.waiting.insert(id, record);
                continue;
            }
            if tracked.is_some_and(|tracked| tracked.workload.started == record.started) {
                let left = record.until_since_boot.saturating_sub(now);
                self.planner.learn_bypass(&id, left);
            }
            self.bypasses.known.insert(id, record);
        }
    }

    /// Time has passed and workloads have ended: what is over is told.
    pub(super) fn note_ended_bypasses(&mut self) {
        let known = self.bypasses.known.keys();
        let over: Vec<WorkloadId> = known
            .filter(|id| self.planner.bypassed(id).is_none())
            .cloned()
            .collect();
        for id in over {
            let record = &self.bypasses.known[&id];
            let tracked = self.planner.workloads().get(&id);
            let same = tracked.is_some_and(|t| t.workload.started == record.started);
            self.bypass_ended(
                &id,
                if same {
                    "its time is over"
                } else {
                    "the workload ended"
                },
            );
        }
    }

    fn bypass_ended(&mut self, id: &WorkloadId, why: &str) {
        let bypasses = &mut self.bypasses;
        let Some(record) = bypasses.known.remove(id) else {
            return;
        };
        tracing::warn!(
            workload = record.name,
            uid = record.uid,
            why,
            "bypass over: the policies hold again"
        );
        bypasses.journal.write("end", id, &record, Some(why));
        bypasses
            .lately
            .retain(|(_, at)| at.elapsed() < REPORTS_COME);
        bypasses.lately.push((id.clone(), Instant::now()));
        bypasses.keep_what_is_left();
    }
}

/// The reason without blanks around it.
fn checked(reason: &str, time: Duration) -> Result<String, Error> {
    let reason = reason.trim();
    let refused = |why: &str| Err(Error::Refused(why.to_owned()));
    if reason.is_empty() {
        return refused("a bypass needs a reason: write --reason TEXT");
    }
    if reason.chars().count() > REASON || reason.chars().any(char::is_control) {
        return refused("a reason is one line of at most 500 characters");
    }
    if time.is_zero() || time > LONGEST {
        return refused(
            "a bypass lasts from 1 second to 24 hours; for longer write a policy with `action: Bypass`",
        );
    }
    Ok(reason.to_owned())
}

fn told(id: &WorkloadId, record: &Record, left: Duration) -> Bypass {
    Bypass {
        workload: record.name.clone(),
        id: id.as_str().to_owned(),
        seconds_left: whole_seconds(left),
        since: record.since.clone(),
        until: record.until.clone(),
        uid: record.uid,
        pid: record.pid,
        reason: record.reason.clone(),
        warning: None,
    }
}

/// RFC 3339, whole seconds: for people, nothing is decided by it.
fn wall(at: SystemTime) -> String {
    let at = Timestamp::try_from(at).unwrap_or(Timestamp::MAX);
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Time since the boot, sleep included (proc(5), `/proc/uptime`).
fn since_boot() -> Result<Duration, Error> {
    let file = Path::new("/proc/uptime");
    let text = fs::read_to_string(file).map_err(Error::file("read", file))?;
    let seconds = text.split_whitespace().next().and_then(|s| s.parse().ok());
    let uptime = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    uptime.ok_or_else(|| Error::file("understand", file)(io::ErrorKind::InvalidData.into()))
}

/// Names this boot (random(4)).
fn boot() -> Result<String, Error> {
    let file = Path::new("/proc/sys/kernel/random/boot_id");
    let text = fs::read_to_string(file).map_err(Error::file("read", file))?;
    Ok(text.trim().to_owned())
}

fn read(file: &Path) -> Result<Kept, Error> {
    match fs::read(file) {
        Ok(json) => serde_json::from_slice(&json)
            .map_err(|error| Error::file("understand", file)(error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Kept::default()),
        Err(error) => Err(Error::file("read", file)(error)),
    }
}

#[cfg(test)]
mod tests;
