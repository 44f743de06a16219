//! Addresses that containers on an engine's bridge have themselves (`mode: Direct`): who may have
//! one, and what is in the way.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use sortie_api::policy::{EgressPolicy, PolicyName};
use sortie_api::workload::{IfIndex, WorkloadId};

use super::{Planner, Tracked};
use crate::compile::shared::{Beside, Direct};
use crate::compile::treatment::{Treated, Treatment};
use crate::compile::workload::of_family;
use crate::explain::Unusable;
use crate::precedence::Candidate;
use crate::resolve::{Addresses, Refusal};

/// Why a container cannot have its address itself.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Hindrance {
    /// It is in the host's network namespace.
    HostNetwork,
    /// Replies from a published UDP port would leave with that address instead of the host's.
    Published(u16),
    /// Another policy decides for some destinations, and a default route has one source.
    Mixed(PolicyName),
    /// The host has it.
    OnHost(IfIndex),
    /// Another workload has it.
    Held(WorkloadId),
}

impl Planner {
    /// The container that has this address itself, beside those of its engine's bridge.
    pub fn owner(&self, address: IpAddr) -> Option<&Tracked> {
        let owner = self.workloads.get(self.owners.first(address)?)?;
        let treatment = owner.placement.of_family(address.is_ipv6());
        let has = matches!(treatment, Treatment::Own { address: own, .. } if *own == address);
        has.then_some(owner)
    }

    /// Whether any policy gives the address to a container as its own.
    pub fn is_given_direct(&self, address: IpAddr) -> bool {
        let labels = self.workloads.values();
        let labels = labels.filter_map(|tracked| tracked.label.as_ref().ok()?.as_ref());
        let mut policies = self.policies.values().chain(labels);
        policies.any(|policy| policy.direct(address.is_ipv6()) == Some(address))
    }

    /// Why a workload that shall have its address of a family itself cannot; none where it has it,
    /// or has no packets of the family.
    pub fn not_direct(&self, tracked: &Tracked, v6: bool) -> Option<Unusable> {
        if *tracked.placement.of_family(v6) != Treatment::Blocked(Refusal::NotDirect) {
            return None;
        }
        let candidates = Candidate::ordered(tracked.policies.iter().map(AsRef::as_ref));
        let (address, policy) = given(&candidates, v6)?;
        let hindrance = self.hindrance(tracked, &candidates, address)?;
        Some(self.told(address, policy, hindrance))
    }

    /// What becomes of one family's packets of a container.
    pub(super) fn own_or(
        &self,
        tracked: &Tracked,
        candidates: &[Candidate<'_>],
        v6: bool,
        otherwise: Treated,
    ) -> Treated {
        let Some((address, _)) = given(candidates, v6) else {
            return otherwise;
        };
        let treatment = match self.hindrance(tracked, candidates, address) {
            Some(_) => Treatment::Blocked(Refusal::NotDirect),
            None => Treatment::Own {
                address,
                uplink: self.uplink(address),
                mark: self.mark(address),
            },
        };
        Treated {
            treatment,
            drain: None,
        }
    }

    /// In this order: what would be so whoever else is there, the host's own, what others have.
    fn hindrance(
        &self,
        tracked: &Tracked,
        candidates: &[Candidate<'_>],
        address: IpAddr,
    ) -> Option<Hindrance> {
        if let Some(hindrance) = lasting(tracked, candidates, address.is_ipv6()) {
            return Some(hindrance);
        }
        if let Some(device) = self.environment.addresses.get(&address) {
            return Some(Hindrance::OnHost(*device));
        }
        let other = self.claims.holder(address);
        let other = other.or_else(|| self.owners.first(address));
        let other = other.filter(|other| **other != tracked.workload.id);
        other.cloned().map(Hindrance::Held)
    }

    fn told(&self, address: IpAddr, policy: &EgressPolicy, hindrance: Hindrance) -> Unusable {
        let name = &policy.name.0;
        let (reason, fix) = match hindrance {
            Hindrance::Published(port) => (
                format!(
                    "it publishes its UDP port {port}, whose replies would leave with {address}: {name} cannot give it this address directly"
                ),
                "publish no UDP port, or write `mode: Translate` and put the address on the host"
                    .to_owned(),
            ),
            Hindrance::HostNetwork => (
                format!(
                    "it is on the host's network and has no interface of its own: {name} cannot give it {address} directly"
                ),
                "write `mode: Translate`, and put the address on the host".to_owned(),
            ),
            Hindrance::Mixed(other) => (
                format!(
                    "{name} gives it {address} directly, for every destination, but {} decides for some",
                    other.0
                ),
                format!("write `mode: Translate` in {name}, and put the address on the host"),
            ),
            Hindrance::OnHost(device) => {
                let device = self.environment.name_of(device);
                let bits = if address.is_ipv6() { 128 } else { 32 };
                (
                    format!(
                        "{address} is on this host itself ({device}), but it must have it alone"
                    ),
                    format!("ip addr del {address}/{bits} dev {device}"),
                )
            }
            Hindrance::Held(other) => {
                let other = self.workloads.get(&other);
                let other = other.map_or("another", |other| &other.workload.name);
                (
                    format!("{address} is {other}'s own already"),
                    "give each container an address of its own".to_owned(),
                )
            }
        };
        Unusable { reason, fix }
    }

    /// Notes which addresses a workload would have itself; yields the others that this concerns.
    pub(super) fn claim_own(
        &mut self,
        id: &WorkloadId,
        started: i64,
        wanted: Vec<IpAddr>,
    ) -> BTreeSet<WorkloadId> {
        if self.own_claims.get(id).map_or(&[][..], Vec::as_slice) == wanted {
            return BTreeSet::new();
        }
        let mut concerned = self.release_own(id, started);
        for address in &wanted {
            concerned.extend(self.owners.first(*address).cloned());
            self.owners.add(*address, (started, id.clone()));
        }
        if !wanted.is_empty() {
            self.own_claims.insert(id.clone(), wanted);
        }
        concerned.remove(id);
        concerned
    }

    /// Takes that back; yields those who have the addresses now.
    pub(super) fn release_own(&mut self, id: &WorkloadId, started: i64) -> BTreeSet<WorkloadId> {
        let mut concerned = BTreeSet::new();
        for address in self.own_claims.remove(id).unwrap_or_default() {
            self.owners.remove(address, &(started, id.clone()));
            concerned.extend(self.owners.first(address).cloned());
        }
        concerned
    }

    /// The addresses that containers have themselves, with their way there.
    pub(super) fn own_direct(&self) -> impl Iterator<Item = Direct> {
        self.owners.addresses().filter_map(|address| {
            let owner = self.owner(address)?;
            let endpoint = owner.placement.own_endpoint(address.is_ipv6())?;
            Some(Direct {
                address,
                port: endpoint.bridge.unwrap_or(endpoint.port),
                uplink: self.uplink_of(address),
                beside: Some(Beside {
                    address: of_family(endpoint, address.is_ipv6())?,
                    pid: owner.workload.pid,
                    mac: endpoint.mac,
                }),
            })
        })
    }
}

/// Whether any of these policies gives workloads an address as their own.
pub(super) fn gives_own(policies: &[Arc<EgressPolicy>]) -> bool {
    let gives = |policy: &EgressPolicy| [false, true].map(|v6| policy.direct(v6)) != [None, None];
    policies.iter().any(|policy| gives(policy))
}

/// The addresses that these policies would give a workload as its own.
pub(super) fn wanted(tracked: &Tracked, policies: &[Arc<EgressPolicy>]) -> Vec<IpAddr> {
    if !gives_own(policies) {
        return Vec::new();
    }
    let candidates = Candidate::ordered(policies.iter().map(AsRef::as_ref));
    let families = [false, true].into_iter();
    let free = families.filter(|v6| lasting(tracked, &candidates, *v6).is_none());
    free.filter_map(|v6| Some(given(&candidates, v6)?.0))
        .collect()
}

/// The address of a family that a policy gives as the workload's own, where that policy has a say.
fn given<'p>(candidates: &[Candidate<'p>], v6: bool) -> Option<(IpAddr, &'p EgressPolicy)> {
    // It covers everything, and what comes behind such a one is never asked.
    let mut whole = candidates.iter().filter(|c| c.covers_all());
    let policy = whole.next()?.policy;
    Some((policy.direct(v6)?, policy))
}

fn lasting(tracked: &Tracked, candidates: &[Candidate<'_>], v6: bool) -> Option<Hindrance> {
    let (_, policy) = given(candidates, v6)?;
    let workload = &tracked.workload;
    if workload.cgroup.is_some() {
        return Some(Hindrance::HostNetwork);
    }
    if let Some(port) = workload.published_udp.first() {
        return Some(Hindrance::Published(*port));
    }
    let first = candidates.first()?;
    (first.policy.name != policy.name).then(|| Hindrance::Mixed(first.policy.name.clone()))
}
