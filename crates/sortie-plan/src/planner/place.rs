//! From facts to what the kernel holds: which policies select a workload, what they mean for it,
//! which elements change.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use sortie_api::config::Guard;
use sortie_api::policy::{
    Action, EgressPolicy, Enforcement, OnChange, OnUnavailable, Owner, PolicyName, Unlearned,
};
use sortie_api::workload::{self, IfIndex, Network, Workload, WorkloadId, WorkloadKind};

use super::own::{gives_own, wanted};
use super::{Planner, Tracked};
use crate::compile::policy_set::{PolicySet, leaves_as};
use crate::compile::shared::{self, Direct, Topology};
use crate::compile::steering::Steering;
use crate::compile::treatment::{Treated, Treatment, treatment};
use crate::compile::workload::{Endpoint, Placement};
use crate::mark::Mark;
use crate::nft::Family;
use crate::precedence::Candidate;
use crate::resolve::{Addresses, Refusal};
use crate::steps::Steps;

/// What lists of policies mean, by where these are in memory: thousands of workloads may have one
/// list, and a long one takes a while to compile.
type Meant = HashMap<Box<[*const EgressPolicy]>, [Treated; 2]>;

impl Planner {
    /// Places these workloads anew; those that are gone are passed over. Who has which address itself
    /// is settled before anybody is placed: nobody is placed twice.
    pub(super) fn place_all(&mut self, mut ids: Vec<WorkloadId>, steps: &mut Steps) {
        ids.sort_unstable();
        ids.dedup();
        let mut concerned = BTreeSet::new();
        for id in &ids {
            let Some(tracked) = self.workloads.get(id) else {
                continue;
            };
            let policies = self.policies_of(tracked);
            let own = wanted(tracked, &policies);
            concerned.extend(self.claim_own(id, tracked.workload.started, own));
            if let Some(tracked) = self.workloads.get_mut(id) {
                tracked.policies = policies;
            }
        }
        concerned.retain(|id| ids.binary_search(id).is_err());
        let mut meant = Meant::new();
        for id in ids.into_iter().chain(concerned) {
            let Some(tracked) = self.workloads.get(&id) else {
                continue;
            };
            let treated = self.treated(tracked, &mut meant);
            let endpoints = self.endpoints_of(&tracked.workload);
            let cgroup = tracked.workload.cgroup;
            let [v4, v6] = treated.map(|treated| self.treatments.share(treated));
            let placement = Placement {
                v4,
                v6,
                endpoints,
                cgroup,
            };
            self.hold_sets(&placement, steps);
            steps.remove_elements(self.name_elements(&id));
            if let Some(tracked) = self.workloads.get_mut(&id) {
                steps.replace(&tracked.placement, &placement);
                let before = std::mem::replace(&mut tracked.placement, placement.clone());
                self.lately.note(&id, [&before, &placement], self.now);
                self.release_sets(&before, steps);
                self.drain(&before, &placement, steps);
            }
            steps.add_elements(self.name_elements(&id));
            self.follow_redirect(&id, steps);
        }
    }

    /// Every fact that all workloads depend on may have changed.
    pub(super) fn replace_all(&mut self, steps: &mut Steps) {
        // Uplinks may depend on which interfaces lead inside, and those on direct workloads.
        self.topology.bridges = self.bridges_now();
        self.topology.veths = self.veths_now();
        for address in self.egress.members().copied().collect::<Vec<_>>() {
            let uplink = self.uplink_of(address);
            let before = self.uplinks.insert(address, uplink).flatten();
            if before != uplink {
                let v6 = address.is_ipv6();
                uplink.map(|uplink| self.used_uplinks.hold((uplink, v6)));
                before.map(|before| self.used_uplinks.release(&(before, v6)));
                steps.remove_elements(shared::address(address, before));
                steps.add_elements(shared::address(address, uplink));
            }
        }
        self.topology.steering = self.steering_now();
        self.place_all(self.workloads.keys().cloned().collect(), steps);
    }

    /// The uplinks of egress addresses that the host's routes do not lead to. A host without any
    /// default route leads nowhere, and takes a mark as soon as a next hop is known.
    pub(super) fn steering_now(&self) -> Steering {
        let environment = &self.environment;
        let uplinks = self.used_uplinks.members();
        let steered = uplinks
            .filter(|(uplink, v6)| match environment.default_route(*v6) {
                Some(_) => !environment.is_default_uplink(*uplink, *v6),
                None => environment.next_hop(*uplink, *v6).is_some(),
            })
            .copied();
        Steering::new(environment.config.mark_mask, steered)
    }

    /// What is structural follows from facts: bridges, uplinks, guarded networks.
    pub(super) fn topology_now(&self) -> Topology {
        let mut topology = Topology {
            bridges: self.bridges_now(),
            veths: self.veths_now(),
            direct: self.direct(),
            steering: self.steering_now(),
            by_gateway: !self.by_name.is_empty() || self.serves_clients(),
            ..Topology::default()
        };
        let cgroups = self.cgroups.values();
        let cgroups = cgroups.filter_map(|id| self.workloads.get(id));
        let managed = cgroups.filter(|tracked| tracked.placement.is_managed());
        topology.cgroup_levels = managed
            .filter_map(|tracked| Some(tracked.placement.cgroup?.level))
            .chain(self.ended_levels())
            .collect();
        for network in self.networks.values() {
            if self.is_guarded(Some(network)) {
                let now = network
                    .bridge
                    .and_then(|it| self.environment.interfaces.get(&it));
                topology.guarded.extend(network.bridge_name.clone());
                topology
                    .guarded
                    .extend(now.map(|interface| interface.name.clone()));
            } else if self.environment.config.guard == Guard::All {
                topology.exempt.extend(network.bridge);
            }
        }
        let environment = &self.environment;
        let routes = environment.default_routes.iter().map(|route| route.device);
        let configured = environment.config.uplinks.iter();
        let configured =
            configured.filter_map(|uplink| environment.interface_named(&uplink.interface));
        let direct = topology.direct.iter().filter_map(|direct| direct.uplink);
        let all = routes
            .chain(configured)
            .chain(self.used_uplinks.members().map(|(uplink, _)| *uplink))
            .chain(direct);
        let outside = |index: &IfIndex| {
            !topology.is_inside(*index) && environment.interfaces.contains_key(index)
        };
        topology.uplinks = all.filter(outside).collect();
        topology
    }

    /// Step by step:
    /// 1. Its own label's policy; a label that is wrong means that nothing leaves.
    /// 2. The policies of the networks it is on.
    /// 3. The policies of files that select it.
    fn policies_of(&self, tracked: &Tracked) -> Box<[Arc<EgressPolicy>]> {
        let workload = &tracked.workload;
        let mut policies: Vec<Arc<EgressPolicy>> = match &tracked.label {
            Ok(policy) => policy.iter().cloned().collect(),
            Err(_) => vec![Arc::new(wrong_label(workload))],
        };
        let on: BTreeSet<&str> = workload
            .endpoints
            .iter()
            .map(|endpoint| endpoint.network.as_str())
            .collect();
        policies.extend(
            on.iter()
                .filter_map(|name| self.network_labels.get(*name)?.policy.clone()),
        );
        let files = self.policies.values();
        let selected = files.filter(|policy| {
            policy
                .workloads
                .iter()
                .any(|s| s.matches(workload, &self.networks))
        });
        policies.extend(selected.cloned());
        policies.into()
    }

    /// What becomes of its packets, of each family.
    fn treated(&self, tracked: &Tracked, meant: &mut Meant) -> [Treated; 2] {
        let families = [false, true];
        if tracked.workload.kind == WorkloadKind::Process {
            return families.map(|v6| Treated {
                treatment: Treatment::Direct {
                    uplink: self.direct_uplink(tracked, v6),
                },
                drain: None,
            });
        }
        let policies = &tracked.policies;
        let ordered = || Candidate::ordered(policies.iter().map(AsRef::as_ref));
        if gives_own(policies) {
            let candidates = ordered();
            return families.map(|v6| {
                let treated = treatment(&candidates, v6, self);
                self.own_or(tracked, &candidates, v6, treated)
            });
        }
        let meaning = || {
            let candidates = ordered();
            families.map(|v6| treatment(&candidates, v6, self))
        };
        // A label's policy is this workload's alone.
        let treated = if policies.iter().any(|it| it.owner == Owner::Workload) {
            meaning()
        } else {
            let list = policies.iter().map(Arc::as_ptr).collect();
            meant.entry(list).or_insert_with(meaning).clone()
        };
        treated.map(|treated| without_names(&tracked.workload, treated))
    }

    fn endpoints_of(&self, workload: &Workload) -> Box<[Endpoint]> {
        let endpoints = workload.endpoints.iter();
        endpoints.map(|it| self.held(workload, it)).collect()
    }

    /// An endpoint without addresses that a later workload has.
    fn held(&self, workload: &Workload, endpoint: &workload::Endpoint) -> Endpoint {
        let network = self.networks.get(&endpoint.network);
        let holds = |address: &IpAddr| self.claims.holder(*address) == Some(&workload.id);
        let mut addresses = Vec::with_capacity(endpoint.addresses.len());
        addresses.extend(endpoint.addresses.iter().copied().filter(holds));
        Endpoint {
            port: endpoint.port,
            bridge: endpoint.bridge,
            mac: endpoint.mac,
            default_route: endpoint.default_route,
            guarded: endpoint.bridge.is_some() && self.is_guarded(network),
            addresses: addresses.into(),
        }
    }

    fn direct_uplink(&self, tracked: &Tracked, v6: bool) -> Option<IfIndex> {
        tracked
            .via
            .or_else(|| self.environment.default_route(v6).map(|route| route.device))
    }

    fn direct(&self) -> Vec<Direct> {
        let mut direct = Vec::new();
        for tracked in self.process_workloads() {
            for endpoint in &tracked.placement.endpoints {
                for address in &endpoint.addresses {
                    let uplink = self.direct_uplink(tracked, address.is_ipv6());
                    direct.push(Direct {
                        address: *address,
                        port: endpoint.port,
                        uplink,
                        beside: None,
                    });
                }
            }
        }
        direct.extend(self.own_direct());
        direct
    }

    fn process_workloads(&self) -> impl Iterator<Item = &Tracked> {
        self.processes
            .iter()
            .filter_map(|id| Some(&**self.workloads.get(id)?))
    }

    fn bridges_now(&self) -> BTreeSet<IfIndex> {
        let networks = self.networks.values().filter_map(|network| network.bridge);
        networks.chain(self.bridges.members().copied()).collect()
    }

    fn veths_now(&self) -> BTreeSet<IfIndex> {
        let endpoints = self
            .process_workloads()
            .flat_map(|tracked| &tracked.workload.endpoints);
        endpoints.map(|endpoint| endpoint.port).collect()
    }

    /// Guarded are, in order: what its label says; under `guard: All` all but the exceptions; else
    /// configured networks, those with a policy of their own, those that a policy names.
    pub(super) fn is_guarded(&self, network: Option<&Network>) -> bool {
        let config = &self.environment.config;
        let Some(network) = network else {
            return config.guard == Guard::All;
        };
        let labels = self.network_labels.get(&network.name);
        if let Some(guard) = labels.and_then(|labels| labels.guard) {
            return guard;
        }
        match config.guard {
            Guard::All => !called(network, &config.guard_exceptions),
            Guard::Networks => {
                let mut selectors = self.policies.values().flat_map(|policy| &policy.workloads);
                called(network, &config.guarded_networks)
                    || labels.is_some_and(|labels| labels.policy.is_some())
                    || selectors
                        .any(|selector| selector.names_network(&network.name, Some(network)))
            }
        }
    }

    pub(super) fn uplink_of(&self, address: IpAddr) -> Option<IfIndex> {
        self.environment
            .uplink_of(address, &|index| self.topology.is_inside(index))
    }

    /// The kernel must hold the policy sets of this placement.
    fn hold_sets(&mut self, placement: &Placement, steps: &mut Steps) {
        for set in sets(placement) {
            let entry = self
                .sets
                .entry(set.check_chain())
                .or_insert_with(|| (Arc::clone(set), 0));
            entry.1 += 1;
            if entry.1 > 1 {
                continue;
            }
            for (name, map) in set.sets() {
                steps.add_set(Family::Inet, name, map);
            }
            for (name, chain) in set.chains() {
                steps.add_chain(Family::Inet, name, chain);
            }
            for leads in set.leads() {
                if self.leaves_as.hold(leads) {
                    let (name, chain) = leaves_as(leads);
                    steps.add_chain(Family::Inet, name, chain);
                }
            }
        }
    }

    /// The kernel need not hold this placement any more.
    pub(super) fn displace(&mut self, placement: &Placement, steps: &mut Steps) {
        steps.displace(placement);
        self.release_sets(placement, steps);
    }

    fn release_sets(&mut self, placement: &Placement, steps: &mut Steps) {
        for set in sets(placement) {
            let name = set.check_chain();
            let Some(entry) = self.sets.get_mut(&name) else {
                continue;
            };
            entry.1 -= 1;
            if entry.1 > 0 {
                continue;
            }
            self.sets.remove(&name);
            for (name, _) in set.sets() {
                steps.remove_set(Family::Inet, name);
            }
            for (name, _) in set.chains() {
                steps.remove_chain(Family::Inet, name);
            }
            for leads in set.leads() {
                if self.leaves_as.release(&leads) {
                    steps.remove_chain(Family::Inet, leaves_as(leads).0);
                }
            }
        }
    }
}

impl Addresses for Planner {
    fn usable(&self, address: IpAddr) -> bool {
        self.unusable(address).is_none()
    }

    fn mark(&self, address: IpAddr) -> Option<Mark> {
        let uplink = self.uplink_of(address)?;
        self.topology.steering.mark(uplink, address.is_ipv6())
    }

    fn uplink(&self, address: IpAddr) -> Option<IfIndex> {
        self.uplink_of(address)
    }
}

fn called(network: &Network, names: &BTreeSet<String>) -> bool {
    names.iter().any(|name| network.is_called(name))
}

fn sets(placement: &Placement) -> impl Iterator<Item = &Arc<PolicySet>> {
    [&placement.v4, &placement.v6]
        .into_iter()
        .filter_map(|treated| match &treated.treatment {
            Treatment::Set(set) => Some(set),
            _ => None,
        })
}

/// On the host's network nobody can tell whose look-up is whose, and while the first process is not
/// known nothing leads its look-ups to the resolver: what depends on names lets nothing leave.
fn without_names(workload: &Workload, treated: Treated) -> Treated {
    match &treated.treatment {
        Treatment::Set(set)
            if set.asks_names() && (workload.cgroup.is_some() || workload.pid == 0) =>
        {
            Treated {
                treatment: Treatment::Blocked(Refusal::Unlearned),
                drain: None,
            }
        }
        _ => treated,
    }
}

/// Stands for a label that cannot be read: who wrote it wanted another address than the host's.
fn wrong_label(workload: &Workload) -> EgressPolicy {
    EgressPolicy {
        name: PolicyName(format!("label:{} (wrong)", workload.name)),
        owner: Owner::Workload,
        priority: u16::MAX,
        workloads: Vec::new(),
        destinations: Vec::new(),
        action: Action::Deny,
        on_unavailable: OnUnavailable::Drop,
        on_change: OnChange::Reset,
        enforcement: Enforcement::Enforce,
        unlearned: Unlearned::Sniff,
        only_these_hosts: false,
    }
}
