//! Addresses that a running workload lost with an interface, as when an engine disconnects it from a
//! network. It may get them again, with `podman network reload` and the like at once, and its open
//! connections then go on: so the kernel holds them for it as before for a while.
//!
//! Nobody can send by an interface that is gone. Whoever is connected with such an address has it
//! instead, and inherits nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use sortie_api::workload::{Endpoint, Families, Workload, WorkloadId, WorkloadKind};

use super::{Planner, Tracked};
use crate::compile::treatment::Treatment;
use crate::steps::Steps;

/// Who repeats what was not acknowledged may wait two minutes for the next time (RFC 6298, section
/// 2.5, and `TCP_RTO_MAX`).
const KEPT: Duration = Duration::from_mins(5);

/// What one workload lost in this run.
#[derive(Debug, Clone)]
pub(super) struct Lost {
    pub(super) endpoints: Box<[Endpoint]>,
    /// On the clock of [`Planner::at`].
    until: Duration,
}

impl Planner {
    /// The next description of a running workload.
    pub(super) fn lose(&mut self, before: &Tracked, earlier: Option<Lost>, now: &Workload) {
        // Its address inside would have to go with the interface.
        let is_own = |v6| matches!(before.placement.of_family(v6), Treatment::Own { .. });
        if now.unmanageable.is_some()
            || now.kind == WorkloadKind::Process
            || is_own(false)
            || is_own(true)
        {
            return;
        }
        let (earlier, until) = match earlier {
            Some(lost) => (left(&lost.endpoints, now), lost.until),
            None => (Vec::new(), Duration::ZERO),
        };
        let lost = left(&before.workload.endpoints, now);
        let until = if lost.is_empty() {
            until
        } else {
            self.now + KEPT
        };
        let endpoints: Box<[Endpoint]> = lost.into_iter().chain(earlier).collect();
        if endpoints.is_empty() {
            return;
        }
        for address in endpoints.iter().flat_map(|it| &it.addresses) {
            self.claims.add(*address, least_claim(&now.id));
        }
        self.lost.insert(now.id.clone(), Lost { endpoints, until });
    }

    /// Nobody expects any of it back.
    pub(super) fn forget_lost(&mut self, id: &WorkloadId) -> Option<Lost> {
        let lost = self.lost.remove(id)?;
        for address in lost.endpoints.iter().flat_map(|it| &it.addresses) {
            self.claims.remove(*address, &least_claim(id));
        }
        Some(lost)
    }

    /// The time of some is over.
    pub(super) fn end_lost(&mut self, steps: &mut Steps) {
        let ended = self.lost.iter().filter(|(_, lost)| lost.until <= self.now);
        let ended: BTreeSet<WorkloadId> = ended.map(|(id, _)| id.clone()).collect();
        for id in &ended {
            self.forget_lost(id);
        }
        self.place_all(ended.into_iter().collect(), steps);
    }

    /// When the next of them ends.
    pub(super) fn next_lost_end(&self) -> Option<Duration> {
        self.lost.values().map(|lost| lost.until).min()
    }
}

/// Behind every claim of somebody who is connected.
fn least_claim(id: &WorkloadId) -> (i64, WorkloadId) {
    (i64::MIN, id.clone())
}

/// These endpoints, with the addresses that the workload has nowhere now.
fn left(endpoints: &[Endpoint], now: &Workload) -> Vec<Endpoint> {
    let mut there = now.endpoints.iter().flat_map(|it| &it.addresses);
    let there: BTreeSet<_> = there.by_ref().collect();
    let left = endpoints.iter().map(|endpoint| {
        let addresses = endpoint.addresses.iter().copied();
        Endpoint {
            addresses: addresses.filter(|it| !there.contains(it)).collect(),
            default_route: Families::default(),
            ..endpoint.clone()
        }
    });
    left.filter(|endpoint| !endpoint.addresses.is_empty())
        .collect()
}

#[cfg(test)]
mod tests;
