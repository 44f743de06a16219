//! The workloads that need the gateway, those that may ask it, and what the host is like, as the agent
//! told them last.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use sortie_api::policy::{Carried, Client};
use sortie_api::workload::{IfIndex, WorkloadId};
use sortie_kernel::netns::Identity;
use sortie_plan::mark::Mark;
use sortie_plan::resolve::Addresses;

use crate::api::{ByName, GatewayHost};

/// Shared by all that ask.
#[derive(Debug, Default)]
pub(super) struct Known(RwLock<State>);

#[derive(Debug, Default)]
struct State {
    host: Arc<GatewayHost>,
    workloads: BTreeMap<WorkloadId, Arc<ByName>>,
    /// Containers that may ask the proxy, and their addresses.
    askers: BTreeMap<WorkloadId, Arc<ByName>>,
    at: HashMap<IpAddr, WorkloadId>,
    /// Policies that mean clients, and the clients of whom there was a question since.
    policies: Vec<Carried>,
    /// Those that mean clients and only audit.
    audits: Vec<Carried>,
    clients: HashMap<WorkloadId, (Client, Arc<ByName>)>,
}

impl Known {
    pub(super) fn host_is(&self, host: GatewayHost) {
        self.write().host = Arc::new(host);
    }

    /// Yields what was known of it before.
    pub(super) fn workload_is(&self, workload: ByName) -> Option<Arc<ByName>> {
        let id = workload.id.clone();
        self.write().workloads.insert(id, Arc::new(workload))
    }

    pub(super) fn is_gone(&self, id: &WorkloadId) {
        self.write().workloads.remove(id);
    }

    pub(super) fn others_than(&self, told: &BTreeSet<WorkloadId>) -> Vec<WorkloadId> {
        let state = self.read();
        let others = state.workloads.keys().filter(|id| !told.contains(id));
        others.cloned().collect()
    }

    pub(super) fn host(&self) -> Arc<GatewayHost> {
        Arc::clone(&self.read().host)
    }

    /// One that needs the gateway, or has asked it.
    pub(super) fn workload(&self, id: &WorkloadId) -> Option<Arc<ByName>> {
        let state = self.read();
        let client = || state.clients.get(id).map(|(_, client)| client);
        let known = state.workloads.get(id).or_else(|| state.askers.get(id));
        known.or_else(client).cloned()
    }

    /// Whether it needs the gateway.
    pub(super) fn needs(&self, id: &WorkloadId) -> bool {
        self.read().workloads.contains_key(id)
    }

    /// A container may ask the proxy. Of an address, who came last has it.
    /// Yields what was known of it before.
    pub(super) fn asks(&self, asker: ByName) -> Option<Arc<ByName>> {
        let mut state = self.write();
        state.forget_addresses(&asker.id);
        let addresses = asker.addresses.iter();
        state.at.extend(addresses.map(|it| (*it, asker.id.clone())));
        state.askers.insert(asker.id.clone(), Arc::new(asker))
    }

    pub(super) fn asks_no_more(&self, id: &WorkloadId) {
        let mut state = self.write();
        state.forget_addresses(id);
        state.askers.remove(id);
    }

    /// The container that sends from this address.
    pub(super) fn asker_at(&self, address: IpAddr) -> Option<WorkloadId> {
        self.read().at.get(&address).cloned()
    }

    pub(super) fn other_askers_than(&self, told: &BTreeSet<WorkloadId>) -> Vec<WorkloadId> {
        let state = self.read();
        let others = state.askers.keys().filter(|id| !told.contains(id));
        others.cloned().collect()
    }

    /// Other policies mean clients now: yields those whom others mean, and those whom none means any
    /// more.
    pub(super) fn client_policies_are(
        &self,
        policies: Vec<Carried>,
        audits: Vec<Carried>,
    ) -> (Vec<WorkloadId>, Vec<WorkloadId>) {
        let mut state = self.write();
        (state.policies, state.audits) = (policies, audits);
        let (mut changed, mut gone) = (Vec::new(), Vec::new());
        for (id, (client, before)) in std::mem::take(&mut state.clients) {
            let Some(now) = state.meant(&client) else {
                gone.push(id);
                continue;
            };
            if now.policies != before.policies {
                changed.push(id.clone());
            }
            state.clients.insert(id, (client, Arc::new(now)));
        }
        (changed, gone)
    }

    /// The clients that have proved to have a token which is not among these: they are forgotten.
    pub(super) fn clients_without(&self, tokens: &BTreeSet<String>) -> Vec<WorkloadId> {
        let mut state = self.write();
        let gone = state.clients.extract_if(|_, (client, _)| {
            client.token.as_ref().is_some_and(|it| !tokens.contains(it))
        });
        gone.map(|(id, _)| id).collect()
    }

    /// The clients that have shown a certificate: they are forgotten.
    pub(super) fn clients_with_certificates(&self) -> Vec<WorkloadId> {
        let mut state = self.write();
        let gone = state
            .clients
            .extract_if(|_, (client, _)| client.certificate.is_some());
        gone.map(|(id, _)| id).collect()
    }

    /// The id of a client that has proved who it is, if a policy means it.
    pub(super) fn client(&self, client: Client) -> Option<WorkloadId> {
        let state = self.read();
        let client = client.among(state.policies.iter().map(|policy| &*policy.0))?;
        let id = client.id();
        let is_known = state.clients.contains_key(&id);
        drop(state);
        if !is_known {
            let mut state = self.write();
            let meant = Arc::new(state.meant(&client)?);
            state.clients.insert(id.clone(), (client, meant));
        }
        Some(id)
    }

    /// Every policy of anybody's, often more than once.
    pub(super) fn policies(&self) -> Vec<Carried> {
        let state = self.read();
        let all = state.workloads.values().chain(state.askers.values());
        let all = all.flat_map(|it| &it.policies);
        all.chain(&state.policies).cloned().collect()
    }

    // What a panic left is whole: each holder does one thing.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A client as a workload, with the policies that mean it; there must be one.
    fn meant(&self, client: &Client) -> Option<ByName> {
        let meant = |all: &[Carried]| -> Vec<Carried> {
            let meant = all.iter().filter(|policy| client.is_meant_by(&policy.0));
            meant.cloned().collect()
        };
        let (policies, audits) = (meant(&self.policies), meant(&self.audits));
        (!policies.is_empty()).then(|| ByName {
            id: client.id(),
            name: client.name(),
            pid: 0,
            namespace: Identity {
                device: 0,
                inode: 0,
            },
            addresses: Vec::new(),
            policies,
            audits,
        })
    }

    fn forget_addresses(&mut self, id: &WorkloadId) {
        let Some(asker) = self.askers.get(id) else {
            return;
        };
        for address in &asker.addresses {
            if self.at.get(address) == Some(id) {
                self.at.remove(address);
            }
        }
    }
}

impl Addresses for GatewayHost {
    fn usable(&self, address: IpAddr) -> bool {
        self.addresses.get(&address).is_some_and(|it| it.usable)
    }

    fn uplink(&self, address: IpAddr) -> Option<IfIndex> {
        self.addresses.get(&address)?.uplink
    }

    fn mark(&self, address: IpAddr) -> Option<Mark> {
        let mark = self.addresses.get(&address)?.mark?;
        Some(Mark::of_rule(mark.value, mark.mask))
    }
}
