//! From what the kernel was found to hold to all that it must hold: when an agent starts, and when a
//! step has failed.

use std::collections::BTreeMap;

use super::{Planner, Tracked};
use crate::compile::policy_set::leaves_as;
use crate::compile::shared;
use crate::compile::workload::{Element, Placement};
use crate::diff::{diff_keeping, holds_nothing_else, missing};
use crate::nft::Family;
use crate::nft::key::Key;
use crate::nft::set::Data;
use crate::op::{NftOp, Op};
use crate::state::{HostState, Observed};
use crate::steps::Place;

/// Workloads that come in one transaction, where none was there before.
const TOGETHER: usize = 2_000;
/// Workloads whose old flows end in one walk of the kernel's table of flows.
const WALKED_FOR: usize = 20_000;

impl Planner {
    /// All that the kernel must hold.
    pub fn desired(&self) -> HostState {
        let mut state = self.frame();
        self.put_workloads(&mut state);
        state
    }

    fn put_workloads(&self, state: &mut HostState) {
        let workloads = self.workloads.values();
        fill(state, workloads.flat_map(|t| t.placement.elements()));
    }

    /// The same without what is there for single workloads.
    fn frame(&self) -> HostState {
        let mut state = self.skeleton.clone();
        if let Some(inet) = state.tables.get_mut(&Family::Inet) {
            for (set, _) in self.sets.values() {
                inet.sets.extend(set.sets());
                inet.chains.extend(set.chains());
            }
            let leaves_as = self.leaves_as.members().copied().map(leaves_as);
            inet.chains.extend(leaves_as);
        }
        let uplinks = self.uplinks.iter();
        let addresses = uplinks.flat_map(|(address, uplink)| shared::address(*address, *uplink));
        fill(
            &mut state,
            addresses
                .chain(self.drain_elements())
                .chain(self.bypass_elements())
                .chain(self.ended_elements())
                .chain(self.all_name_elements()),
        );
        state
    }

    /// The steps from what was observed to what must be there, in parts that follow each other.
    ///
    /// 1. Where the kernel holds something for any workload already, one part: what goes for one and
    ///    what comes for another belong together.
    /// 2. Else everything but the workloads; then some workloads at a time, so that the steps of
    ///    all are never in memory together; then the ends of their old flows. A workload that is
    ///    still to come is to the kernel what it was before.
    /// 3. Where flows end, what waits at the uplinks goes.
    pub fn adopt(&self, observed: &Observed) -> impl Iterator<Item = Vec<Op>> {
        let mut desired = self.frame();
        let one_by_one = holds_nothing_else(observed, &desired);
        if !one_by_one {
            self.put_workloads(&mut desired);
        }
        let first = self.and_waiting(diff_keeping(observed, desired, |source| self.keep(source)));
        let still_to_come = if one_by_one { self.workloads.len() } else { 0 };
        let workloads = || {
            self.workloads
                .values()
                .map(AsRef::as_ref)
                .take(still_to_come)
        };
        let come = in_parts(workloads(), TOGETHER, |workloads| {
            let placements = workloads.iter().map(|tracked| &tracked.placement);
            let elements = gathered(placements.flat_map(Placement::elements));
            let add =
                |((family, set), elements)| Op::Nft(family, NftOp::AddElements(set, elements));
            elements.into_iter().map(add).collect()
        });
        let forget = in_parts(workloads(), WALKED_FOR, |workloads| {
            let placements = workloads.iter().map(|tracked| &tracked.placement);
            let forget = |placement| {
                Placement::sources(placement).map(|source| Op::ForgetFlows {
                    source,
                    translated: None,
                    keep: self.keep_of(source, Some(placement)),
                })
            };
            placements.flat_map(forget).collect()
        });
        let ends = |tracked: &Tracked| tracked.placement.sources().next().is_some();
        let waiting = workloads().any(ends).then(|| self.drop_waiting().collect());
        let parts = std::iter::once(first)
            .chain(come)
            .chain(forget)
            .chain(waiting);
        parts.filter(|ops| !ops.is_empty())
    }

    /// The same while the workloads are not known yet: what the kernel holds for them stays.
    pub fn missing(&self, observed: &Observed) -> Vec<Op> {
        let ops = missing(observed, &self.desired(), |source| self.keep(source));
        self.and_waiting(ops)
    }
}

/// The steps for so many workloads at a time, made when they are asked for.
fn in_parts<'w>(
    mut workloads: impl Iterator<Item = &'w Tracked>,
    size: usize,
    steps: impl Fn(&[&Tracked]) -> Vec<Op>,
) -> impl Iterator<Item = Vec<Op>> {
    std::iter::from_fn(move || {
        let part: Vec<&Tracked> = workloads.by_ref().take(size).collect();
        (!part.is_empty()).then(|| steps(&part))
    })
}

/// Puts elements into their sets.
fn fill(state: &mut HostState, elements: impl Iterator<Item = Element>) {
    // Set by set: a map made of many at once is sorted once.
    for ((family, name), elements) in gathered(elements) {
        let table = state.tables.get_mut(&family);
        if let Some(set) = table.and_then(|table| table.sets.get_mut(&name)) {
            set.elements.append(&mut elements.into_iter().collect());
        }
    }
}

/// Elements by their sets.
fn gathered(elements: impl Iterator<Item = Element>) -> BTreeMap<Place, Vec<(Key, Data)>> {
    let mut gathered: Vec<(Place, Vec<_>)> = Vec::new();
    let mut at = 0;
    for (family, set, key, data) in elements {
        // Workloads are like each other: nearly always it is the set behind the last one's.
        let mut places = (at + 1..gathered.len()).chain(0..=at);
        let found = places.find(|at| {
            let place = gathered.get(*at).map(|(place, _)| place);
            place.is_some_and(|place| (place.0, &place.1) == (family, &set))
        });
        at = found.unwrap_or(gathered.len());
        match gathered.get_mut(at) {
            Some((_, elements)) => elements.push((key, data)),
            None => gathered.push(((family, set), vec![(key, data)])),
        }
    }
    gathered.into_iter().collect()
}
