//! The plan of one host, kept up to date: each change of a fact yields the steps it needs, and
//! costs what changed.
//!
//! The whole of [`Planner::desired`] is what a fresh planner with the same facts would want; the
//! steps of each change lead there from what was wanted before. Both are tested as properties.

mod adopt;
pub mod audit;
mod bypass;
mod claims;
mod clients;
mod drains;
mod ended;
mod facts;
mod former;
mod lately;
mod lingering;
mod meanwhile;
mod names;
mod own;
mod place;
mod waiting;

pub use meanwhile::Meanwhile;
pub use names::{Known, Told};

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sortie_api::label::LabelErrors;
use sortie_api::policy::{EgressPolicy, PolicyName};
use sortie_api::workload::{CgroupId, IfIndex, Network, Workload, WorkloadId};

use claims::Claims;

use crate::compile::policy_set::{Leads, PolicySet};
use crate::compile::shared::{self, Topology};
use crate::compile::treatment::Treated;
use crate::compile::workload::Placement;
use crate::counted::Counted;
use crate::environment::Environment;
use crate::interned::Interned;
use crate::nft::{Family, Name};
use crate::op::Op;
use crate::state::{HostState, Observed};
use crate::steps::Steps;
use bypass::Bypass;
use drains::{Drain, Former};
use ended::Ended;
use lately::Lately;
use names::Names;

/// All facts about one host, and what follows from them.
#[derive(Debug, Clone, Default)]
pub struct Planner {
    environment: Environment,
    policies: BTreeMap<PolicyName, Arc<EgressPolicy>>,
    /// Those that only audit: nothing that the kernel holds follows from them.
    audits: BTreeMap<PolicyName, Arc<EgressPolicy>>,
    networks: BTreeMap<String, Network>,
    /// What their labels say, by the same names.
    network_labels: BTreeMap<String, Labelled>,
    /// Boxed: a tree's node is half empty.
    workloads: BTreeMap<WorkloadId, Box<Tracked>>,
    /// Those that have their address themselves.
    processes: BTreeSet<WorkloadId>,
    claims: Claims,
    /// Egress addresses that containers shall have themselves: the first has it.
    owners: Claims,
    /// The same by container.
    own_claims: BTreeMap<WorkloadId, Vec<IpAddr>>,
    /// Those in the host's network namespace.
    cgroups: BTreeMap<CgroupId, WorkloadId>,
    /// Cgroups of those that were.
    ended: BTreeMap<CgroupId, Ended>,
    /// Bridges that workloads are on, known networks or not.
    bridges: Counted<IfIndex>,
    /// Egress addresses that policies name.
    egress: Counted<IpAddr>,
    /// Those that policies named until now, each with how long the gateway may have it still.
    lingering: BTreeMap<IpAddr, Duration>,
    /// The uplink of each, as last compiled.
    uplinks: BTreeMap<IpAddr, Option<IfIndex>>,
    /// The uplinks that any of them has, each with whether it is for IPv6.
    used_uplinks: Counted<(IfIndex, bool)>,
    treatments: Interned<Treated>,
    sets: BTreeMap<Name, (Arc<PolicySet>, usize)>,
    /// Egress addresses that policy sets lead to.
    leaves_as: Counted<Leads>,
    drains: BTreeMap<Former, Drain>,
    lately: Lately,
    /// What workloads were told of names.
    names: BTreeMap<WorkloadId, Names>,
    /// Those whose policies ask for names, by the process whose namespace leads to the gateway.
    by_name: BTreeMap<WorkloadId, u32>,
    /// Let by for a while.
    bypasses: BTreeMap<WorkloadId, Bypass>,
    /// What [`Planner::at`] was told last.
    now: Duration,
    topology: Topology,
    skeleton: HostState,
}

/// A workload with what follows for it.
#[derive(Debug, Clone)]
pub struct Tracked {
    /// As its source reports it.
    pub workload: Workload,
    /// What its own labels say.
    pub label: Result<Option<Arc<EgressPolicy>>, LabelErrors>,
    /// The uplink that `run` or `attach` asked for.
    pub via: Option<IfIndex>,
    /// Every policy that selects it.
    pub policies: Box<[Arc<EgressPolicy>]>,
    /// What the kernel holds for it.
    pub placement: Placement,
}

/// What a network's labels say.
#[derive(Debug, Clone, Default)]
struct Labelled {
    guard: Option<bool>,
    policy: Option<Arc<EgressPolicy>>,
    error: Option<LabelErrors>,
}

impl Planner {
    /// A plan for a host without workloads and policies.
    pub fn new(environment: Environment) -> Self {
        let mut planner = Self {
            environment,
            ..Self::default()
        };
        planner.topology = planner.topology_now();
        planner.skeleton = shared::skeleton(&planner.environment, &planner.topology);
        planner
    }

    /// The host.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Policies from files that are enforced, by name.
    pub fn policies(&self) -> &BTreeMap<PolicyName, Arc<EgressPolicy>> {
        &self.policies
    }

    /// Policies from files that only audit, by name.
    pub fn audits(&self) -> &BTreeMap<PolicyName, Arc<EgressPolicy>> {
        &self.audits
    }

    /// Workloads, by id.
    pub fn workloads(&self) -> &BTreeMap<WorkloadId, Box<Tracked>> {
        &self.workloads
    }

    /// What is wrong with the labels of networks.
    pub fn network_errors(&self) -> impl Iterator<Item = &LabelErrors> {
        self.network_labels
            .values()
            .filter_map(|labels| labels.error.as_ref())
    }

    /// The policies of networks' labels.
    pub fn network_policies(&self) -> impl Iterator<Item = &Arc<EgressPolicy>> {
        self.network_labels
            .values()
            .filter_map(|labels| labels.policy.as_ref())
    }

    /// Every egress address that any policy names.
    pub fn egress_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let named = |address: &IpAddr| !self.only_lingers(address);
        self.egress.members().copied().filter(named)
    }

    /// Every egress address that the gateway may leave with: also those that policies named until now,
    /// for what is on its way.
    pub fn gateway_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.egress.members().copied()
    }

    /// What must be there outside nftables.
    pub fn desired_network(&self) -> &crate::state::Network {
        &self.skeleton.network
    }

    /// The interfaces that packets leave through.
    pub fn uplinks(&self) -> &BTreeSet<IfIndex> {
        &self.topology.uplinks
    }

    /// The container network that an address is in.
    pub fn inside_network(&self, address: IpAddr) -> Option<&str> {
        let mut networks = self.networks.values();
        let network = networks.find(|network| {
            network
                .subnets
                .iter()
                .any(|subnet| subnet.contains(&address))
        });
        network.map(|network| network.name.as_str())
    }

    /// The network with this bridge.
    pub fn network_on(&self, bridge: IfIndex) -> Option<&Network> {
        let mut networks = self.networks.values();
        networks.find(|network| network.bridge == Some(bridge))
    }

    /// Who has this address on an interface of its own.
    pub fn holder(&self, address: IpAddr) -> Option<&Tracked> {
        let holder = self.claims.holder(address);
        let holder = holder.and_then(|holder| self.workloads.get(holder).map(AsRef::as_ref));
        holder.or_else(|| self.owner(address))
    }

    /// Whose sockets are made in this cgroup.
    pub fn in_cgroup(&self, id: CgroupId) -> Option<&Tracked> {
        self.workloads
            .get(self.cgroups.get(&id)?)
            .map(AsRef::as_ref)
    }

    /// Who sends through this port of the host.
    pub fn on_port(&self, port: IfIndex) -> Option<&Tracked> {
        let mut all = self.workloads.values().map(AsRef::as_ref);
        all.find(|t: &&Tracked| {
            t.workload
                .endpoints
                .iter()
                .any(|endpoint| endpoint.port == port)
        })
    }

    /// Makes one change of facts other than the host's own, and yields its steps.
    fn step(&mut self, change: impl FnOnce(&mut Self, &mut Steps)) -> Vec<Op> {
        self.step_into(Steps::default(), change)
    }

    fn step_into(
        &mut self,
        mut steps: Steps,
        change: impl FnOnce(&mut Self, &mut Steps),
    ) -> Vec<Op> {
        // The environment is large on a host with many addresses: it is not compared here.
        let compiled_from = self.topology.clone();
        change(self, &mut steps);
        self.settle(&mut steps);
        self.follow_bypasses(&mut steps);
        self.topology = self.topology_now();
        if compiled_from == self.topology {
            return self.ordered(steps);
        }
        self.recompiled(steps)
    }

    /// What hangs together across workloads, after any change.
    fn settle(&mut self, steps: &mut Steps) {
        self.drop_foreign_drains(steps);
        // Marks are numbered: another uplink that needs one may change everybody's.
        let steering = self.steering_now();
        if steering != self.topology.steering {
            self.topology.steering = steering;
            self.place_all(self.workloads.keys().cloned().collect(), steps);
        }
        self.steer_drains(steps);
    }

    /// The steps of a change, and those of what is compiled from environment and topology.
    fn recompiled(&mut self, mut steps: Steps) -> Vec<Op> {
        let mut skeleton = shared::skeleton(&self.environment, &self.topology);
        skeleton
            .network
            .redirects
            .clone_from(&self.skeleton.network.redirects);
        let before = Observed::from(std::mem::replace(&mut self.skeleton, skeleton));
        let tag = |family: &Family| self.skeleton.tables.get(family).map(|table| &table.tag);
        let (same, other): (BTreeMap<_, _>, BTreeMap<_, _>) = before
            .tables
            .into_iter()
            .partition(|(family, table)| tag(family) == Some(&table.tag));
        if !other.is_empty() {
            // Other base chains: such a table is made anew with all its elements, in one transaction.
            let mut desired = self.desired().tables;
            desired.retain(|family, _| other.contains_key(family));
            steps.rebuild(&other, desired);
        }
        let mut skeleton = self.skeleton.tables.clone();
        skeleton.retain(|family, _| same.contains_key(family));
        steps.tables(&same, skeleton);
        steps.network(&before.network, &self.skeleton.network);
        self.ordered(steps)
    }
}

#[cfg(test)]
mod tests;
