//! Who may ask the gateway as a proxy: clients that policies name, and managed containers.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use sortie_api::labels::Labels;
use sortie_api::policy::{Client, EgressPolicy};
use sortie_api::workload::{Workload, WorkloadKind};

use super::{Planner, Tracked};
use crate::compile::treatment::Treated;
use crate::compile::workload::Placement;

impl Planner {
    /// Whether the gateway listens for clients.
    pub fn serves_clients(&self) -> bool {
        self.environment.config.gateway.proxy.serves()
    }

    /// The policies that mean clients and decide.
    pub fn client_policies(&self) -> impl Iterator<Item = &Arc<EgressPolicy>> {
        of_clients(self.policies.values())
    }

    /// Those that mean clients and only audit.
    pub fn client_audits(&self) -> impl Iterator<Item = &Arc<EgressPolicy>> {
        of_clients(self.audits.values())
    }

    /// Every client that a policy names, as a workload. The kernel knows none of them.
    pub fn clients(&self) -> impl Iterator<Item = Tracked> {
        let clients = self.named_clients().into_iter();
        clients.map(|client| self.client(&client))
    }

    /// Every client that a policy names.
    pub fn named_clients(&self) -> BTreeSet<Client> {
        Client::named(self.client_policies().map(AsRef::as_ref))
    }

    /// The client that a workload stands for, if it does.
    pub(super) fn client_of(&self, workload: &Workload) -> Option<Client> {
        let clients = (workload.kind == WorkloadKind::Client).then(|| self.named_clients())?;
        clients.into_iter().find(|it| it.id() == workload.id)
    }

    /// A client as a workload.
    pub fn client(&self, client: &Client) -> Tracked {
        let policies = self.client_policies();
        let policies = policies.filter(|policy| client.is_meant_by(policy));
        let unmanaged = Arc::new(Treated::default());
        Tracked {
            workload: Workload {
                id: client.id(),
                name: client.name(),
                kind: WorkloadKind::Client,
                labels: Labels::default(),
                pid: 0,
                started: 0,
                endpoints: Vec::new(),
                published_udp: [].into(),
                cgroup: None,
                unmanageable: None,
            },
            label: Ok(None),
            via: None,
            policies: policies.cloned().collect(),
            placement: Placement {
                v4: Arc::clone(&unmanaged),
                v6: unmanaged,
                endpoints: [].into(),
                cgroup: None,
            },
        }
    }

    /// The containers that the gateway knows by their addresses, and these addresses: each is bound at
    /// its port, so that nobody else can send from it. None where it does not listen for clients.
    pub fn askers(&self) -> impl Iterator<Item = (&Tracked, Vec<IpAddr>)> {
        let all = self.workloads.values().map(AsRef::as_ref);
        all.filter(|_| self.serves_clients()).filter_map(|tracked| {
            let addresses = asks_from(tracked);
            (!addresses.is_empty()).then_some((tracked, addresses))
        })
    }
}

fn of_clients<'p>(
    policies: impl Iterator<Item = &'p Arc<EgressPolicy>>,
) -> impl Iterator<Item = &'p Arc<EgressPolicy>> {
    policies.filter(|policy| policy.workloads.iter().any(|it| it.clients.is_some()))
}

/// Nothing of what is not managed, or not known by an address of its own.
fn asks_from(tracked: &Tracked) -> Vec<IpAddr> {
    let workload = &tracked.workload;
    let is_known = workload.kind.engine().is_some()
        && workload.unmanageable.is_none()
        && tracked.placement.is_managed();
    let endpoints = tracked.placement.endpoints.iter();
    let addresses = endpoints.flat_map(|endpoint| endpoint.addresses.iter().copied());
    addresses.filter(|_| is_known).collect()
}
