//! Cgroups of managed workloads that have ended. The kernel goes on with sockets that nobody has
//! any more: it sends again what was not acknowledged, and the end of a connection. What that was to
//! leave with went with the workload, so until the kernel has given up too it is dropped.
//!
//! The cgroup stays in `cgroups4` or `cgroups6`, and its flows are nobody's own: so nothing of it
//! passes `cgroup-LEVEL` but answers to others.

use std::collections::BTreeSet;
use std::time::Duration;

use sortie_api::workload::CgroupId;

use super::{Planner, Tracked};
use crate::compile::workload::Element;
use crate::nft::key::Key;
use crate::nft::set::Data;
use crate::nft::{Family, Name};
use crate::state::ObservedTable;
use crate::steps::Steps;

/// The kernel gives up sooner: eight times at twice the pause, from 200 ms to 120 s, and the pause
/// that then lasts (`tcp_write_timeout` in net/ipv4/tcp_timer.c, `tcp_orphan_retries`).
const SOCKETS_SEND: Duration = Duration::from_mins(5);

/// The sets of managed cgroups, by family.
const SETS: [&str; 2] = ["cgroups4", "cgroups6"];

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    /// How far below the root it was; where a former agent knew it, all that may be.
    levels: BTreeSet<u32>,
    /// Which families' packets were managed.
    managed: [bool; 2],
    /// On the clock of [`Planner::at`].
    until: Duration,
}

impl Planner {
    /// A workload goes. One that comes with the same cgroup takes its place.
    pub(super) fn end_cgroup(&mut self, tracked: &Tracked, steps: &mut Steps) {
        let Some(cgroup) = tracked.workload.cgroup else {
            return;
        };
        let managed = [false, true].map(|v6| tracked.placement.of_family(v6).is_managed());
        if managed == [false; 2] {
            return;
        }
        let ended = Ended {
            levels: [cgroup.level].into(),
            managed,
            until: self.now + SOCKETS_SEND,
        };
        steps.add_elements(elements(cgroup.id, &ended));
        self.ended.insert(cgroup.id, ended);
    }

    /// It is a workload's again.
    pub(super) fn take_cgroup(&mut self, id: CgroupId, steps: &mut Steps) {
        if let Some(ended) = self.ended.remove(&id) {
            steps.remove_elements(elements(id, &ended));
        }
    }

    /// Those that a former agent knew as managed, and whom no engine tells.
    pub(super) fn inherit_ended(&mut self, inet: &ObservedTable) {
        let level = |name: &Name| name.strip_prefix("sockets-")?.parse().ok();
        let levels: BTreeSet<u32> = inet.chains.iter().filter_map(level).collect();
        for (v6, set) in SETS.into_iter().enumerate() {
            for key in inet.sets.get(set).into_iter().flat_map(|set| set.keys()) {
                let Some(id) = key.as_cgroup() else { continue };
                let known = |ended: &Ended| ended.managed[v6];
                if self.cgroups.contains_key(&id) || self.ended.get(&id).is_some_and(known) {
                    continue;
                }
                let until = self.now + SOCKETS_SEND;
                let ended = self.ended.entry(id).or_insert_with(|| Ended {
                    levels: levels.clone(),
                    managed: [false; 2],
                    until,
                });
                ended.managed[v6] = true;
            }
        }
    }

    /// The kernel has given up.
    pub(super) fn forget_ended(&mut self, steps: &mut Steps) {
        let now = self.now;
        for (id, ended) in self.ended.extract_if(.., |_, ended| ended.until <= now) {
            steps.remove_elements(elements(id, &ended));
        }
    }

    /// When the next one is forgotten.
    pub(super) fn next_forgotten(&self) -> Option<Duration> {
        self.ended.values().map(|ended| ended.until).min()
    }

    /// The depths at which any of them was.
    pub(super) fn ended_levels(&self) -> impl Iterator<Item = u32> {
        self.ended.values().flat_map(|ended| &ended.levels).copied()
    }

    /// The elements of all of them.
    pub(super) fn ended_elements(&self) -> impl Iterator<Item = Element> {
        let all = self.ended.iter();
        all.flat_map(|(id, ended)| elements(*id, ended))
    }
}

fn elements(id: CgroupId, ended: &Ended) -> impl Iterator<Item = Element> {
    let own = Key::new().cgroup(id);
    let sets = SETS.into_iter().zip(ended.managed);
    sets.filter(|(_, managed)| *managed)
        .map(move |(set, _)| (Family::Inet, set.into(), own, Data::None))
}

#[cfg(test)]
mod tests;
