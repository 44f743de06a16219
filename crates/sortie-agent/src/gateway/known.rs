//! The workloads that need the gateway and what the host is like, as the agent told them last.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use sortie_api::workload::{IfIndex, WorkloadId};
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

    pub(super) fn workload(&self, id: &WorkloadId) -> Option<Arc<ByName>> {
        self.read().workloads.get(id).cloned()
    }

    // What a panic left is whole: each holder does one thing.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
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
