//! The changes of facts that a plan follows: one method each.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use sortie_api::label::{from_container_labels, from_network_labels};
use sortie_api::policy::{Action, EgressPolicy, Enforcement};
use sortie_api::workload::{IfIndex, Network, Workload, WorkloadId, WorkloadKind};

use super::{Labelled, Planner, Tracked};
use crate::compile::shared;
use crate::compile::treatment::Treated;
use crate::compile::workload::Placement;
use crate::environment::Environment;
use crate::op::Op;
use crate::steps::Steps;

impl Planner {
    /// A workload started or changed. `via` is the uplink that `run` or `attach` asked for.
    pub fn workload(&mut self, workload: Workload, via: Option<IfIndex>) -> Vec<Op> {
        if self
            .workloads
            .get(&workload.id)
            .is_some_and(|known| known.workload == workload && known.via == via)
        {
            return Vec::new();
        }
        self.step(|planner, steps| {
            let mut affected = Vec::new();
            planner.forget(&workload.id, steps, &mut affected);
            planner.remember(workload, via, steps, &mut affected);
            planner.place_all(affected, steps);
        })
    }

    /// What an engine has told of all its containers: those that are there, and of those that were
    /// known, those that are gone. One step, however many they are.
    pub fn containers(&mut self, there: Vec<Workload>, gone: &[WorkloadId]) -> Vec<Op> {
        self.step(|planner, steps| planner.take_in(there, gone, steps))
    }

    /// The same before anything was compared with the kernel: [`Planner::adopt`] yields the steps.
    pub fn learn(&mut self, there: Vec<Workload>, gone: &[WorkloadId]) {
        self.step_into(Steps::unwanted(), |planner, steps| {
            planner.take_in(there, gone, steps);
        });
    }

    fn take_in(&mut self, there: Vec<Workload>, gone: &[WorkloadId], steps: &mut Steps) {
        let mut affected = Vec::with_capacity(there.len());
        for id in gone {
            self.forget(id, steps, &mut affected);
            self.names.remove(id);
            self.follow_redirect(id, steps);
        }
        for workload in there {
            if let Some(known) = self.workloads.get(&workload.id) {
                if known.workload == workload {
                    continue;
                }
                self.forget(&workload.id, steps, &mut affected);
            }
            self.remember(workload, None, steps, &mut affected);
        }
        self.place_all(affected, steps);
    }

    /// A workload ended.
    pub fn workload_gone(&mut self, id: &WorkloadId) -> Vec<Op> {
        if !self.workloads.contains_key(id) {
            return Vec::new();
        }
        self.step(|planner, steps| {
            let mut affected = Vec::new();
            planner.forget(id, steps, &mut affected);
            planner.names.remove(id);
            planner.follow_redirect(id, steps);
            planner.place_all(affected, steps);
        })
    }

    /// The networks of all engines, complete.
    pub fn networks(&mut self, networks: Vec<Network>) -> Vec<Op> {
        let networks: BTreeMap<String, Network> =
            networks.into_iter().map(|n| (n.name.clone(), n)).collect();
        if networks == self.networks {
            return Vec::new();
        }
        self.step(|planner, steps| {
            let labels = networks
                .values()
                .map(|network| (network.name.clone(), Labelled::of(network)))
                .collect();
            planner.networks = networks;
            let before = std::mem::replace(&mut planner.network_labels, labels);
            let policies = |labels: &BTreeMap<String, Labelled>| -> Vec<Arc<EgressPolicy>> {
                labels
                    .values()
                    .filter_map(|labels| labels.policy.clone())
                    .collect()
            };
            for policy in policies(&planner.network_labels) {
                planner.hold_egress(&policy, steps);
            }
            for policy in policies(&before) {
                planner.release_egress(&policy, steps);
            }
            planner.replace_all(steps);
        })
    }

    /// The host's addresses, routes, interfaces or configuration changed.
    pub fn environment_changed(&mut self, environment: Environment) -> Vec<Op> {
        if environment == self.environment {
            return Vec::new();
        }
        let before = &self.environment;
        let interfaces_only = environment.addresses == before.addresses
            && environment.default_routes == before.default_routes
            && environment.other_default_routes == before.other_default_routes
            && environment.config == before.config;
        let mut steps = Steps::default();
        self.environment = environment;
        if !interfaces_only {
            self.replace_all(&mut steps);
            self.settle(&mut steps);
        }
        self.topology = self.topology_now();
        self.recompiled(steps)
    }

    /// The policies of all files, complete. Only workloads that a changed policy selects, or did
    /// select, are looked at.
    pub fn policies_changed(&mut self, policies: Vec<EgressPolicy>) -> Vec<Op> {
        let named = policies
            .into_iter()
            .map(|policy| (policy.name.clone(), Arc::new(policy)));
        let (new, audits): (BTreeMap<_, _>, BTreeMap<_, _>) =
            named.partition(|(_, policy)| policy.enforcement == Enforcement::Enforce);
        self.audits = audits;
        if new == self.policies {
            return Vec::new();
        }
        self.step(|planner, steps| {
            let old = std::mem::replace(&mut planner.policies, new);
            let gone: Vec<_> = old
                .values()
                .filter(|p| planner.policies.get(&p.name) != Some(p))
                .cloned()
                .collect();
            let came: Vec<_> = planner
                .policies
                .values()
                .filter(|p| old.get(&p.name) != Some(p))
                .cloned()
                .collect();
            for policy in &came {
                planner.hold_egress(policy, steps);
            }
            for policy in &gone {
                planner.linger(policy, steps);
                planner.release_egress(policy, steps);
            }
            if gone
                .iter()
                .chain(&came)
                .any(|policy| policy.workloads.iter().any(|s| !s.networks.is_empty()))
            {
                // A policy that names a network guards it for all that are on it.
                planner.replace_all(steps);
                return;
            }
            let affected = planner
                .workloads
                .values()
                .filter(|tracked| {
                    let mut selectors = gone
                        .iter()
                        .chain(&came)
                        .flat_map(|policy| &policy.workloads);
                    selectors.any(|selector| selector.matches(&tracked.workload, &planner.networks))
                })
                .map(|tracked| tracked.workload.id.clone())
                .collect();
            planner.place_all(affected, steps);
        })
    }

    /// Takes a workload out; affected are the others that now have one of its addresses.
    fn forget(&mut self, id: &WorkloadId, steps: &mut Steps, affected: &mut Vec<WorkloadId>) {
        steps.remove_elements(self.name_elements(id));
        let Some(tracked) = self.workloads.remove(id) else {
            return;
        };
        self.processes.remove(id);
        if let Some(cgroup) = tracked.workload.cgroup {
            self.cgroups.remove(&cgroup.id);
        }
        self.displace(&tracked.placement, steps);
        self.end_cgroup(&tracked, steps);
        affected.extend(self.release_own(id, tracked.workload.started));
        if let Ok(Some(policy)) = &tracked.label {
            self.release_egress(policy, steps);
        }
        for endpoint in &tracked.workload.endpoints {
            if let Some(bridge) = endpoint.bridge {
                self.bridges.release(&bridge);
            }
            for address in &endpoint.addresses {
                let claim = (tracked.workload.started, id.clone());
                self.claims.remove(*address, &claim);
                affected.extend(self.claims.holder(*address).cloned());
                affected.extend(self.owners.first(*address).cloned());
            }
        }
    }

    /// Puts a workload in, not placed yet; affected are all that must be placed.
    fn remember(
        &mut self,
        workload: Workload,
        via: Option<IfIndex>,
        steps: &mut Steps,
        affected: &mut Vec<WorkloadId>,
    ) {
        affected.push(workload.id.clone());
        self.keep_names(&workload.id, workload.pid);
        for endpoint in &workload.endpoints {
            if let Some(bridge) = endpoint.bridge {
                self.bridges.hold(bridge);
            }
            for address in &endpoint.addresses {
                let claim = (workload.started, workload.id.clone());
                affected.extend(self.claims.add(*address, claim));
                affected.extend(self.owners.first(*address).cloned());
            }
        }
        let label = from_container_labels(&workload.name, &workload.labels)
            .map(|policy| policy.map(Arc::new));
        if let Ok(Some(policy)) = &label {
            self.hold_egress(policy, steps);
        }
        if workload.kind == WorkloadKind::Process {
            self.processes.insert(workload.id.clone());
        }
        if let Some(cgroup) = workload.cgroup {
            self.cgroups.insert(cgroup.id, workload.id.clone());
            self.take_cgroup(cgroup.id, steps);
        }
        let unmanaged = self.treatments.share(Treated::default());
        let placement = Placement {
            v4: Arc::clone(&unmanaged),
            v6: unmanaged,
            endpoints: [].into(),
            cgroup: None,
        };
        let tracked = Tracked {
            workload,
            label,
            via,
            policies: [].into(),
            placement,
        };
        let id = tracked.workload.id.clone();
        self.workloads.insert(id, Box::new(tracked));
    }

    fn hold_egress(&mut self, policy: &EgressPolicy, steps: &mut Steps) {
        for address in egress_addresses(policy) {
            self.hold_address(address, steps);
        }
    }

    pub(super) fn hold_address(&mut self, address: IpAddr, steps: &mut Steps) {
        if self.egress.hold(address) {
            let uplink = self.uplink_of(address);
            self.uplinks.insert(address, uplink);
            uplink.map(|uplink| self.used_uplinks.hold((uplink, address.is_ipv6())));
            steps.add_elements(shared::address(address, uplink));
        }
    }

    fn release_egress(&mut self, policy: &EgressPolicy, steps: &mut Steps) {
        for address in egress_addresses(policy) {
            self.release_address(address, steps);
        }
    }

    pub(super) fn release_address(&mut self, address: IpAddr, steps: &mut Steps) {
        if self.egress.release(&address) {
            let uplink = self.uplinks.remove(&address).flatten();
            let v6 = address.is_ipv6();
            uplink.map(|uplink| self.used_uplinks.release(&(uplink, v6)));
            steps.remove_elements(shared::address(address, uplink));
        }
    }
}

impl Labelled {
    fn of(network: &Network) -> Self {
        match from_network_labels(&network.name, &network.labels) {
            Ok(labels) => Self {
                guard: labels.guard,
                policy: labels.policy.map(Arc::new),
                error: None,
            },
            // Whoever labelled it wanted something else than the host's address.
            Err(error) => Self {
                guard: Some(true),
                policy: None,
                error: Some(error),
            },
        }
    }
}

pub(super) fn egress_addresses(policy: &EgressPolicy) -> Vec<IpAddr> {
    match &policy.action {
        Action::Egress(egress) => egress.addresses().collect(),
        Action::Bypass | Action::Deny => Vec::new(),
    }
}
