//! Sockets inside workloads' network namespaces: opened, or taken over from a former gateway, when the
//! agent tells of a workload, closed when it is gone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;

use sortie_api::workload::WorkloadId;
use sortie_dns::{Change, Former, Inside};
use sortie_gateway::Gateway;
use sortie_kernel::netns::Identity;
use sortie_plan::redirect::{GATEWAY_PORT, RESOLVER_PORT};
use tokio::sync::mpsc;

use super::kept::{Kept, of_workload};
use super::known::Known;
use crate::api::{ByName, Opened};
use crate::client::Client;

/// Opens and closes them.
pub(super) struct Doors {
    inside: Inside,
    resolver: mpsc::Sender<Change>,
    agent: Client,
    gateway: Gateway,
    kept: Kept,
    /// The namespaces whose sockets are kept.
    open: BTreeMap<WorkloadId, Identity>,
    /// Listeners of the gateway in each namespace and of each family.
    shared: usize,
    /// Those whose sockets could not be opened, and why, as it was told.
    closed: BTreeMap<WorkloadId, String>,
    /// The resolver does not know yet that policies are others now.
    changed: bool,
}

impl Doors {
    pub(super) fn new(
        inside: Inside,
        resolver: mpsc::Sender<Change>,
        agent: Client,
        gateway: Gateway,
        kept: Kept,
        shared: usize,
    ) -> Self {
        Self {
            inside,
            resolver,
            agent,
            gateway,
            kept,
            open: BTreeMap::new(),
            shared,
            closed: BTreeMap::new(),
            changed: false,
        }
    }

    /// What is open already stays; then only the policies may be others.
    pub(super) async fn open(&mut self, workload: ByName, before: Option<&ByName>) {
        let same = before.is_some_and(|before| before.namespace == workload.namespace);
        if !same || self.closed.contains_key(&workload.id) {
            self.try_open(&workload).await;
        } else if before.is_some_and(|before| before.policies != workload.policies) {
            self.changed = true;
            self.gateway.policies_changed(&workload.id);
        }
    }

    /// Whether policies have changed of workloads whose sockets are open.
    pub(super) fn has_changes(&self) -> bool {
        self.changed
    }

    /// Tells that, for all of them at once.
    pub(super) async fn tell_changes(&mut self) {
        if mem::take(&mut self.changed) {
            self.tell(Change::PoliciesChanged).await;
        }
    }

    /// Those that could not be opened.
    pub(super) async fn open_again(&mut self, known: &Known) {
        let closed: Vec<WorkloadId> = self.closed.keys().cloned().collect();
        for workload in closed.iter().filter_map(|id| known.workload(id)) {
            self.try_open(&workload).await;
        }
    }

    pub(super) async fn close(&mut self, id: &WorkloadId) {
        self.closed.remove(id);
        self.gateway.forget(id);
        self.give_up(id);
        self.tell(Change::Ended(id.clone())).await;
    }

    /// The data path.
    pub(super) fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Opens and closes nothing more.
    pub(super) fn into_gateway(self) -> Gateway {
        self.gateway
    }

    /// Nobody needs its sockets any more, a next gateway neither.
    fn give_up(&mut self, id: &WorkloadId) {
        if let Some(namespace) = self.open.remove(id) {
            self.kept.give_up(of_workload(namespace));
        }
    }

    async fn try_open(&mut self, workload: &ByName) {
        // What there was is another namespace's.
        self.gateway.forget(&workload.id);
        self.give_up(&workload.id);
        let claimed = self.kept.claim(workload.namespace);
        let taken_over: Vec<RawFd> = claimed.iter().map(AsRawFd::as_raw_fd).collect();
        let mut former = Former::from(claimed);
        let opened = async {
            let namespace = Arc::new(namespace(workload)?);
            let (inside, shared) = (&self.inside, self.shared);
            // First, because nobody else can have its port beside: then nothing is opened in vain.
            let here = former.on_port(RESOLVER_PORT);
            let lookups = inside.listen(&namespace, RESOLVER_PORT, here).await;
            let lookups = lookups.map_err(|error| at(RESOLVER_PORT, &error))?;
            let here = former.on_port(GATEWAY_PORT);
            let connections = inside
                .listen_for_connections(&namespace, GATEWAY_PORT, shared, here)
                .await
                .map_err(|error| at(GATEWAY_PORT, &error))?;
            let sockets: Vec<_> = connections.iter().map(AsFd::as_fd).collect();
            let sockets = [sockets, lookups.sockets().collect()].concat();
            let name = of_workload(workload.namespace);
            self.kept.keep(name, &taken_over, &sockets);
            self.gateway.listen(&workload.id, connections)?;
            Ok::<_, io::Error>((namespace, lookups))
        };
        match opened.await {
            Ok((namespace, listeners)) => {
                self.closed.remove(&workload.id);
                self.open.insert(workload.id.clone(), workload.namespace);
                tracing::info!(
                    workload = workload.name,
                    id = workload.id.as_str(),
                    taken_over = taken_over.len(),
                    "its lookups are answered and its connections carried"
                );
                self.tell(Change::Started {
                    workload: workload.id.clone(),
                    namespace,
                    listeners,
                })
                .await;
                let opened = Opened {
                    workload: workload.id.clone(),
                    pid: workload.pid,
                };
                let agent = self.agent.clone();
                // Who starts does not wait for long: an agent that is away misses nothing.
                tokio::spawn(async move { agent.opened(&opened).await });
            }
            Err(error) => {
                let error = error.to_string();
                // What the manager keeps may be what is in the way.
                self.kept.give_up(of_workload(workload.namespace));
                if self.closed.get(&workload.id) != Some(&error) {
                    tracing::warn!(
                        workload = workload.name,
                        id = workload.id.as_str(),
                        error,
                        "its lookups and connections are refused, because the sockets for them cannot be opened in its network namespace; trying again"
                    );
                }
                self.closed.insert(workload.id.clone(), error);
            }
        }
    }

    async fn tell(&self, change: Change) {
        // The resolver ends after the follower only.
        let _ = self.resolver.send(change).await;
    }
}

fn at(port: u16, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("port {port}: {error}"))
}

/// The workload's network namespace, if its process is still there.
pub(super) fn namespace(workload: &ByName) -> io::Result<File> {
    let file = File::open(format!("/proc/{}/ns/net", workload.pid))?;
    if Identity::of(&file)? != workload.namespace {
        return Err(io::Error::other(format!(
            "process {} is another one now",
            workload.pid
        )));
    }
    Ok(file)
}
