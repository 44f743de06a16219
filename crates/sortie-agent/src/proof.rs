//! Flows and drops as the kernel reports them, with the workload each belongs to.
//!
//! Two threads read netlink and hand everything to the core, which alone knows the workloads.

mod packet;

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nfnetlink::conntrack::{self, Conntrack, Filter, Groups, Ports};
use nfnetlink::log::Packet;
use nfnetlink::{Notice, Socket};
use sortie_api::workload::{CgroupId, IfIndex};
use sortie_kernel::flows;
use sortie_kernel::probe::Feature;
use sortie_kernel::senders::Senders;
use sortie_plan::explain::Expected;
use sortie_plan::planner::Tracked;
use sortie_plan::planner::audit::Now;
use sortie_plan::precedence::Target;
use sortie_plan::reason::{LOG_GROUP, Reason};

use crate::Error;
use crate::api;
use crate::core::{Core, Event, Handle, Report};
use crate::overheard;
use crate::source_ports;

/// How long a reader waits before it looks whether anybody still listens.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// How seldom all flows are listed, however many reports are lost: where they are lost, there are many.
const LISTED: Duration = Duration::from_secs(5);

/// Starts the readers that the kernel has something for, in the calling thread's network
/// namespace; they end with the core.
pub fn listen(handle: &Handle, missing: &[Feature]) -> Result<(), Error> {
    if !missing.contains(&Feature::ConntrackEvents) {
        read("flows", handle, flows()?, Handle::report)?;
    }
    if !missing.contains(&Feature::Nflog) {
        read("drops", handle, drops()?, Handle::report)?;
        overheard::listen(handle)?;
    }
    Ok(())
}

fn failed(what: &'static str) -> impl FnOnce(nfnetlink::Error) -> Error {
    move |source| Error::Listen { what, source }
}

/// Packets as they are dropped.
fn drops() -> Result<impl FnMut() -> Result<Option<Report>, nfnetlink::Error>, Error> {
    let log = nfnetlink::log::Config::new(LOG_GROUP);
    let mut drops = nfnetlink::log::listen(&log).map_err(failed("NFLOG"))?;
    let unnamed = |error: &_| tracing::warn!(%error, "drops on the host's network have no name");
    let mut senders = Senders::open().inspect_err(unnamed).ok();
    Ok(move || {
        let notice = drops.next(PATIENCE)?;
        let dropped = |packet| {
            let senders = senders.as_mut();
            let sender = senders.and_then(|senders| sender(senders, &packet));
            Report::Dropped(packet, sender)
        };
        Ok(notice.map(|notice| report(notice, dropped)))
    })
}

/// Whose socket a packet is from that the host itself sent.
fn sender(senders: &mut Senders, packet: &Packet) -> Option<CgroupId> {
    if packet.indev.is_some() || packet.physindev.is_some() {
        return None;
    }
    let asked = senders.cgroup(&packet::tuple(packet)?);
    asked.unwrap_or_else(|error| {
        tracing::warn!(%error, "a drop is told without who sent it");
        None
    })
}

/// Flows as they begin and end. First, and after reports were lost, those that there are: what is
/// reported while they are listed comes after them.
fn flows() -> Result<impl FnMut() -> Result<Option<Report>, nfnetlink::Error>, Error> {
    let groups = Groups::NEW | Groups::DESTROY;
    let mut flows = conntrack::listen(groups).map_err(failed("conntrack's events"))?;
    let mut socket = Socket::open().map_err(failed("conntrack"))?;
    let (mut missed, mut due) = (true, Instant::now());
    Ok(move || {
        if missed && due <= Instant::now() {
            missed = false;
            due = Instant::now() + LISTED;
            return list(&mut socket).map(Some);
        }
        let notice = flows.next(PATIENCE)?;
        missed |= matches!(notice, Some(Notice::Lost));
        Ok(notice.map(|notice| report(notice, Report::Flow)))
    })
}

/// The source ports of all flows there are.
fn list(socket: &mut Socket) -> Result<Report, nfnetlink::Error> {
    let mut ports = Vec::new();
    socket.stream_conntracks(&Filter::all(), |entry| {
        ports.extend(source_ports::port(&entry));
    })?;
    Ok(Report::PortsListed(ports))
}

fn report<T>(notice: Notice<T>, make: impl FnOnce(T) -> Report) -> Report {
    match notice {
        Notice::Event(event) => make(event),
        Notice::Lost => Report::Lost,
    }
}

/// Reads on a thread of its own until the core ends.
pub(crate) fn read<T>(
    name: &str,
    handle: &Handle,
    mut next: impl FnMut() -> Result<Option<T>, nfnetlink::Error> + Send + 'static,
    tell: impl Fn(&Handle, T) -> bool + Send + 'static,
) -> Result<(), Error> {
    let handle = handle.clone();
    let run = move || {
        loop {
            let told = match next() {
                Ok(Some(it)) => tell(&handle, it),
                // Nothing came: a word that means nothing tells whether the core still runs.
                Ok(None) => handle.tell(Event::Call(Box::new(|_| ()))),
                Err(error) => {
                    tracing::warn!(%error, "a report of the kernel could not be read");
                    handle.report(Report::Lost)
                }
            };
            if !told {
                return;
            }
        }
    };
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(Error::system("start a thread"))?;
    Ok(())
}

impl Core {
    /// A flow of a managed workload is remembered, and compared with what the policies promise.
    pub(crate) fn flow_seen(&mut self, event: &conntrack::Event) {
        let (name, entry) = match event {
            conntrack::Event::New(entry) => ("new", entry),
            conntrack::Event::Destroy(entry) => ("end", entry),
            conntrack::Event::Update(_) => return,
        };
        if let Some(port) = source_ports::port(entry) {
            self.source_port(port, name == "new");
        }
        let audit = if name == "new" {
            self.audit_flow(entry)
        } else {
            None
        };
        let Some(flow) = self.flow(name, entry, audit) else {
            return;
        };
        if flow.verdict == "leak" && name == "new" {
            tracing::error!(workload = flow.workload, to = %flow.to, expected = ?flow.expected, actual = %flow.actual, "leak");
        }
        if name == "new" {
            self.count_flow(&flow.verdict);
        }
        self.remember_flow(flow);
    }

    /// Who began a flow: its label says so, or its source.
    fn began(&self, entry: &Conntrack) -> Option<&Tracked> {
        match CgroupId::of_label(entry.labels) {
            Some(cgroup) => self.planner().in_cgroup(cgroup),
            None => self.planner().holder(entry.original.src),
        }
    }

    /// Where to, as it was told.
    fn target(&self, tracked: &Tracked, entry: &Conntrack) -> Target<'static> {
        let flow = flows::flow(entry);
        self.planner().as_told(&tracked.workload.id, &flow)
    }

    fn audit_flow(&mut self, entry: &Conntrack) -> Option<api::AuditNote> {
        if self.planner().audits().is_empty() {
            return None;
        }
        let actual = entry.reply.dst;
        let tracked = self.began(entry)?;
        let target = self.target(tracked, entry);
        let now = match self.planner().expected(tracked, target) {
            Expected::Any => Now::AsWithoutSortie(Some(actual)),
            Expected::Source(_) | Expected::Nothing => Now::With(actual),
        };
        let id = tracked.workload.id.clone();
        self.audit(&id, target, now)
    }

    fn flow(
        &self,
        event: &str,
        entry: &Conntrack,
        audit: Option<api::AuditNote>,
    ) -> Option<api::Flow> {
        let tracked = self.began(entry)?;
        if !tracked.placement.is_managed() && audit.is_none() {
            return None;
        }
        let to = entry.reply.src;
        let port = match entry.reply.ports {
            Ports::Ports { src, .. } => Some(src),
            _ => None,
        };
        let target = self.target(tracked, entry);
        let actual = entry.reply.dst;
        let mut drains = self.planner().draining(entry.original.src);
        let wrong = if drains.any(|(address, _)| address == actual) {
            "drain"
        } else if event == "end"
            || self
                .planner()
                .gave_lately(&tracked.workload.id, target, actual)
        {
            "changed"
        } else if self.was_bypassed(&tracked.workload.id) {
            "bypass"
        } else {
            "leak"
        };
        let (expected, verdict) = match self.planner().expected(tracked, target) {
            Expected::Source(source) if source == actual => (Some(source), "right"),
            Expected::Source(source) => (Some(source), wrong),
            // An entry is only made for a packet that the guard let pass.
            Expected::Nothing => (None, wrong),
            Expected::Any if self.was_bypassed(&tracked.workload.id) => (None, "bypass"),
            Expected::Any => (None, "any"),
        };
        let bytes = entry
            .original_counter
            .zip(entry.reply_counter)
            .map(|(there, back)| there.bytes + back.bytes);
        Some(api::Flow {
            time: time(if event == "end" {
                entry.stop
            } else {
                entry.start
            }),
            event: event.to_owned(),
            workload: tracked.workload.name.clone(),
            protocol: packet::protocol_name(entry.original.protocol),
            from: entry.original.src,
            to,
            port,
            expected,
            actual,
            verdict: verdict.to_owned(),
            audit,
            bytes,
        })
    }

    /// A dropped packet is remembered with the workload behind its port, or else its socket or source.
    pub(crate) fn drop_seen(&mut self, packet: &Packet, sender: Option<CgroupId>) {
        if packet.prefix == Reason::Earlier.name()
            && let Some(tuple) = packet::tuple(packet)
        {
            self.end_earlier(&tuple);
        }
        let summary = packet::summary(packet);
        let port = packet.physindev.or(packet.indev).map(IfIndex);
        let by_port = port.and_then(|port| self.planner().on_port(port));
        let own: Option<IpAddr> = summary.from;
        let target = summary.target();
        let by_socket = sender.and_then(|cgroup| self.planner().in_cgroup(cgroup));
        let by_source = own.and_then(|source| self.planner().holder(source));
        let tracked = by_port.or(by_socket).or(by_source);
        let workload = tracked.map(|tracked| tracked.workload.name.clone());
        let id = tracked.map(|tracked| tracked.workload.id.clone());
        let environment = self.planner().environment();
        let reason = Reason::from_name(&packet.prefix);
        let name = |index: u32| environment.name_of(IfIndex(index));
        let drop = api::Drop {
            time: time(packet.timestamp),
            reason: packet.prefix.clone(),
            meaning: reason.map_or("", Reason::advice).to_owned(),
            workload,
            protocol: summary.protocol,
            from: summary.from,
            from_port: summary.from_port,
            to: summary.to,
            to_port: summary.to_port,
            input: packet.physindev.or(packet.indev).map(name),
            output: packet.outdev.map(name),
        };
        self.remember_drop(drop);
        // Other reasons than a policy's word would drop it under another policy too.
        if let (Some(Reason::Denied | Reason::NoAddress), Some(id), Some(target)) =
            (reason, id, target)
        {
            self.audit(&id, target, Now::Dropped);
        }
    }
}

/// RFC 3339; now, where the kernel says nothing (`nf_conntrack_timestamp` is off).
fn time(at: Option<SystemTime>) -> String {
    let at = at
        .and_then(|at| jiff::Timestamp::try_from(at).ok())
        .unwrap_or_else(jiff::Timestamp::now);
    at.to_string()
}
