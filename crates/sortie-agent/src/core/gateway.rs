//! `sortie gateway`: who needs it is told to it, and the names that it learns go into the kernel.
//!
//! It is told states, not steps: who follows too slowly is cut off and begins anew.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sortie_api::policy::{Carried, lacking};
use sortie_api::workload::WorkloadId;
use sortie_kernel::netns::Namespace;
use sortie_plan::mark::Mark;
use sortie_plan::op::Op;
use sortie_plan::planner::{Planner, Tracked};
use sortie_plan::resolve::Addresses;
use tokio::sync::{broadcast, oneshot};

use super::{Core, Event, Handle};
use crate::Error;
use crate::api::{
    ByName, EgressAddress, GatewayHost, GatewayLine, GatewayProxy, Heard, KnownName, Learned,
    Opened, PacketMark, Problem, Told,
};

/// A follower that is slower than this many lines is cut off.
const FOLLOWED: usize = 4_096;
/// How long the gateway may take to say that it knows of a change.
const HEARS: Duration = Duration::from_secs(10);
/// Changes that come together are told together.
const SETTLES: Duration = Duration::from_millis(5);

/// Names that wait to be learned.
pub(super) type Waiting = Vec<(Vec<Learned>, oneshot::Sender<Answer>)>;

/// What each name's addresses are told as.
pub(crate) type Answer = Result<Vec<Vec<Told>>, Error>;

/// What the gateway has been told.
pub(super) struct GatewayLink {
    lines: broadcast::Sender<GatewayLine>,
    workloads: BTreeMap<WorkloadId, ByName>,
    /// The processes in whose namespaces it listens.
    opened: BTreeMap<WorkloadId, u32>,
    host: GatewayHost,
    /// Where it serves clients, and whom.
    pub(super) proxy: GatewayProxy,
    /// Containers that may ask it as a proxy.
    pub(super) askers: BTreeMap<WorkloadId, ByName>,
    /// Certificates that it cannot use, as it said.
    faults: BTreeSet<String>,
    /// The engines that there are have told their containers: whom it has not been told of needs it
    /// no longer.
    synced: bool,
    /// When it is to be told what has changed.
    due: Option<Instant>,
    /// How often somebody wanted to know when it has heard all.
    round: u64,
}

impl Default for GatewayLink {
    fn default() -> Self {
        Self {
            lines: broadcast::Sender::new(FOLLOWED),
            workloads: BTreeMap::new(),
            opened: BTreeMap::new(),
            host: GatewayHost::default(),
            proxy: GatewayProxy::default(),
            askers: BTreeMap::new(),
            faults: BTreeSet::new(),
            synced: false,
            due: None,
            round: 0,
        }
    }
}

impl GatewayLink {
    /// Nobody may be following.
    pub(super) fn tell(&self, line: GatewayLine) {
        drop(self.lines.send(line));
    }
}

impl Handle {
    /// Waits until the gateway decides by what has changed by now; where none runs, for nothing. False
    /// when it did not say so in time.
    pub(crate) async fn gateway_follows(&self) -> Result<bool, Error> {
        let Some(round) = self.call(|core| Ok(core.gateway_round())).await? else {
            return Ok(true);
        };
        let mut heard = self.heard.subscribe();
        let comes = heard.wait_for(|heard| *heard >= round);
        Ok(tokio::time::timeout(HEARS, comes).await.is_ok())
    }

    /// The gateway has heard all that was told before this round.
    pub(crate) fn gateway_heard(&self, heard: Heard) {
        self.heard
            .send_modify(|last| *last = heard.round.max(*last));
    }

    /// Puts names into the kernel; answers when they are there. What comes while the core is busy is
    /// one change.
    pub(crate) async fn learned(&self, names: Vec<Learned>) -> Answer {
        let (answer, answered) = oneshot::channel();
        let first = {
            let mut waiting = lock(&self.waiting);
            waiting.push((names, answer));
            waiting.len() == 1
        };
        if first && !self.tell(Event::Learned) {
            return Err(Error::Ending);
        }
        answered.await.unwrap_or(Err(Error::Ending))
    }
}

fn lock(waiting: &Arc<Mutex<Waiting>>) -> std::sync::MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    /// All that there is, and what comes.
    pub(crate) fn follow_gateway(
        &mut self,
    ) -> (Vec<GatewayLine>, broadcast::Receiver<GatewayLine>) {
        self.tell_gateway();
        // A new one has opened nothing yet.
        self.gateway.opened.clear();
        self.gateway.faults.clear();
        let link = &self.gateway;
        let host = GatewayLine::Host(link.host.clone());
        let workloads = link.workloads.values().cloned().map(GatewayLine::Workload);
        let names = self.names_line(|id| link.workloads.contains_key(id));
        let proxy = GatewayLine::Proxy(link.proxy.clone());
        let askers = link.askers.values().cloned().map(GatewayLine::Asker);
        let known = [host].into_iter().chain(workloads).chain(names);
        let known = known.chain([proxy]).chain(askers);
        let synced = link.synced.then_some(GatewayLine::Synced(true));
        // Somebody may wait whom a former one has not answered.
        let round = GatewayLine::Round(link.round);
        let known = known.chain(synced).chain([round]).collect();
        (known, link.lines.subscribe())
    }

    /// Tells the gateway all that has changed, and how it will say that it knows; none without one.
    fn gateway_round(&mut self) -> Option<u64> {
        if !self.has_gateway() {
            return None;
        }
        self.tell_gateway();
        let link = &mut self.gateway;
        link.round += 1;
        // It may have gone meanwhile.
        let _ = link.lines.send(GatewayLine::Round(link.round));
        Some(link.round)
    }

    /// What these workloads were told of names.
    fn names_line(&self, of: impl Fn(&WorkloadId) -> bool) -> Option<GatewayLine> {
        let known = self.planner.known_names();
        let names = known.filter(|known| of(known.workload));
        let names: Vec<KnownName> = names
            .map(|known| KnownName {
                workload: known.workload.clone(),
                name: known.name.to_owned(),
                told: Told {
                    address: known.real,
                    answered: Some(known.answer),
                },
            })
            .collect();
        (!names.is_empty()).then_some(GatewayLine::Names(names))
    }

    /// Lookups of a workload are answered from now on.
    pub(crate) fn gateway_opened(&mut self, opened: Opened) {
        self.gateway.opened.insert(opened.workload, opened.pid);
    }

    /// Certificates that cannot be used are told of.
    pub(crate) fn gateway_faults(&mut self, faults: BTreeSet<String>) {
        self.gateway.faults = faults;
    }

    /// What is wrong with the certificates that policies want: those that the agent's file does not
    /// name, and those whose files the gateway cannot use.
    pub(super) fn certificate_problems(&self) -> Vec<Problem> {
        let known = &self.planner.environment().config.tls;
        let policies = self.planner.policies().values();
        let destinations = policies.flat_map(|policy| {
            let destinations = policy.destinations.iter();
            destinations.map(move |destination| (policy, destination))
        });
        let mut problems = Vec::new();
        for (policy, destination) in destinations {
            let http = destination.http.as_ref();
            for lacking in http
                .and_then(|http| http.tls.as_ref())
                .into_iter()
                .flat_map(|wanted| lacking(wanted, known))
            {
                problems.push(Problem {
                    object: format!("policy {}", policy.name.0),
                    message: format!(
                        "{lacking}, and what needs it is refused; {}",
                        lacking.help()
                    ),
                });
            }
        }
        problems.dedup();
        if self.has_gateway() {
            problems.extend(self.gateway.faults.iter().map(|fault| Problem {
                object: "gateway".to_owned(),
                message: fault.clone(),
            }));
        }
        problems
    }

    /// Whether lookups of this process would be refused for a moment still. Without a gateway they
    /// are for longer than anybody wants to wait.
    pub(super) fn gateway_is_late(&self, id: &WorkloadId, pid: u32) -> bool {
        self.has_gateway()
            && self.planner.asks_names(id)
            && self.gateway.opened.get(id) != Some(&pid)
    }

    /// Whether anybody follows.
    pub(super) fn has_gateway(&self) -> bool {
        self.gateway.lines.receiver_count() > 0
    }

    /// Something has changed that it may have to know.
    pub(super) fn gateway_changes(&mut self) {
        if self.has_gateway() {
            let due = || Instant::now() + SETTLES;
            self.gateway.due.get_or_insert_with(due);
        }
    }

    pub(super) fn gateway_due(&self) -> Option<Instant> {
        self.gateway.due
    }

    pub(super) fn gateway_on_time(&mut self, now: Instant) {
        if self.gateway.due.is_some_and(|due| due <= now) {
            self.tell_gateway();
        }
    }

    /// Tells what is different from what was told last.
    pub(super) fn tell_gateway(&mut self) {
        self.gateway.due = None;
        let host = self.gateway_host();
        let known = &self.gateway.workloads;
        let all = self.planner.by_name().map(|tracked| &tracked.workload.id);
        let new: BTreeSet<WorkloadId> = all.filter(|id| !known.contains_key(id)).cloned().collect();
        let names = if new.is_empty() {
            None
        } else {
            self.names_line(|id| new.contains(id))
        };
        let link = &mut self.gateway;
        let mut before = mem::take(&mut link.workloads);
        if link.host != host {
            link.tell(GatewayLine::Host(host.clone()));
            link.host = host;
        }
        for tracked in self.planner.by_name() {
            let id = &tracked.workload.id;
            let told = before.remove(id);
            let addresses = tracked.workload.endpoints.iter();
            let addresses = addresses.flat_map(|it| it.addresses.clone()).collect();
            let Some(now) = wire(&self.planner, tracked, addresses, told.as_ref()) else {
                if told.is_some() {
                    link.tell(GatewayLine::WorkloadGone(id.clone()));
                }
                continue;
            };
            if told.as_ref() != Some(&now) {
                link.tell(GatewayLine::Workload(now.clone()));
            }
            link.workloads.insert(id.clone(), now);
        }
        // Behind the workloads: of another process what was told before is forgotten.
        if let Some(names) = names {
            link.tell(names);
        }
        self.tell_clients();
        // Before, an agent that has just begun knows nobody. Without any engine there are clients.
        let synced = self.gateway.synced || self.no_engine_is_awaited();
        let link = &mut self.gateway;
        for id in before.into_keys() {
            link.opened.remove(&id);
            link.tell(GatewayLine::WorkloadGone(id));
        }
        if synced && !link.synced {
            link.tell(GatewayLine::Synced(true));
            link.synced = true;
        }
    }

    fn gateway_host(&self) -> GatewayHost {
        let planner = &self.planner;
        let networks = self.networks_now().into_iter();
        let mut local = planner.environment().local_ranges();
        local.extend(networks.flat_map(|network| network.subnets));
        let gateway = Mark::gateway(planner.environment().config.mark_mask);
        let egress = |address: IpAddr| {
            let mark = planner.mark(address).unwrap_or(gateway);
            let egress = EgressAddress {
                usable: self.unusable(address).is_none(),
                uplink: planner.uplink(address),
                mark: Some(PacketMark {
                    value: mark.value(),
                    mask: mark.mask(),
                }),
            };
            (address, egress)
        };
        GatewayHost {
            local: ipnet::IpNet::aggregate(&local),
            own: planner.environment().addresses.keys().copied().collect(),
            addresses: planner.gateway_addresses().map(egress).collect(),
            audited: planner.audited_addresses().map(egress).collect(),
            tls: planner.environment().config.tls.clone(),
            dns_over_tls: planner.environment().config.gateway.dns_over_tls.clone(),
        }
    }

    /// A name that was not looked up through the gateway. Nobody waits for it to be kept.
    pub(crate) fn remember_name(&mut self, learned: &Learned) {
        let Learned {
            workload,
            name,
            addresses,
        } = learned;
        let (told, ops) = self.planner.learned(workload, name, addresses);
        self.learned.note(&self.planner, learned, &told);
        if let Err(error) = self.learned.keep(&self.planner) {
            tracing::warn!(%error, "names that were looked up are not kept for the next agent");
        }
        self.apply(&ops);
    }

    /// All names that wait, as one change of the kernel; then each is answered. They are kept before:
    /// who dies in between has told nobody.
    pub(super) fn learn(&mut self) {
        let waiting = mem::take(&mut *lock(&self.handle.waiting));
        let mut ops: Vec<Op> = Vec::new();
        let mut answers = Vec::new();
        for (names, answer) in waiting {
            let told = names.iter().map(|name| {
                let (told, steps) =
                    self.planner
                        .learned(&name.workload, &name.name, &name.addresses);
                ops.extend(steps);
                self.learned.note(&self.planner, name, &told);
                let told = told.into_iter();
                told.map(|told| Told {
                    address: told.real,
                    answered: told.answer,
                })
                .collect()
            });
            answers.push((answer, told.collect()));
        }
        let kept = self.learned.keep(&self.planner);
        let done = self.enforce(&ops);
        let done = kept.map_err(|error| error.to_string()).and(done);
        for (answer, told) in answers {
            let told = done.clone().map_err(Error::Refused).map(|()| told);
            // Nobody waits any more when the gateway has gone.
            let _ = answer.send(told);
        }
    }
}

/// As it is told; none where its process has ended. `told` is what was told before: a namespace is
/// looked at once for each process.
pub(super) fn wire(
    planner: &Planner,
    tracked: &Tracked,
    addresses: Vec<IpAddr>,
    told: Option<&ByName>,
) -> Option<ByName> {
    let workload = &tracked.workload;
    let told = told.filter(|told| told.pid == workload.pid);
    let namespace = match told {
        Some(told) => told.namespace,
        None => Namespace::foreign(workload.pid).ok().flatten()?.identity(),
    };
    Some(ByName {
        id: workload.id.clone(),
        name: workload.name.clone(),
        pid: workload.pid,
        namespace,
        addresses,
        policies: tracked.policies.iter().cloned().map(Carried).collect(),
        audits: planner.auditing(tracked).cloned().map(Carried).collect(),
    })
}
