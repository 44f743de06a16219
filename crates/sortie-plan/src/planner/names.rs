//! What workloads were told of names: the addresses that their look-ups were answered with, which are
//! then known by these names for as long as the workload lives.
//!
//! Some programs never look a name up again, so no time ends this. What ends it is the workload's end,
//! or so many other addresses that the one unused for longest goes.

mod memory;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use sortie_api::workload::WorkloadId;

use super::{Planner, Tracked};
use crate::compile::policy_set::{Meant, PolicySet};
use crate::compile::treatment::Treatment;
use crate::compile::workload::{Element, Placement, named};
use crate::flow::Flow;
use crate::nft::key::Key;
use crate::nft::set::Data;
use crate::nft::{Family, Name};
use crate::op::Op;
use crate::precedence::Target;
use crate::redirect::Redirect;
use crate::steps::Steps;

use memory::Named;
pub(super) use memory::Names;

/// Addresses remembered for one workload: about 1 MB with their elements in the kernel.
const REMEMBERED: usize = 4_096;
/// The same while no policy of the workload asks for names: about 60 kB.
const OVERHEARD: usize = 256;

/// One address of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// As the server said.
    pub real: IpAddr,
    /// What the workload is told: the same, or a stand-in where it knows the same address by a name
    /// that the policies decide otherwise about. None where there is no stand-in left.
    pub answer: Option<IpAddr>,
    /// Whether it is known by this name from now on only.
    pub new: bool,
}

/// A name that a workload was told an address of: what has to outlive the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known<'a> {
    /// Whose.
    pub workload: &'a WorkloadId,
    /// Its process then.
    pub pid: u32,
    /// The name, in small letters and without a dot at its end.
    pub name: &'a str,
    /// Where packets go.
    pub real: IpAddr,
    /// What it was answered with.
    pub answer: IpAddr,
}

impl Planner {
    /// What a former agent has told, in that order, before any workload is there.
    pub fn recall_name(&mut self, known: Known<'_>) {
        let names = self.names.entry(known.workload.clone()).or_default();
        // A process that is not known yet is a new one's.
        if names.pid != 0 && names.pid != known.pid {
            *names = Names::default();
        }
        names.pid = known.pid;
        let nobody = &mut |_, _: Option<&Named>, _: Option<&Named>| {};
        let name = known.name.into();
        names.note(&name, known.real, known.answer, REMEMBERED, nobody);
    }

    /// The process that a workload's names were told to.
    pub fn named_process(&self, id: &WorkloadId) -> Option<u32> {
        self.names.get(id).map(|names| names.pid)
    }

    /// All that is there are known: nothing is kept for others.
    pub fn forget_names_of_others(&mut self) {
        self.names.retain(|id, _| self.workloads.contains_key(id));
    }

    /// All names of all workloads, those that were answered last at the end of each one's.
    pub fn known_names(&self) -> impl Iterator<Item = Known<'_>> {
        self.names.iter().flat_map(|(workload, names)| {
            let mut addresses: Vec<_> = names.addresses.iter().collect();
            addresses.sort_by_key(|(_, named)| named.used);
            addresses.into_iter().flat_map(|(answer, named)| {
                named.names.iter().map(|name| Known {
                    workload,
                    pid: names.pid,
                    name,
                    real: named.real,
                    answer: *answer,
                })
            })
        })
    }

    /// A workload looked a name up (lower case, without the last dot), and these are its addresses:
    /// what it is to be told, once the steps are done. A workload that is not there is told what the
    /// server said.
    pub fn learned(
        &mut self,
        id: &WorkloadId,
        name: &str,
        addresses: &[IpAddr],
    ) -> (Vec<Told>, Vec<Op>) {
        let mut steps = Steps::default();
        let mut changed = Vec::new();
        let told = self.tell(id, name, addresses, &mut steps, &mut changed);
        self.follow_direct(id, changed, &mut steps);
        (told, self.ordered(steps))
    }

    /// The names by which a workload knows an address, oldest first.
    pub fn names_of(&self, id: &WorkloadId, address: IpAddr) -> impl Iterator<Item = &str> {
        let named = self.named(id, address);
        named
            .into_iter()
            .flat_map(|named| &named.names)
            .map(AsRef::as_ref)
    }

    /// The addresses that a workload was told for a name, as the servers said them.
    pub fn addresses_of(&self, id: &WorkloadId, name: &str) -> impl Iterator<Item = IpAddr> {
        let told = self.names.get(id).into_iter();
        let told = told.flat_map(|told| told.addresses.values());
        let told = told.filter(move |told| told.names.iter().any(|it| **it == *name));
        told.map(|told| told.real)
    }

    /// Where a flow was to go, as the workload was told: a stand-in instead of what it stands for.
    pub fn as_told(&self, id: &WorkloadId, flow: &Flow) -> Target<'static> {
        let named = self.named(id, flow.asked);
        let stands_in = named.is_some_and(|named| named.real == flow.target.ip);
        Target {
            ip: if stands_in {
                flow.asked
            } else {
                flow.target.ip
            },
            ..flow.target
        }
    }

    /// The same destination, with the name by which a workload knows its address, where it has none.
    pub fn known<'a>(&'a self, id: &WorkloadId, target: Target<'a>) -> Target<'a> {
        let named = self.named(id, target.ip);
        let Some(named) = named.filter(|_| target.name.is_none()) else {
            return target;
        };
        Target {
            ip: named.real,
            name: named.names.first().map(AsRef::as_ref),
            ..target
        }
    }

    /// Those whose policies ask for names.
    pub fn by_name(&self) -> impl Iterator<Item = &Tracked> {
        let all = self.by_name.keys();
        all.filter_map(|id| Some(&**self.workloads.get(id)?))
    }

    /// Whether a workload is among these.
    pub fn asks_names(&self, id: &WorkloadId) -> bool {
        self.by_name.contains_key(id)
    }

    /// What the policies say of the addresses that the workload with the address `own` was told, those
    /// of the same family.
    pub(super) fn meant_at(&self, own: IpAddr) -> BTreeMap<IpAddr, Meant> {
        let v6 = own.is_ipv6();
        let tracked = self.holder(own);
        let set = tracked.and_then(|tracked| asking(&tracked.placement, v6));
        let names = tracked.and_then(|tracked| self.names.get(&tracked.workload.id));
        let (Some(set), Some(names)) = (set, names) else {
            return BTreeMap::new();
        };
        let addresses = names.addresses.iter();
        let of_family = addresses.filter(|(address, _)| address.is_ipv6() == v6);
        of_family
            .map(|(address, named)| (*address, named.meant(set)))
            .collect()
    }

    /// All that the kernel holds for the names of a workload that is placed.
    pub(super) fn name_elements(&self, id: &WorkloadId) -> Vec<Element> {
        let (Some(names), Some(tracked)) = (self.names.get(id), self.workloads.get(id)) else {
            return Vec::new();
        };
        let addresses = names.addresses.iter();
        addresses
            .flat_map(|(address, named)| elements(&tracked.placement, *address, named))
            .collect()
    }

    /// The same for all workloads.
    pub(super) fn all_name_elements(&self) -> impl Iterator<Item = Element> {
        self.names.keys().flat_map(|id| self.name_elements(id))
    }

    fn named(&self, id: &WorkloadId, address: IpAddr) -> Option<&Named> {
        self.names.get(id)?.addresses.get(&address)
    }

    /// What a policy set says of an address that a workload was told.
    pub(super) fn meant(&self, id: &WorkloadId, address: IpAddr, set: &PolicySet) -> Option<Meant> {
        Some(self.named(id, address)?.meant(set))
    }

    /// A workload was placed, has gone, or knows another address: what its namespace must hold.
    pub(super) fn follow_redirect(&mut self, id: &WorkloadId, steps: &mut Steps) {
        let wanted = self.workloads.get(id).and_then(|tracked| {
            let redirect = self.redirect(tracked)?;
            Some((tracked.workload.pid, redirect))
        });
        let pid = wanted.as_ref().map(|(pid, _)| *pid);
        let before = self.by_name.remove(id);
        let redirects = &mut self.skeleton.network.redirects;
        if let Some(gone) = before.filter(|before| Some(*before) != pid) {
            redirects.remove(&gone);
            // The number may be another one's by now.
            let mut all = self.by_name.iter();
            match all
                .find(|(_, pid)| **pid == gone)
                .map(|(other, _)| other.clone())
            {
                Some(other) => self.follow_redirect(&other, steps),
                None => steps.redirect(gone, None),
            }
        }
        let redirects = &mut self.skeleton.network.redirects;
        let Some((pid, redirect)) = wanted else {
            return;
        };
        self.by_name.insert(id.clone(), pid);
        if redirects.get(&pid) != Some(&redirect) {
            redirects.insert(pid, redirect.clone());
            steps.redirect(pid, Some(redirect));
        }
    }

    /// The names of these addresses of a workload changed.
    fn follow_direct(&mut self, id: &WorkloadId, changed: Vec<IpAddr>, steps: &mut Steps) {
        let (Some(pid), Some(tracked)) = (self.by_name.get(id), self.workloads.get(id)) else {
            return;
        };
        let Some(redirect) = self.skeleton.network.redirects.get_mut(pid) else {
            return;
        };
        let known = self.names.get(id).map(|names| &names.addresses);
        let (mut come, mut gone) = (Vec::new(), Vec::new());
        for address in changed {
            let named = known.and_then(|known| known.get(&address));
            if named.is_some_and(|named| is_direct(&tracked.placement, address, named)) {
                if redirect.direct.insert(address) {
                    come.push(address);
                }
            } else if redirect.direct.remove(&address) {
                gone.push(address);
            }
        }
        if !come.is_empty() || !gone.is_empty() {
            steps.direct(*pid, come, gone);
        }
    }

    /// None where no policy asks for names.
    fn redirect(&self, tracked: &Tracked) -> Option<Redirect> {
        let placement = &tracked.placement;
        let sets: Vec<&PolicySet> = [false, true]
            .into_iter()
            .filter_map(|v6| asking(placement, v6))
            .collect();
        if sets.is_empty() || tracked.workload.pid == 0 {
            return None;
        }
        let networks = self.networks.values().flat_map(|network| &network.subnets);
        let own = self.environment.addresses.keys();
        let own = own.map(|address| IpNet::from(*address));
        let local = self.environment.local_ranges().into_iter();
        let names = self.names.get(&tracked.workload.id);
        let known = names.into_iter().flat_map(|names| &names.addresses);
        let direct = known.filter(|(address, named)| is_direct(placement, **address, named));
        Some(Redirect {
            ports: sets.iter().flat_map(|set| set.gateway_ports()).collect(),
            local: local.chain(networks.copied()).chain(own).collect(),
            direct: direct.map(|(address, _)| *address).collect(),
        })
    }

    /// A workload is there with this process, or one that is not known: what an earlier run was told
    /// is forgotten. The time of a start is no sign of another run: runtime and engine tell different
    /// ones of the same.
    pub(super) fn keep_names(&mut self, id: &WorkloadId, pid: u32) {
        let Some(names) = self.names.get_mut(id).filter(|_| pid != 0) else {
            return;
        };
        if names.pid != 0 && names.pid != pid {
            self.names.remove(id);
        } else {
            names.pid = pid;
        }
    }

    fn tell(
        &mut self,
        id: &WorkloadId,
        name: &str,
        addresses: &[IpAddr],
        steps: &mut Steps,
        changed: &mut Vec<IpAddr>,
    ) -> Vec<Told> {
        let Some(tracked) = self.workloads.get(id) else {
            let as_is = |real: &IpAddr| Told {
                real: *real,
                answer: Some(*real),
                new: false,
            };
            return addresses.iter().map(as_is).collect();
        };
        let names = self
            .names
            .entry(id.clone())
            .or_insert_with(|| Names::of(tracked.workload.pid));
        let placement = &tracked.placement;
        let asks = [false, true].map(|v6| asking(placement, v6).is_some());
        let most = if asks.contains(&true) {
            REMEMBERED
        } else {
            OVERHEARD
        };
        let name: Arc<str> = name.into();
        let mut told = Vec::new();
        for real in addresses {
            let answer = names.answer(&name, *real, asking(placement, real.is_ipv6()));
            let changed = &mut |address, before: Option<&Named>, now: Option<&Named>| {
                changed.push(address);
                steps.remove_elements(
                    before
                        .into_iter()
                        .flat_map(|named| elements(placement, address, named)),
                );
                steps.add_elements(
                    now.into_iter()
                        .flat_map(|named| elements(placement, address, named)),
                );
            };
            let new = |answer| names.note(&name, *real, answer, most, changed);
            let new = answer.is_some_and(new);
            told.push(Told {
                real: *real,
                answer,
                new,
            });
        }
        told
    }
}

/// Whether the kernel decides alone about an address that a workload was told.
fn is_direct(placement: &Placement, address: IpAddr, named: &Named) -> bool {
    asking(placement, address.is_ipv6()).is_none_or(|set| !set.by_gateway(&named.meant(set)))
}

/// The policy set of a family, if it asks for names.
fn asking(placement: &Placement, v6: bool) -> Option<&PolicySet> {
    match placement.of_family(v6) {
        Treatment::Set(set) if set.asks_names() => Some(set),
        _ => None,
    }
}

/// What the kernel holds for one address that a workload was told.
fn elements(placement: &Placement, address: IpAddr, named: &Named) -> Vec<Element> {
    let v6 = address.is_ipv6();
    let own = placement
        .endpoints
        .iter()
        .flat_map(|endpoint| &endpoint.addresses);
    let own = own.filter(|own| own.is_ipv6() == v6);
    let set = asking(placement, v6);
    let mut elements = Vec::new();
    for own in own {
        if let Some(set) = set {
            elements.extend(set.told(*own, address, &named.meant(set)));
        }
        if named.real != address {
            let key = Key::new().ip(*own).ip(address);
            let to = Data::Value(Key::from(named.real));
            elements.push((Family::Inet, named!("stand-ins", address), key, to));
        }
    }
    elements
}

#[cfg(test)]
mod tests;
