//! What the core is told, and who may tell it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};

use sortie_api::workload::{CgroupId, Change, Engine, WorkloadId};
use sortie_kernel::tables::Foreign;
use tokio::sync::{broadcast, oneshot, watch};

use super::Core;
use super::gateway::Waiting;
use crate::Error;
use crate::api;
use crate::overheard::Overheard;
use crate::source_ports;

/// A follower that is slower than this many loses the oldest.
const FOLLOWED: usize = 4_096;

/// Reports that wait for the core. When there are more, the kernel keeps them in its own buffer, and
/// says so when that is full.
const REPORTS: usize = 4_096;
/// Reports that the core reads between two events.
const AT_ONCE: usize = 64;

/// What the core reacts to.
pub enum Event {
    /// From an engine's source.
    Engine(Engine, Change),
    /// Interfaces, addresses, routes or rules changed.
    HostChanged,
    /// The policy folder changed.
    PoliciesChanged,
    /// Reports wait: a word to wake up for.
    Reported,
    /// Somebody else changed our tables: [`Handle::tables_touched`] has noted it.
    TablesTouched,
    /// The process that an attachment belongs to has ended.
    OwnerEnded(WorkloadId),
    /// Names wait to be learned.
    Learned,
    /// A workload was told a name's addresses by others than the gateway.
    Overheard(Overheard),
    /// Something asked for.
    Call(Box<dyn FnOnce(&mut Core) + Send>),
    /// The agent ends; what the kernel holds stays.
    Stop,
}

/// What the kernel tells of flows and packets. There may be any number of them, and nothing that is
/// asked for or that happens waits until they are read.
pub enum Report {
    /// A flow began or ended.
    Flow(nfnetlink::conntrack::Event),
    /// A packet was dropped; where the host itself sent it, its socket is of this cgroup.
    Dropped(nfnetlink::log::Packet, Option<CgroupId>),
    /// The source ports of all flows there are.
    PortsListed(Vec<source_ports::Port>),
    /// Reports of flows or drops were lost.
    Lost,
}

/// What the core is to be run with.
pub struct Events {
    pub(super) events: Receiver<Event>,
    reports: Receiver<Report>,
}

impl Event {
    /// Whether workloads, policies or the host may be others afterwards.
    pub(super) fn may_change_plan(&self) -> bool {
        matches!(
            self,
            Self::Engine(..) | Self::PoliciesChanged | Self::OwnerEnded(_) | Self::Call(_)
        )
    }
}

/// Talks to the core from anywhere.
#[derive(Clone)]
pub struct Handle {
    events: Sender<Event>,
    reports: SyncSender<Report>,
    /// [`Event::Reported`] is on its way.
    woken: Arc<AtomicBool>,
    pub(super) waiting: Arc<Mutex<Waiting>>,
    pub(super) touched: Arc<Touched>,
    /// The last round of [`crate::api::GatewayLine::Round`] that the gateway has heard.
    pub(super) heard: watch::Sender<u64>,
    /// Flows as they are reported.
    pub flows: broadcast::Sender<api::Flow>,
    /// Drops as they are reported.
    pub drops: broadcast::Sender<api::Drop>,
}

impl Handle {
    /// A handle, and the events that the core is to be run with.
    pub fn new() -> (Self, Events) {
        let (events, receiver) = channel();
        let (reports, reported) = sync_channel(REPORTS);
        let handle = Self {
            events,
            reports,
            woken: Arc::default(),
            waiting: Arc::default(),
            touched: Arc::default(),
            heard: watch::Sender::new(0),
            flows: broadcast::Sender::new(FOLLOWED),
            drops: broadcast::Sender::new(FOLLOWED),
        };
        let events = Events {
            events: receiver,
            reports: reported,
        };
        (handle, events)
    }

    /// Tells the core something; false when it has ended.
    pub fn tell(&self, event: Event) -> bool {
        self.events.send(event).is_ok()
    }

    /// Hands the core a report, and waits while too many wait there; false when it has ended.
    pub(crate) fn report(&self, report: Report) -> bool {
        self.reports.send(report).is_ok() && self.wake()
    }

    fn wake(&self) -> bool {
        self.woken.swap(true, Ordering::AcqRel) || self.tell(Event::Reported)
    }

    /// Tells the core that somebody else changed our tables: it looks before the next event.
    pub fn tables_touched(&self, foreign: Foreign) -> bool {
        match foreign {
            Foreign::Changed => &self.touched.changed,
            Foreign::Lost => &self.touched.lost,
        }
        .store(true, Ordering::Release);
        self.tell(Event::TablesTouched)
    }

    /// Runs something on the core's thread and waits for its answer.
    pub async fn call<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut Core) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, waiting) = oneshot::channel();
        let call = Event::Call(Box::new(move |core| {
            // Nobody waits any more when the client has gone.
            let _ = answer.send(run(core));
        }));
        if !self.tell(call) {
            return Err(Error::Ending);
        }
        waiting.await.unwrap_or(Err(Error::Ending))
    }
}

/// What others did to our tables since the core looked last.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub(super) changed: AtomicBool,
    pub(super) lost: AtomicBool,
}

impl Core {
    /// Some of the reports; those behind them come after the events that wait by now.
    pub(super) fn read_reports(&mut self, events: &Events) {
        // First: whoever reports from here on wakes the core anew.
        self.handle.woken.store(false, Ordering::Release);
        let mut left = AT_ONCE;
        for report in events.reports.try_iter().take(AT_ONCE) {
            left -= 1;
            match report {
                Report::Flow(event) => self.flow_seen(&event),
                Report::Dropped(packet, sender) => self.drop_seen(&packet, sender),
                Report::PortsListed(ports) => self.ports.replace(ports),
                Report::Lost => self.counts.proof_losses += 1,
            }
        }
        if left == 0 {
            self.planner.reports_are_late();
            self.handle.wake();
        }
    }
}

#[cfg(test)]
mod tests;
