//! Answered flows that go on with a former address for a while.
//!
//! Two elements of the kernel stand for each drain. The one in `draining` lets its packets pass and
//! goes by the kernel's own clock, whether an agent runs or not. The one in `drains` has no time:
//! it says which flows must be ended, and is there until that is done. A third, in `steered`, leads
//! them to the uplink of their address, where new flows of anybody are steered.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use sortie_api::workload::{IfIndex, MacAddress};

use super::Planner;
use crate::compile::steering::steer;
use crate::compile::treatment::Treatment;
use crate::compile::workload::{Element, Placement, named};
use crate::flow::{Keep, Source};
use crate::mark::Mark;
use crate::nft::key::Key;
use crate::nft::rule::Verdict;
use crate::nft::set::Data;
use crate::nft::{Family, Name};
use crate::op::Op;
use crate::resolve::Addresses;
use crate::state::Observed;
use crate::steps::Steps;

/// A workload's own address and a former egress address of it.
pub(super) type Former = (IpAddr, IpAddr);

/// How old flows of a workload's address go on with a former egress address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Drain {
    /// The former address's uplink when it was one.
    uplink: IfIndex,
    /// What leads to it, where the host's routes do not.
    mark: Option<Mark>,
    /// Whose flows they are: who gets the workload's address later inherits nothing.
    binding: (IfIndex, MacAddress),
    /// On the clock of [`Planner::at`].
    until: Duration,
}

impl Planner {
    /// Time passes: drains and bypasses end, and what has ended is forgotten. `now` counts from any point and never goes back.
    pub fn at(&mut self, now: Duration) -> Vec<Op> {
        self.now = self.now.max(now);
        self.lately.forget(self.now);
        if self.next_end().is_none_or(|end| end > self.now) {
            return Vec::new();
        }
        self.step(|planner, steps| {
            let now = planner.now;
            planner.drop_drains(steps, |_, drain| drain.until <= now);
            planner.end_bypasses(steps);
            planner.end_lingering(steps);
            planner.forget_ended(steps);
        })
    }

    /// When [`Planner::at`] has something to do next, on its clock.
    pub fn next_end(&self) -> Option<Duration> {
        let drains = self.drains.values().map(|drain| drain.until);
        let others = self.next_bypass_end().into_iter();
        let others = others.chain(self.next_forgotten());
        drains.chain(others).chain(self.next_lingering()).min()
    }

    /// The former addresses that flows from one of a workload's addresses go on with, each with
    /// how long still.
    pub fn draining(&self, source: IpAddr) -> impl Iterator<Item = (IpAddr, Duration)> {
        let of_source = self.drains.range(former_addresses(source));
        of_source.map(|((_, address), drain)| (*address, drain.until.saturating_sub(self.now)))
    }

    /// Takes over the drains that a former agent left, where they still make sense, and cgroups that
    /// ended while none ran: to be called
    /// before [`Planner::adopt`] with the same.
    pub fn inherit(&mut self, observed: &Observed) {
        let Some(inet) = observed.tables.get(&Family::Inet) else {
            return;
        };
        for (drains, draining) in [("drains4", "draining4"), ("drains6", "draining6")] {
            for key in inet.sets.get(drains).into_iter().flat_map(|set| set.keys()) {
                let Some((source, address, uplink)) = key.drain_parts() else {
                    continue;
                };
                let left = inet.sets.get(draining).and_then(|set| set.get(key));
                let left = match left {
                    Some(Data::For(left)) => *left,
                    _ => Duration::ZERO,
                };
                let Some(binding) = self.drain_binding(source, address) else {
                    continue;
                };
                if !is_bound(observed, source, binding) {
                    continue;
                }
                let until = self.now + left;
                let drain = Drain {
                    uplink,
                    mark: None,
                    binding,
                    until,
                };
                if let Entry::Vacant(entry) = self.drains.entry((source, address)) {
                    entry.insert(drain);
                    self.used_uplinks.hold((uplink, source.is_ipv6()));
                }
            }
        }
        self.inherit_ended(inet);
        // Uplinks may need marks, and cgroups chains; [`Planner::adopt`] yields the steps.
        self.step_into(Steps::unwanted(), |_, _| ());
    }

    /// What flows may stay now that are known by this.
    pub(crate) fn keep(&self, source: Source) -> Keep {
        let holder = match source {
            Source::Address(address) => self.holder(address),
            Source::Cgroup { id, .. } => self.in_cgroup(id),
        };
        self.keep_of(source, holder.map(|tracked| &tracked.placement))
    }

    /// The same, given whose they are.
    pub(super) fn keep_of(&self, source: Source, holder: Option<&Placement>) -> Keep {
        let v6 = match source {
            Source::Address(address) => address.is_ipv6(),
            Source::Cgroup { v6, .. } => v6,
        };
        let treatment = holder.map(|holder| holder.of_family(v6));
        let mut keep = match (source, treatment) {
            // Translated to itself.
            (Source::Address(address), Some(Treatment::Direct { .. })) => Keep::address(address),
            (Source::Address(address), Some(treatment)) => {
                Keep::treated(treatment, || self.meant_at(address))
            }
            (Source::Cgroup { .. }, Some(treatment)) => Keep::treated(treatment, BTreeMap::new),
            (_, None) => Keep::default(),
        };
        if let Source::Address(address) = source {
            keep.draining = self.draining(address).map(|(former, _)| former).collect();
        }
        keep
    }

    /// A workload was placed anew. Steps, for each of its addresses whose treatment changed:
    /// 1. Where the policies that decide now drain, flows with the addresses of before go on.
    /// 2. Where they do not, or nothing is decided, earlier drains end too.
    pub(super) fn drain(&mut self, before: &Placement, after: &Placement, steps: &mut Steps) {
        for endpoint in &after.endpoints {
            for source in &endpoint.addresses {
                let v6 = source.is_ipv6();
                let (old, new) = (before.of_family(v6), after.treated(v6));
                let same_port = before
                    .endpoint_of(*source)
                    .is_some_and(|was| (was.port, was.mac) == (endpoint.port, endpoint.mac));
                if !same_port || old.gives_the_same(&new.treatment) {
                    continue;
                }
                let decided = matches!(
                    new.treatment,
                    Treatment::Translate { .. } | Treatment::Set(_)
                );
                let time = new.drain.filter(|_| decided);
                let current = |address: &IpAddr| matches!(&new.treatment, Treatment::Translate { address: new, .. } if new == address);
                self.drop_drains(steps, |(of, address), _| {
                    of == source && (time.is_none() || current(address))
                });
                let former: Vec<IpAddr> = old
                    .egress_addresses()
                    .into_iter()
                    .filter(|address| !current(address))
                    .collect();
                for address in &former {
                    if let Some(time) = time {
                        let binding = (endpoint.port, endpoint.mac);
                        self.start_drain((*source, *address), binding, time, steps);
                    }
                }
            }
        }
    }

    /// Whoever has the address of a drain now is not who had it then, or is not translated.
    pub(super) fn drop_foreign_drains(&mut self, steps: &mut Steps) {
        let foreign: BTreeSet<Former> = self
            .drains
            .iter()
            .filter(|((source, address), drain)| {
                self.drain_binding(*source, *address) != Some(drain.binding)
            })
            .map(|(former, _)| *former)
            .collect();
        self.drop_drains(steps, |former, _| foreign.contains(former));
    }

    /// Uplinks may have other marks.
    pub(super) fn steer_drains(&mut self, steps: &mut Steps) {
        for (former, drain) in &mut self.drains {
            let v6 = former.1.is_ipv6();
            let mark = self.topology.steering.mark(drain.uplink, v6);
            if mark != drain.mark {
                steps.remove_elements(elements(*former, drain, self.now));
                drain.mark = mark;
                steps.add_elements(elements(*former, drain, self.now));
            }
        }
    }

    /// The uplink of an address that is there and has a next hop. Whether a mark leads to it is
    /// seen later: policies that just went may have been the last to need one.
    fn way_out(&self, address: IpAddr) -> Option<IfIndex> {
        let (environment, v6) = (&self.environment, address.is_ipv6());
        environment.addresses.get(&address)?;
        let uplink = self.uplink(address)?;
        let leads =
            environment.is_default_uplink(uplink, v6) || environment.next_hop(uplink, v6).is_some();
        leads.then_some(uplink)
    }

    /// The elements of all drains.
    pub(super) fn drain_elements(&self) -> impl Iterator<Item = Element> {
        let all = self.drains.iter();
        all.flat_map(|(former, drain)| elements(*former, drain, self.now))
    }

    /// The port and MAC of the workload whose flows may go on with a former address; none where
    /// its policies have no place for it.
    fn drain_binding(&self, source: IpAddr, address: IpAddr) -> Option<(IfIndex, MacAddress)> {
        let placement = &self.holder(source)?.placement;
        let treated = placement.treated(source.is_ipv6());
        treated.drain?;
        match &treated.treatment {
            Treatment::Translate { address: now, .. } if *now != address => {}
            Treatment::Set(_) => {}
            _ => return None,
        }
        let endpoint = placement.endpoint_of(source)?;
        Some((endpoint.port, endpoint.mac))
    }

    fn start_drain(
        &mut self,
        former: Former,
        binding: (IfIndex, MacAddress),
        time: Duration,
        steps: &mut Steps,
    ) {
        // From an address that is not there nothing leaves anyway.
        let Some(uplink) = self.way_out(former.1) else {
            return;
        };
        self.drop_drains(steps, |other, _| *other == former);
        let v6 = former.1.is_ipv6();
        let drain = Drain {
            uplink,
            mark: self.topology.steering.mark(uplink, v6),
            binding,
            until: self.now + time,
        };
        self.used_uplinks.hold((uplink, v6));
        steps.add_elements(elements(former, &drain, self.now));
        self.drains.insert(former, drain);
    }

    fn drop_drains(&mut self, steps: &mut Steps, ends: impl Fn(&Former, &Drain) -> bool) {
        let ended: Vec<_> = self
            .drains
            .extract_if(.., |former, drain| ends(former, drain))
            .collect();
        for (former, drain) in &ended {
            steps.remove_elements(elements(*former, drain, self.now));
            let v6 = former.1.is_ipv6();
            self.used_uplinks.release(&(drain.uplink, v6));
        }
    }
}

fn former_addresses(source: IpAddr) -> std::ops::RangeInclusive<Former> {
    let (lowest, highest): (IpAddr, IpAddr) = if source.is_ipv6() {
        ([0; 16].into(), [u8::MAX; 16].into())
    } else {
        ([0; 4].into(), [u8::MAX; 4].into())
    };
    (source, lowest)..=(source, highest)
}

fn elements((source, address): Former, drain: &Drain, now: Duration) -> [Element; 3] {
    let key = Key::from(source).ip(address).interface(drain.uplink);
    let left = drain.until.saturating_sub(now);
    let element = |set, data| (Family::Inet, set, key, data);
    let way = drain
        .mark
        .map_or(Verdict::Accept, |mark| Verdict::Goto(steer(mark)));
    let steered = Key::from(source).ip(address);
    [
        element(named!("drains", source), Data::None),
        element(named!("draining", source), Data::For(left)),
        (
            Family::Inet,
            named!("steered", source),
            steered,
            Data::Verdict(way),
        ),
    ]
}

/// Whether the kernel already binds the address to this port and MAC.
fn is_bound(observed: &Observed, source: IpAddr, (port, mac): (IfIndex, MacAddress)) -> bool {
    let key = Key::new().interface(port).mac(mac).ip(source);
    let bound = named!("bound", source);
    let mut tables = observed.tables.values();
    tables.any(|table| {
        table
            .sets
            .get(&bound)
            .is_some_and(|set| set.contains_key(&key))
    })
}

#[cfg(test)]
mod tests;
