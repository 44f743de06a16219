//! `sortie gateway`: the resolver and the way out for workloads whose policies speak of names.
//!
//! A process of its own: while it is away such workloads' lookups, and the connections that it must see,
//! wait for the next where a service manager keeps its sockets, and are refused elsewhere. While the
//! agent is away names that were looked up before are still answered. It follows the agent, which is who
//! keeps what was learned.
//!
//! - `known`: the workloads and the host, as the agent told them; `names` asks the policies.
//! - `doors`: sockets inside workloads' network namespaces, opened and closed.
//! - `kept`: sockets that outlive the process; `front`: what the service manager takes for it, so that
//!   it may still end what it has begun beside the next; `successor`: one that is started beside it.
//! - `writer`: names on their way into the kernel, through the agent; `told` remembers them.
//! - `requests`: what policies say of a connection or request; `audit`: what those would say that only
//!   audit; `addresses`: which addresses its name has; `secure`: name servers that are asked over TLS;
//!   `certificates`: TLS that is begun and looked into for them; `seen`: with which source it left;
//!   `access`: the log of them;
//!   `metrics`: counts of them.
//! - `proxy`: listeners for clients that ask, and who they are; `tokens`: what they prove it with.

mod access;
mod addresses;
mod audit;
mod certificates;
mod doors;
mod front;
mod kept;
mod known;
mod metrics;
mod names;
mod proxy;
mod requests;
mod secure;
mod seen;
mod successor;
mod tokens;
mod told;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use sortie_api::workload::WorkloadId;
use sortie_dns::{Metrics, Secure, Settings, Stub};
use sortie_gateway::decide::Resolve;
use sortie_gateway::{Config, Gateway, Outside, SeenSource};
use sortie_plan::redirect::SOCKET_MARK;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::Error;
use crate::api::{AuditedThere, GatewayLine, Heard};
use crate::client::{Client, ClientError};
use crate::systemd::Notify;
use access::ToOutput;
use addresses::ByServers;
use audit::Lookups;
use certificates::Certificates;
use doors::Doors;
use kept::Kept;
use known::Known;
use metrics::Scraped;
use names::ByPolicy;
use proxy::Proxy;
use requests::ByRequest;
use secure::ByConfig;
use seen::ByFlow;
use successor::Place;
use told::Told;
use writer::Writer;

/// How soon an agent that is away is tried again.
const AGENT_TRIED: Duration = Duration::from_millis(200);
/// How soon sockets that could not be opened are.
const DOORS_TRIED: Duration = Duration::from_secs(1);
/// Changes of policies that come together are one.
const SETTLES: Duration = Duration::from_millis(20);
/// How long connections may still take when the gateway ends.
const DRAIN: Duration = Duration::from_secs(30);
/// Changes on their way to the resolver.
const CHANGES: usize = 1_024;

/// How the gateway is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// The agent's socket.
    pub socket: PathBuf,
    /// Where scrapes are answered, if anywhere.
    pub metrics: Option<SocketAddr>,
}

/// Runs until it is told to stop; then what has begun is still finished.
///
/// Under a service manager a process of its own does, and this one ends before it. To be called on the
/// first thread, before there are others.
///
/// # Errors
/// When the process cannot have what it needs from the system. An agent that is away is waited for.
pub fn run(options: &Options) -> Result<ExitCode, Error> {
    if let Some(code) = front::stand()? {
        return Ok(code);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Error::system("start threads"))?;
    runtime.block_on(serve(options))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(options: &Options) -> Result<(), Error> {
    let kept = Kept::from_manager()?;
    let replaced = Arc::<tokio::sync::Notify>::default();
    let place = Place::new(&options.socket, kept.clone(), Arc::clone(&replaced));
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::system("await signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::system("await signals"))?;
    let inside = sortie_dns::Inside::start().map_err(Error::system("start a thread"))?;
    let client = Client::new(&options.socket);
    let known = Arc::new(Known::default());
    let told = Arc::new(Told::default());
    let certificates = Arc::new(Certificates::default());
    let config = Config::default();
    let shared = config.cores;
    let log = ToOutput::start().map_err(Error::system("start a thread"))?;
    let lost = log.lost();
    let seen = ByFlow::open().map_err(|source| Error::Listen {
        what: "tracked flows",
        source,
    })?;
    let seen = Arc::new(seen);
    let decide = Arc::new(ByRequest {
        known: Arc::clone(&known),
        told: Arc::clone(&told),
        certificates: Arc::clone(&certificates),
    });
    let secure: Arc<dyn Secure> = Arc::new(ByConfig {
        known: Arc::clone(&known),
        decide: Arc::clone(&decide),
        certificates: Arc::clone(&certificates),
        seen: Arc::clone(&seen) as Arc<dyn SeenSource>,
        failing: std::sync::Mutex::default(),
    });
    let stub = |mark| Stub::new(inside.clone(), mark, Some(Arc::clone(&secure)));
    let names = (Arc::clone(&known), Arc::clone(&told));
    let addresses = Arc::new(ByServers::new(names, stub(SOCKET_MARK), stub(0)));
    let outside = Outside {
        decide,
        resolve: Arc::clone(&addresses) as Arc<dyn Resolve>,
        log: Arc::new(log),
        seen: Some(seen),
    };
    let gateway = Gateway::start(&config, &outside).map_err(Error::system("start threads"))?;
    let lookups = Metrics::default();
    let audits = Arc::<Lookups>::default();
    let mut scraped = None;
    if let Some(address) = options.metrics {
        let counts = Scraped::new(gateway.meter(), &lookups, Arc::clone(&audits), lost);
        scraped = Some(counts.serve(&kept, address).await?);
    }
    let (changes, told_of) = mpsc::channel(CHANGES);
    let resolver = tokio::spawn(sortie_dns::serve(
        told_of,
        inside.clone(),
        ByPolicy {
            known: Arc::clone(&known),
            audits: Arc::clone(&audits),
        },
        Writer::start(client.clone(), Arc::clone(&told)),
        Some(secure),
        lookups,
        Settings::with_mark(SOCKET_MARK),
    ));
    let mut follower = Follower {
        doors: Doors::new(
            inside,
            changes,
            client.clone(),
            gateway,
            kept.clone(),
            shared,
        ),
        client,
        proxy: Proxy::new(Arc::clone(&known), kept.clone()),
        kept: kept.clone(),
        place,
        known,
        told,
        addresses,
        certificates,
        audits,
        untold: Vec::new(),
        faults: BTreeSet::new(),
    };
    if let Some(manager) = Notify::from_environment() {
        // Whoever is ordered behind it needs not wait for an agent.
        manager.say("READY=1");
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), agent = %options.socket.display(), "the gateway runs");
    tokio::select! {
        () = follower.follow() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = replaced.notified() => tracing::info!("another gateway has taken this one's place"),
    }
    kept.close();
    scraped.inspect(AbortHandle::abort);
    let gateway = follower.doors.into_gateway();
    // Who told the resolver of changes is gone.
    let _ = tokio::join!(resolver, drained(gateway));
    Ok(())
}

/// Nothing more is accepted, and what is on its way ends, or is ended.
async fn drained(gateway: Gateway) {
    let (done, ended) = oneshot::channel();
    // A thread of its own: the runtime would wait for one of its without a limit.
    std::thread::spawn(move || {
        gateway.drain();
        let _ = done.send(());
    });
    if timeout(DRAIN, ended).await.is_err() {
        tracing::warn!(limit = ?DRAIN, "ending while connections are still open");
    }
}

/// Follows the agent.
struct Follower {
    client: Client,
    known: Arc<Known>,
    told: Arc<Told>,
    addresses: Arc<ByServers>,
    proxy: Proxy,
    doors: Doors,
    kept: Kept,
    place: Place,
    certificates: Arc<Certificates>,
    audits: Arc<Lookups>,
    /// What policies that only audit would have changed, and the agent was not told.
    untold: Vec<AuditedThere>,
    /// Why certificates cannot be used, as the agent was told.
    faults: BTreeSet<String>,
}

impl Follower {
    /// For ever: each connection begins with all that there is.
    async fn follow(&mut self) {
        let mut was_there = true;
        loop {
            match self.follow_once(&mut was_there).await {
                Err(error) if was_there => {
                    tracing::warn!(%error, "the agent is away: names that were looked up before are answered, new ones of a policy are not");
                    was_there = false;
                }
                Ok(()) | Err(_) => {}
            }
            self.proxy.look_again(self.doors.gateway());
            sleep(AGENT_TRIED).await;
        }
    }

    /// Until the agent ends the stream.
    async fn follow_once(&mut self, was_there: &mut bool) -> Result<(), ClientError> {
        let lines = self.client.gateway().await?;
        let mut lines = std::pin::pin!(lines);
        // Those that the agent has told of, until it has told all.
        let mut fresh = Some((BTreeSet::new(), BTreeSet::new()));
        self.faults.clear();
        let mut again = Instant::now() + DOORS_TRIED;
        loop {
            let due = if self.doors.has_changes() {
                Instant::now() + SETTLES
            } else {
                again
            };
            let Ok(line) = timeout_at(due, lines.next()).await else {
                self.doors.tell_changes().await;
                self.proxy.look_again(self.doors.gateway());
                if again <= Instant::now() {
                    self.doors.open_again(&self.known).await;
                    self.check_certificates().await;
                    self.tell_audits().await;
                    again = Instant::now() + DOORS_TRIED;
                }
                continue;
            };
            match line.transpose()? {
                None => return Ok(()),
                Some(GatewayLine::Host(host)) => self.known.host_is(host),
                Some(GatewayLine::Workload(workload)) => {
                    if let Some((workloads, _)) = &mut fresh {
                        workloads.insert(workload.id.clone());
                    }
                    let before = self.known.workload_is(workload.clone());
                    if before
                        .as_ref()
                        .is_some_and(|it| it.audits != workload.audits)
                    {
                        self.forget_audits();
                    }
                    if before.as_ref().is_some_and(|it| it.pid != workload.pid) {
                        self.told.forget(&workload.id);
                        self.addresses.forget(&workload.id);
                    }
                    self.doors.open(workload, before.as_deref()).await;
                }
                Some(GatewayLine::Names(names)) => {
                    for known in names {
                        self.told.note(&known.workload, &known.name, &[known.told]);
                    }
                }
                Some(GatewayLine::WorkloadGone(id)) => self.gone(&id).await,
                Some(GatewayLine::Proxy(proxy)) => self.proxy.told(proxy, self.doors.gateway()),
                Some(GatewayLine::Asker(asker)) => {
                    if let Some((_, askers)) = &mut fresh {
                        askers.insert(asker.id.clone());
                    }
                    let (id, policies) = (asker.id.clone(), asker.policies.clone());
                    let before = self.known.asks(asker);
                    if before.is_some_and(|before| before.policies != policies) {
                        self.doors.gateway().policies_changed(&id);
                    }
                }
                Some(GatewayLine::AskerGone(id)) => self.asks_no_more(&id),
                Some(GatewayLine::Round(round)) => {
                    let agent = self.client.clone();
                    // Who waits for it does not wait for long.
                    tokio::spawn(async move { agent.heard(&Heard { round }).await });
                }
                Some(GatewayLine::Synced(_)) => {
                    let (told, askers) = fresh.take().unwrap_or_default();
                    for id in self.known.others_than(&told) {
                        self.gone(&id).await;
                    }
                    for id in self.known.other_askers_than(&askers) {
                        self.asks_no_more(&id);
                    }
                    self.kept.all_are_known();
                    self.place.take();
                    *was_there = true;
                    tracing::info!(workloads = told.len(), "the agent answers");
                }
            }
        }
    }

    fn asks_no_more(&mut self, id: &WorkloadId) {
        self.known.asks_no_more(id);
        if !self.known.needs(id) {
            self.addresses.forget(id);
            self.doors.gateway().forget(id);
        }
    }

    /// Tells the agent which cannot be used, when that changes.
    async fn check_certificates(&mut self) {
        let (policies, host) = (self.known.policies(), self.known.host());
        let destinations = policies.iter().flat_map(|it| &it.0.destinations);
        let wanted = destinations.filter_map(|it| it.http.as_ref()?.tls.as_ref());
        let now = std::time::Instant::now();
        let mut faults = self
            .certificates
            .check(wanted, &host.dns_over_tls, &host.tls, now);
        faults.extend(self.proxy.fault().cloned());
        // Else it is told again in a moment.
        if faults != self.faults && self.client.gateway_faults(&faults).await.is_ok() {
            self.faults = faults;
        }
    }

    /// Tells the agent what policies that only audit would have changed.
    async fn tell_audits(&mut self) {
        if self.untold.is_empty() {
            self.untold = self.audits.untold(&self.doors.gateway().meter());
        }
        // Else it is told again in a moment.
        if !self.untold.is_empty() && self.client.gateway_audited(&self.untold).await.is_ok() {
            self.untold.clear();
        }
    }

    /// Policies that only audit are others now, and counts begin anew with their text: what was
    /// counted before is not told.
    fn forget_audits(&mut self) {
        self.untold.clear();
        drop(self.audits.untold(&self.doors.gateway().meter()));
    }

    async fn gone(&mut self, id: &WorkloadId) {
        self.known.is_gone(id);
        self.told.forget(id);
        self.addresses.forget(id);
        self.doors.close(id).await;
    }
}
