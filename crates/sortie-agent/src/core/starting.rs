//! Containers whose first process waits until their decision is in the kernel: the runtime tells
//! of them before the engine does.

use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sortie_api::workload::{Engine, IfIndex, Workload, WorkloadId};
use sortie_kernel::Look;
use sortie_plan::flow::Right;
use sortie_plan::op::Op;
use sortie_workloads::docker::begun::Place;

use super::Core;
use crate::api::{Meanwhile, Starting, StartingRequest};
use crate::process::started;

/// How often those whose start came to nothing are looked for.
const VAIN: Duration = Duration::from_secs(1);

/// A container between the runtime's word and the engine's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begins {
    pid: u32,
    /// The start time of that process, so that another with its number is not taken for it.
    since: u64,
    /// When it was first told, in nanoseconds since the epoch: its place among those that claim
    /// its IP.
    at: i64,
    /// When it is looked at.
    due: Instant,
}

impl Begins {
    fn lives(&self) -> bool {
        started(self.pid) == Some(self.since)
    }
}

impl Core {
    /// 1. Each port's network is told by its bridge: one that the engine has told of, or one that
    ///    is remembered.
    /// 2. The plan and the kernel learn of the workload, also where step 1 found no network: its
    ///    own labels hold whatever that is.
    ///    Old flows of its addresses end after the answer.
    /// 3. It is decided when the kernel took every step for it and every network is known. Where names
    ///    matter the gateway then is waited for, but nobody's start fails without it.
    pub fn starting(&mut self, request: &StartingRequest, place: Place) -> Starting {
        let container = &request.container;
        let id = container.workload_id();
        let mut endpoints = place.endpoints;
        let mut unknown = None;
        for endpoint in &mut endpoints {
            let Some(bridge) = endpoint.bridge else {
                continue;
            };
            match self.network_of(bridge) {
                Some(name) => endpoint.network = name,
                None => unknown = Some(bridge),
            }
        }
        let Some(begins) = self.begins(&id, request.pid) else {
            let why = format!("its process {} has ended", request.pid);
            return Starting::Impossible { why };
        };
        let addresses = endpoints.iter();
        let addresses: Vec<IpAddr> = addresses.flat_map(|it| it.addresses.clone()).collect();
        let workload = self.admitted(Workload {
            id: id.clone(),
            name: container.name.clone(),
            kind: container.engine.into(),
            labels: container.labels.clone().into(),
            pid: begins.pid,
            started: begins.at,
            endpoints,
            published_udp: container.published_udp.clone(),
            cgroup: place.cgroup,
            unmanageable: place.unmanageable,
        });
        let unmanageable = workload.unmanageable.clone();
        let ops = self.planner.workload(workload, None);
        self.starting.insert(id.clone(), begins);
        if let Some(followed) = self.followed(container.engine) {
            followed.containers.insert(id.clone());
        }
        let (first, later) = answered_first(ops);
        let done = self.supplant(&addresses);
        let done = done.and_then(|()| self.enforce(&first));
        self.after_answer = later;
        // Its first lookup may come soon.
        if self.has_gateway() && self.planner.asks_names(&id) {
            self.tell_gateway();
        }

        let meanwhile = self.planner.meanwhile(&id);
        if let (Some(reason), Meanwhile::Drop(who)) = (unmanageable, &meanwhile) {
            let why = format!("it {reason}, but {who}");
            return Starting::Impossible { why };
        }
        let why = match (done, unknown) {
            (Err(why), _) => why,
            (Ok(()), Some(bridge)) => {
                let bridge = self.planner.environment().name_of(bridge);
                format!("the engine has not told of the network with bridge {bridge} yet")
            }
            (Ok(()), None) if self.gateway_is_late(&id, begins.pid) => {
                let why = "the gateway does not listen in it yet".to_owned();
                let meanwhile = Meanwhile::Unconcerned;
                return Starting::Undecided { why, meanwhile };
            }
            (Ok(()), None) => return Starting::Decided,
        };
        Starting::Undecided { why, meanwhile }
    }

    /// What a former agent left for whoever had these addresses ends before somebody else sends with
    /// them: the engines have not told yet who is still there.
    fn supplant(&mut self, addresses: &[IpAddr]) -> Result<(), String> {
        if self.compared {
            return Ok(());
        }
        let observed = self.kernel.observe().map_err(|error| error.to_string())?;
        let ops = self.planner.former(&observed, addresses);
        self.enforce(&ops)
    }

    fn begins(&self, id: &WorkloadId, pid: u32) -> Option<Begins> {
        let since = started(pid)?;
        let due = Instant::now() + VAIN;
        let before = self.starting.get(id);
        let at = before
            .filter(|before| (before.pid, before.since) == (pid, since))
            .map_or_else(now, |before| before.at);
        Some(Begins {
            pid,
            since,
            at,
            due,
        })
    }

    /// The host is read only for a bridge that nobody knows yet; networks of before a boot are
    /// then remembered by their bridges' names.
    fn network_of(&mut self, bridge: IfIndex) -> Option<String> {
        let known = |core: &Self| Some(core.planner.network_on(bridge)?.name.clone());
        let seen = self.planner.environment().interfaces.contains_key(&bridge);
        if known(self).is_none() && !seen {
            self.look_at_host(Look::Nowhere);
        }
        known(self)
    }

    /// Whether the runtime has told of this container, and its process lives.
    pub(super) fn is_starting(&self, id: &WorkloadId) -> bool {
        self.starting.get(id).is_some_and(Begins::lives)
    }

    /// Those of an engine of which this can be said.
    pub(super) fn all_starting(&self, engine: Engine) -> Vec<WorkloadId> {
        let of_engine = engine.workload_id("");
        let all = self.starting.iter().filter(|(_, begins)| begins.lives());
        let all = all.filter(|(id, _)| id.as_str().starts_with(of_engine.as_str()));
        all.map(|(id, _)| id.clone()).collect()
    }

    /// Whether the engine speaks of an earlier run, or knows less than the runtime told.
    pub(super) fn is_older(&self, workload: &Workload) -> bool {
        let begins = self.starting.get(&workload.id);
        begins.is_some_and(|begins| begins.pid != workload.pid && begins.lives())
    }

    pub(super) fn starting_due(&self) -> Option<Instant> {
        self.starting.values().map(|begins| begins.due).min()
    }

    /// The engine says nothing of a container whose start failed.
    pub(super) fn end_vain_starts(&mut self, now: Instant) {
        if self.starting_due().is_none_or(|due| due > now) {
            return;
        }
        let (alive, ended) = std::mem::take(&mut self.starting)
            .into_iter()
            .partition(|(_, begins)| begins.lives());
        self.starting = alive;
        for begins in self.starting.values_mut() {
            begins.due = now + VAIN;
        }
        for (id, _) in ended {
            for followed in &mut self.engines {
                followed.containers.remove(&id);
            }
            let ops = self.planner.workload_gone(&id);
            self.apply(&ops);
        }
    }
}

/// What must be done before the container may start, and what need not. Ending an earlier owner's
/// flows takes a walk through all that is tracked, longer than everything else; until they have
/// ended the guard drops what would leave by them. Only where the container's own new flows could
/// be taken for old ones, because nothing is known that a right one looks like, they end before.
fn answered_first(ops: Vec<Op>) -> (Vec<Op>, Vec<Op>) {
    let transaction = ops.iter().rposition(|op| matches!(op, Op::Nft(..)));
    let mut first = ops;
    let after = first.split_off(transaction.map_or(0, |last| last + 1));
    let (later, rest) = after
        .into_iter()
        .partition(|op| matches!(op, Op::ForgetFlows { keep, .. } if keep.right != Right::Nothing));
    first.extend::<Vec<Op>>(rest);
    (first, later)
}

fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
