//! The one thread that decides and acts: every fact, request and timer is an [`Event`] here, so
//! nothing needs a lock and the kernel has one writer.

mod attach;
mod audit;
mod bypass;
mod clients;
mod converge;
mod earlier;
mod engine;
mod event;
mod explain;
mod find;
mod gateway;
mod learned;
mod manager;
mod metrics;
mod networks;
mod own;
mod policy;
mod ports;
mod problems;
mod report;
mod starting;
mod tables;
mod uplinks;
mod workload_state;

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use sortie_api::config::AgentConfig;
use sortie_api::workload::WorkloadId;
use sortie_kernel::facts;
use sortie_kernel::kernel::Lifetime;
use sortie_kernel::probe::Feature;
use sortie_kernel::{Kernel, Look};
use sortie_plan::op::Op;
use sortie_plan::planner::Planner;

use crate::Error;
use crate::api;
use crate::host::environment;
use crate::policies::PolicyFolder;
use crate::source_ports::{self, SourcePorts};

use audit::Audits;
use converge::Failing;
use gateway::GatewayLink;
use manager::Manager;
use metrics::{Counts, Telling};
use own::OwnChecks;

pub use attach::{Attachments, remove_everything};
pub use bypass::{Bypasses, Caller};
pub use engine::Followed;
pub use event::{Event, Events, Handle, Report};
pub use learned::LearnedNames;
pub use networks::NetworkNotes;
use starting::Begins;

/// The kernel reports an address, a route and a link one by one: they are looked at together.
const HOST_SETTLES: Duration = Duration::from_millis(20);
/// What others can change (routes, rules, sysctls) is compared this often.
const DRIFT_CHECK: Duration = Duration::from_secs(30);
/// Whether the host answers for direct addresses is looked at this often: the kernel tells nobody
/// when a proxy neighbour goes (`pneigh_delete` in net/core/neighbour.c).
const NEIGHBOUR_CHECK: Duration = Duration::from_secs(2);
/// Flows and drops remembered for `flows` and `drops` without `--follow`.
const REMEMBERED: usize = 1_000;

/// All that the agent knows and does.
pub struct Core {
    handle: Handle,
    kernel: Kernel,
    config: AgentConfig,
    planner: Planner,
    policies: PolicyFolder,
    engines: Vec<Followed>,
    attachments: Attachments,
    /// Containers that the runtime is starting, and the engine has not told of yet.
    starting: BTreeMap<WorkloadId, Begins>,
    /// What is left to do once the runtime has been answered.
    after_answer: Vec<Op>,
    /// What the kernel lacks that we can do without.
    pub(crate) missing: Vec<Feature>,
    flows: VecDeque<api::Flow>,
    drops: VecDeque<api::Drop>,
    counts: Counts,
    audits: Audits,
    bypasses: Bypasses,
    telling: Option<Telling>,
    gateway: GatewayLink,
    learned: LearnedNames,
    /// Source ports that flows use.
    ports: SourcePorts,
    /// How often somebody else changed our tables.
    foreign_changes: u64,
    /// Our tables are not what we made: they are to be made anew, whatever they look like.
    distrusted: bool,
    /// Why the kernel does not hold what it should, and when it is tried again.
    failing: Option<Failing>,
    /// What the kernel holds was compared with the whole, once the engines had told all their
    /// containers. Before, what it holds for containers stays: a former agent's rules serve until
    /// their engine has told of them.
    compared: bool,
    host_due: Option<Instant>,
    drift_due: Instant,
    own: OwnChecks,
    neighbours_due: Instant,
    manager: Option<Manager>,
    /// When the plan's clock was 0.
    started: Instant,
    stopping: bool,
}

impl Core {
    /// Knows the host and the policies; nothing is changed yet.
    pub fn new(
        handle: Handle,
        mut kernel: Kernel,
        config: AgentConfig,
        policies: PolicyFolder,
        attachments: Attachments,
        engines: Vec<Followed>,
    ) -> Result<Self, Error> {
        let facts = facts::read(kernel.rtnetlink())?;
        let mut environment = environment(&facts, &config);
        environment.gated = kernel.lifetime() == Lifetime::Process;
        let mut planner = Planner::new(environment);
        planner.policies_changed(policies.set.policies().cloned().collect());
        let mut audits = Audits::default();
        audits.follow(&planner);
        Ok(Self {
            handle,
            kernel,
            config,
            planner,
            policies,
            engines,
            attachments,
            starting: BTreeMap::new(),
            after_answer: Vec::new(),
            missing: Vec::new(),
            flows: VecDeque::new(),
            drops: VecDeque::new(),
            counts: Counts::default(),
            audits,
            bypasses: Bypasses::default(),
            telling: None,
            gateway: GatewayLink::default(),
            learned: LearnedNames::default(),
            ports: SourcePorts::default(),
            foreign_changes: 0,
            distrusted: false,
            failing: None,
            compared: false,
            host_due: None,
            drift_due: Instant::now() + DRIFT_CHECK,
            own: OwnChecks::default(),
            neighbours_due: Instant::now() + NEIGHBOUR_CHECK,
            manager: Manager::from_environment(),
            started: Instant::now(),
            stopping: false,
        })
    }

    /// There is no engine that could tell anything: what is not known is nobody's.
    pub(crate) fn alone(&mut self) {
        self.compared = true;
    }

    /// Goes on with what a former agent told of names, and keeps it there.
    pub(crate) fn remember_names(&mut self, mut learned: LearnedNames) {
        learned.recall(&mut self.planner);
        self.learned = learned;
    }

    /// Runs until it is told to stop. Tables, guard, policies and last lines stand before anything
    /// is waited for: at a boot the engine starts its containers before it answers.
    pub fn run(mut self, events: &Events) {
        self.adopt_attachments();
        // Behind the interfaces that it is for.
        if let Err(error) = self.kernel.remove_gate() {
            self.failed(&error.to_string());
        }
        // The comparison makes the steps.
        let _ = self.recall_networks();
        self.converge();
        self.tell_manager(Instant::now());
        loop {
            let time = self.next_due().saturating_duration_since(Instant::now());
            match events.events.recv_timeout(time) {
                Ok(event) => {
                    self.end_drains();
                    self.react(event, events);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // Behind `down`, a repair would make again what it has removed.
            if self.stopping {
                break;
            }
            self.look_at_tables();
            self.on_time();
        }
        if let Some(manager) = &self.manager {
            manager.stopping();
        }
    }

    fn next_due(&self) -> Instant {
        let failing = self.failing.as_ref().map(|failing| failing.due);
        let manager = self.manager.as_ref().and_then(Manager::due);
        let drain = self.planner.next_end();
        let drain = drain.map(|end| self.started + end);
        let starting = self.starting_due();
        let answers = !self.planner.desired_network().neighbours.is_empty();
        let neighbours = answers.then_some(self.neighbours_due);
        [
            self.host_due,
            failing,
            manager,
            starting,
            self.own.due(),
            neighbours,
            drain,
            self.sample_due(),
            self.gateway_due(),
        ]
        .into_iter()
        .flatten()
        .fold(self.drift_due, Instant::min)
    }

    fn react(&mut self, event: Event, events: &Events) {
        if event.may_change_plan() {
            self.gateway_changes();
        }
        match event {
            Event::Engine(engine, change) => self.engine_said(engine, change),
            Event::HostChanged => {
                self.host_due
                    .get_or_insert_with(|| Instant::now() + HOST_SETTLES);
            }
            Event::PoliciesChanged => {
                // What is wrong is in the log, and `status` tells it.
                let _ = self.reload_policies();
            }
            Event::Reported => self.read_reports(events),
            // A word to wake up for: the loop looks.
            Event::TablesTouched => {}
            Event::OwnerEnded(owner) => self.owner_ended(&owner),
            Event::Learned => self.learn(),
            Event::Overheard(heard) => self.overhear(heard),
            Event::Call(call) => {
                call(self);
                let ops = std::mem::take(&mut self.after_answer);
                self.apply(&ops);
            }
            Event::Stop => self.stopping = true,
        }
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        self.end_drains();
        if self.host_due.is_some_and(|due| due <= now) {
            self.host_due = None;
            // What happens inside containers the engine tells.
            self.look_at_host(Look::Nowhere);
        }
        if self
            .failing
            .as_ref()
            .is_some_and(|failing| failing.due <= now)
        {
            self.try_again();
        }
        self.note_ended_bypasses();
        self.end_vain_starts(now);
        if self.drift_due <= now {
            self.drift_due = now + DRIFT_CHECK;
            self.look_at_host(Look::Everywhere);
            self.audits.follow(&self.planner);
        }
        self.look_again_into_own(now);
        if self.neighbours_due <= now {
            self.neighbours_due = now + NEIGHBOUR_CHECK;
            self.look_at_neighbours();
        }
        self.gateway_on_time(now);
        self.tell_manager(now);
        self.tell_metrics(now);
    }

    /// Old flows whose time is over end.
    fn end_drains(&mut self) {
        let ops = self.planner.at(self.started.elapsed());
        self.apply(&ops);
    }

    /// Addresses, routes and interfaces as they are now, and what follows.
    fn see_host(&mut self) -> Result<Vec<Op>, sortie_kernel::Error> {
        self.gateway_changes();
        let facts = facts::read(self.kernel.rtnetlink())?;
        let mut environment = environment(&facts, &self.config);
        environment.gated = self.kernel.lifetime() == Lifetime::Process;
        Ok(self.planner.environment_changed(environment))
    }

    fn look_at_host(&mut self, look: Look) {
        match self.see_host() {
            Ok(ops) => {
                self.apply(&ops);
                let ops = self.recall_networks();
                self.apply(&ops);
                self.settle();
                self.repair_network(look);
            }
            Err(error) => self.failed(&error.to_string()),
        }
    }

    /// The plan as it stands.
    pub fn planner(&self) -> &Planner {
        &self.planner
    }

    /// The flows remembered, oldest first.
    pub fn known_flows(&self) -> Vec<api::Flow> {
        self.flows.iter().cloned().collect()
    }

    /// The drops remembered, oldest first.
    pub fn known_drops(&self) -> Vec<api::Drop> {
        self.drops.iter().cloned().collect()
    }

    /// A flow with this source port began or ended.
    pub(crate) fn source_port(&mut self, port: source_ports::Port, began: bool) {
        if began {
            self.ports.add(port);
        } else {
            self.ports.remove(port);
        }
    }

    /// A flow of a managed workload began.
    pub(crate) fn count_flow(&mut self, verdict: &str) {
        let count = match verdict {
            "right" => &mut self.counts.right,
            "leak" => &mut self.counts.leaks,
            _ => &mut self.counts.any,
        };
        *count += 1;
    }

    pub(crate) fn remember_flow(&mut self, flow: api::Flow) {
        // Nobody may be following.
        let _ = self.handle.flows.send(flow.clone());
        remember(&mut self.flows, flow);
    }

    pub(crate) fn remember_drop(&mut self, drop: api::Drop) {
        let _ = self.handle.drops.send(drop.clone());
        remember(&mut self.drops, drop);
    }
}

fn remember<T>(known: &mut VecDeque<T>, new: T) {
    if known.len() == REMEMBERED {
        known.pop_front();
    }
    known.push_back(new);
}
