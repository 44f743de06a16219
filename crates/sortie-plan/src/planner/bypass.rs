//! Workloads that leave as without Sortie for a while, whatever the policies say.
//!
//! As for a drain, two elements of the kernel stand for each address. The one in `bypass` lets its
//! packets by and goes by the kernel's own clock, whether an agent runs or not. The one in
//! `bypassed` has no time: it says whose flows must be ended, and is there until that is done.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use sortie_api::workload::WorkloadId;

use super::Planner;
use crate::compile::workload::{Element, named};
use crate::nft::key::Key;
use crate::nft::set::Data;
use crate::nft::{Family, Name};
use crate::op::Op;
use crate::steps::Steps;

/// A workload that no policy holds for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bypass {
    /// On the clock of [`Planner::at`].
    until: Duration,
    /// When the workload was started: after another start it is another one.
    started: i64,
    /// Its addresses that the kernel lets by.
    addresses: BTreeSet<IpAddr>,
}

impl Planner {
    /// Lets a workload by for this long from now, whatever was said before. Its flows end, so that
    /// all that it sends then leaves as without Sortie. Nothing for a workload that is not there.
    pub fn bypass(&mut self, id: &WorkloadId, time: Duration) -> Vec<Op> {
        self.step(|planner, steps| planner.start_bypass(id, time, steps))
    }

    /// The same for one that a former agent began, before anything was compared with the kernel:
    /// [`Planner::adopt`] yields the steps.
    pub fn learn_bypass(&mut self, id: &WorkloadId, left: Duration) {
        self.step_into(Steps::unwanted(), |planner, steps| {
            planner.start_bypass(id, left, steps);
        });
    }

    /// The policies hold for it again.
    pub fn end_bypass(&mut self, id: &WorkloadId) -> Vec<Op> {
        let mut steps = Steps::default();
        self.drop_bypasses(&mut steps, |other, _| other == id);
        self.ordered(steps)
    }

    /// How long a workload is let by still; none where it is not.
    pub fn bypassed(&self, id: &WorkloadId) -> Option<Duration> {
        let bypass = self.bypasses.get(id)?;
        Some(bypass.until.saturating_sub(self.now))
    }

    /// When the next bypass ends.
    pub(super) fn next_bypass_end(&self) -> Option<Duration> {
        self.bypasses.values().map(|bypass| bypass.until).min()
    }

    /// Those whose time is over end.
    pub(super) fn end_bypasses(&mut self, steps: &mut Steps) {
        let now = self.now;
        self.drop_bypasses(steps, |_, bypass| bypass.until <= now);
    }

    /// Workloads may have ended, or have other addresses.
    pub(super) fn follow_bypasses(&mut self, steps: &mut Steps) {
        let ids: Vec<WorkloadId> = self.bypasses.keys().cloned().collect();
        for id in ids {
            let addresses = self.addresses_by(&id);
            let now = self.now;
            let Some(bypass) = self.bypasses.get_mut(&id) else {
                continue;
            };
            let Some(addresses) = addresses else {
                self.drop_bypasses(steps, |other, _| *other == id);
                continue;
            };
            let before = std::mem::replace(&mut bypass.addresses, addresses);
            let until = bypass.until;
            let came: Vec<IpAddr> = bypass.addresses.difference(&before).copied().collect();
            let gone: Vec<IpAddr> = before.difference(&bypass.addresses).copied().collect();
            for address in gone {
                steps.remove_elements(elements(address, until, now));
            }
            for address in came {
                steps.add_elements(elements(address, until, now));
            }
        }
    }

    /// The elements of all of them.
    pub(super) fn bypass_elements(&self) -> impl Iterator<Item = Element> {
        self.bypasses.values().flat_map(|bypass| {
            let addresses = bypass.addresses.iter();
            addresses.flat_map(|address| elements(*address, bypass.until, self.now))
        })
    }

    /// The addresses that are the workload's alone; none where it is not the one that was let by.
    fn addresses_by(&self, id: &WorkloadId) -> Option<BTreeSet<IpAddr>> {
        let tracked = self.workloads.get(id)?;
        let bypass = self.bypasses.get(id)?;
        if tracked.workload.started != bypass.started {
            return None;
        }
        let endpoints = tracked.placement.endpoints.iter();
        let addresses = endpoints.flat_map(|endpoint| &endpoint.addresses);
        Some(addresses.copied().collect())
    }

    fn start_bypass(&mut self, id: &WorkloadId, time: Duration, steps: &mut Steps) {
        self.drop_bypasses(steps, |other, _| other == id);
        let Some(tracked) = self.workloads.get(id) else {
            return;
        };
        let bypass = Bypass {
            until: self.now + time,
            started: tracked.workload.started,
            addresses: BTreeSet::new(),
        };
        self.bypasses.insert(id.clone(), bypass);
        self.follow_bypasses(steps);
    }

    fn drop_bypasses(&mut self, steps: &mut Steps, ends: impl Fn(&WorkloadId, &Bypass) -> bool) {
        let ended: Vec<_> = self
            .bypasses
            .extract_if(.., |id, bypass| ends(id, bypass))
            .collect();
        for (_, bypass) in ended {
            for address in bypass.addresses {
                steps.remove_elements(elements(address, bypass.until, self.now));
            }
        }
    }
}

fn elements(address: IpAddr, until: Duration, now: Duration) -> [Element; 2] {
    let own = Key::from(address);
    let element = |set, data| (Family::Inet, set, own, data);
    [
        element(named!("bypassed", address), Data::None),
        element(
            named!("bypass", address),
            Data::For(until.saturating_sub(now)),
        ),
    ]
}

#[cfg(test)]
mod tests;
