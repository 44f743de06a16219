//! What the agent tells of itself: status and policies.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use sortie_api::policy::{Action, EgressPolicy, Enforcement};
use sortie_api::workload::{Cgroup, CgroupId, Workload, WorkloadKind};
use sortie_plan::compile::treatment::Treatment;
use sortie_plan::explain::Unusable;
use sortie_plan::nft::Family;
use sortie_plan::planner::{Planner, Tracked};
use sortie_plan::precedence::Candidate;
use sortie_plan::reason::Reason;
use sortie_plan::resolve::{Addresses, Refusal};

use super::Core;
use crate::Error;
use crate::api::{
    AddressStatus, Draining, DropCount, EngineState, PolicyRecord, Problem, Status, WorkloadState,
    WorkloadStatus,
};

impl Core {
    /// The whole at a glance.
    pub fn status(&mut self) -> Result<Status, Error> {
        let dropped = self.dropped_by_workload()?;
        let workloads = self.planner.workloads().values();
        let mut workloads: Vec<_> = workloads
            .map(|tracked| self.workload_status(tracked, &dropped))
            .collect();
        workloads.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        let environment = self.planner.environment();
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            tables: if self.kernel.owns_tables() {
                "owned"
            } else {
                "plain"
            }
            .to_owned(),
            engines: self.engine_statuses(),
            mark_mask: self.config.mark_mask,
            uplinks: self
                .planner
                .uplinks()
                .iter()
                .map(|uplink| environment.name_of(*uplink))
                .collect(),
            workloads,
            addresses: self.addresses(),
            problems: self.problems(),
            drops: self.drop_counts()?,
            leaks: self.counts.leaks,
            audits: self.audits.status(&self.planner),
        })
    }

    /// Every policy in force, those of labels included.
    pub fn policy_records(&self) -> Vec<PolicyRecord> {
        let files = self.policies.set.files.iter().flat_map(|file| {
            file.policies
                .iter()
                .map(|policy| record(&self.planner, policy, Some(file.name.clone())))
        });
        let labels = self
            .planner
            .workloads()
            .values()
            .filter_map(|tracked| tracked.label.as_ref().ok()?.as_ref());
        let networks = self.planner.network_policies();
        let rest = networks
            .chain(labels)
            .map(|policy| record(&self.planner, policy, None));
        files.chain(rest).collect()
    }

    /// A workload by its name (after its engine's where two have one of that name), its id, or the
    /// beginning of its id that only it has.
    pub fn find(&self, wanted: &str) -> Result<&Tracked, Error> {
        let all = || self.planner.workloads().values();
        let short = |tracked: &Tracked| {
            tracked
                .workload
                .id
                .as_str()
                .split_once('/')
                .map_or("", |(_, id)| id)
                .to_owned()
        };
        // A container without networks and the interface attached to it have one name.
        let exact = || {
            all().filter(|tracked| {
                let Workload { id, name, kind, .. } = &tracked.workload;
                let of_engine = || wanted.strip_prefix(kind.name())?.strip_prefix('/');
                name == wanted || id.as_str() == wanted || of_engine() == Some(name.as_str())
            })
        };
        let engines: BTreeSet<_> = exact().filter_map(|t| t.workload.kind.engine()).collect();
        if engines.len() > 1 {
            let names = engines
                .iter()
                .map(|engine| format!("{}/{wanted}", engine.name()));
            let names: Vec<String> = names.collect();
            return Err(Error::Refused(format!(
                "two engines have a container named {wanted:?}: write {}",
                names.join(" or ")
            )));
        }
        if let Some(exact) = exact().max_by_key(|tracked| !tracked.workload.endpoints.is_empty()) {
            return Ok(exact);
        }
        let mut beginnings =
            all().filter(|tracked| !wanted.is_empty() && short(tracked).starts_with(wanted));
        match (beginnings.next(), beginnings.next()) {
            (Some(one), None) => Ok(one),
            (Some(_), Some(_)) => Err(Error::Refused(format!(
                "several workloads' ids begin with {wanted:?}"
            ))),
            (None, _) => Err(self.unknown(wanted)),
        }
    }

    fn unknown(&self, wanted: &str) -> Error {
        let engines = self.engine_statuses();
        let answers = engines.iter().any(|it| it.state == EngineState::Connected);
        let mut silent = engines.iter().filter(|it| match it.state {
            EngineState::Connected => false,
            EngineState::Away => true,
            EngineState::Absent => !answers,
        });
        match silent.next() {
            None => Error::Unknown(format!(
                "no running workload is named {wanted:?}; `sortie status --all` lists them"
            )),
            Some(engine) => Error::Refused(format!(
                "no workload named {wanted:?} is known, and the engine {} does not answer: {}",
                engine.name,
                engine.reason.as_deref().unwrap_or("no reason given")
            )),
        }
    }

    fn workload_status(&self, tracked: &Tracked, dropped: &Dropped) -> WorkloadStatus {
        let workload = &tracked.workload;
        let mut addresses: Vec<IpAddr> = workload
            .endpoints
            .iter()
            .flat_map(|e| e.addresses.iter().copied())
            .collect();
        addresses.extend(own_addresses(tracked));
        let candidates = Candidate::ordered(tracked.policies.iter().map(AsRef::as_ref));
        let mut policies: Vec<String> = Vec::new();
        for candidate in candidates {
            if !policies.contains(&candidate.policy.name.0) {
                policies.push(candidate.policy.name.0.clone());
            }
        }
        let (state, mut reason, fix) = standing(&self.planner, tracked);
        let bypass = self.bypass_of(&workload.id);
        if let Some(bypass) = &bypass {
            let pid = bypass.pid.map(|pid| format!(" (process {pid})"));
            reason = Some(format!(
                "until {} by uid {}{}: {}",
                bypass.until,
                bypass.uid,
                pid.unwrap_or_default(),
                bypass.reason
            ));
        }
        WorkloadStatus {
            id: workload.id.as_str().to_owned(),
            name: workload.name.clone(),
            kind: workload.kind.name().to_owned(),
            dropped: dropped.of(&addresses, workload.cgroup),
            egress: egress(tracked),
            draining: addresses
                .iter()
                .flat_map(|source| self.planner.draining(*source))
                .map(|(address, left)| Draining::new(address, left))
                .collect(),
            addresses,
            policies,
            audits: self
                .planner
                .auditing(tracked)
                .map(|policy| policy.name.0.clone())
                .collect(),
            bypass,
            state,
            reason,
            fix,
        }
    }

    fn addresses(&self) -> Vec<AddressStatus> {
        let environment = self.planner.environment();
        let mut ports = self.busiest_ports();
        let status = |address: IpAddr| {
            let on_host = environment.addresses.get(&address);
            let owner = self.planner.owner(address);
            let unusable = self.unusable(address);
            AddressStatus {
                address,
                interface: on_host.map(|index| environment.name_of(*index)),
                container: owner.map(|owner| owner.workload.name.clone()),
                uplink: self
                    .planner
                    .uplink(address)
                    .map(|uplink| environment.name_of(uplink)),
                usable: unusable.is_none(),
                fix: unusable.map(|unusable| unusable.fix),
                source_ports: ports.remove(&address),
            }
        };
        self.planner.egress_addresses().map(status).collect()
    }

    /// Why an egress address cannot be used by whom a policy gives it to.
    pub(super) fn unusable(&self, address: IpAddr) -> Option<Unusable> {
        let planner = &self.planner;
        if planner.owner(address).is_some() {
            return planner.no_way_out(address);
        }
        let on_host = planner.environment().addresses.contains_key(&address);
        let unusable = planner.unusable(address)?;
        // Not on the host it waits for its container.
        (on_host || !planner.is_given_direct(address)).then_some(unusable)
    }

    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut add = |object: &str, message: String| {
            problems.push(Problem {
                object: object.to_owned(),
                message,
            });
        };
        if let Some(problem) = &self.policies.problem {
            add(
                "policy folder",
                format!("refused; what ran before keeps running:\n{problem}"),
            );
        }
        let notes = self
            .engines
            .iter()
            .map(|it| ("networks are", &it.notes.problem));
        let policies = ("the last good policies are", &self.policies.unkept);
        for (what, problem) in [policies].into_iter().chain(notes) {
            if let Some(problem) = problem {
                add(
                    "state folder",
                    format!("{what} not kept for the next boot: {problem}"),
                );
            }
        }
        if let Some(failing) = &self.failing {
            add("kernel", failing.error.clone());
        }
        for feature in &self.missing {
            add("kernel", format!("no {feature}: {}", feature.meaning()));
        }
        let engines = self.engine_statuses();
        let nowhere = engines.iter().all(|it| it.state == EngineState::Absent);
        for engine in &engines {
            let message = match (engine.state, &engine.reason) {
                (EngineState::Away, Some(reason)) => {
                    format!("it does not answer: {reason}; its containers' rules stay as they are")
                }
                (EngineState::Absent, Some(reason)) if nowhere => {
                    format!("there is no engine: {reason}")
                }
                _ => continue,
            };
            add(&format!("engine {}", engine.name), message);
        }
        for errors in self.planner.network_errors() {
            add("network label", errors.to_string());
        }
        if self.foreign_changes > 0 {
            add(
                "tables",
                format!(
                    "another program changed or deleted them, {} times; they were made anew each time, and until then packets left unguarded",
                    self.foreign_changes
                ),
            );
        }
        for (address, ports) in self.scarce_ports() {
            let to = SocketAddr::new(ports.destination, ports.port);
            add(
                &address.to_string(),
                format!(
                    "{} of its {} source ports towards {to}/{} are in use; when there are no more, new connections there are dropped: give some workloads another address, or let them reuse connections",
                    ports.used, ports.of, ports.protocol
                ),
            );
        }
        if self.counts.proof_losses > 0 {
            add(
                "proof",
                "reports of flows or drops were lost: more came than could be read".to_owned(),
            );
        }
        problems
    }

    fn dropped_by_workload(&mut self) -> Result<Dropped, Error> {
        let mut dropped = Dropped::default();
        for (family, set) in [
            (Family::Inet, "dropped4"),
            (Family::Inet, "dropped6"),
            (Family::Bridge, "dropped4"),
            (Family::Bridge, "dropped6"),
        ] {
            for (key, count) in self.kernel.element_counts(family, set)? {
                if let Some(address) = key.as_ip() {
                    *dropped.addresses.entry(address).or_default() += count.packets;
                }
            }
        }
        for set in ["cgroup-dropped4", "cgroup-dropped6"] {
            for (key, count) in self.kernel.element_counts(Family::Inet, set)? {
                if let Some(cgroup) = key.as_flow_cgroup() {
                    *dropped.cgroups.entry(cgroup).or_default() += count.packets;
                }
            }
        }
        Ok(dropped)
    }

    /// Every reason, those without drops among them.
    pub(super) fn packets_by_reason(&mut self) -> Result<Vec<(&'static str, u64)>, Error> {
        let mut packets: BTreeMap<String, u64> = BTreeMap::new();
        for family in Family::ALL {
            for (name, count) in self.kernel.named_counts(family)? {
                *packets.entry(name).or_default() += count.packets;
            }
        }
        let counts = Reason::ALL.into_iter().map(|reason| {
            let packets = packets.get(reason.name()).copied();
            (reason.name(), packets.unwrap_or_default())
        });
        Ok(counts.collect())
    }

    fn drop_counts(&mut self) -> Result<Vec<DropCount>, Error> {
        let counts = self.packets_by_reason()?.into_iter();
        let counts = counts.filter(|(_, packets)| *packets > 0);
        let counts = counts.map(|(name, packets)| DropCount {
            reason: name.to_owned(),
            meaning: Reason::from_name(name)
                .map_or("", Reason::advice)
                .to_owned(),
            packets,
        });
        Ok(counts.collect())
    }
}

/// The egress addresses that a container has itself, beside the engine's.
fn own_addresses(tracked: &Tracked) -> impl Iterator<Item = IpAddr> {
    let placement = &tracked.placement;
    let own = [&placement.v4, &placement.v6]
        .into_iter()
        .filter_map(|treated| match treated.treatment {
            Treatment::Own { address, .. } => Some(address),
            _ => None,
        });
    own.filter(|own| placement.own_endpoint(own.is_ipv6()).is_some())
}

/// Dropped packets, by what their workload is known by.
#[derive(Default)]
struct Dropped {
    addresses: BTreeMap<IpAddr, u64>,
    cgroups: BTreeMap<CgroupId, u64>,
}

impl Dropped {
    fn of(&self, addresses: &[IpAddr], cgroup: Option<Cgroup>) -> u64 {
        let by_address = addresses.iter();
        let by_address = by_address.filter_map(|address| self.addresses.get(address));
        let cgroup = cgroup.and_then(|it| self.cgroups.get(&it.id));
        by_address.chain(cgroup).sum()
    }
}

/// Every address that it may leave with.
fn egress(tracked: &Tracked) -> Vec<IpAddr> {
    let placement = &tracked.placement;
    let direct = placement
        .endpoints
        .iter()
        .flat_map(|(endpoint, _)| endpoint.addresses.iter().copied());
    match &placement.v4.treatment {
        Treatment::Direct { .. } => direct.collect(),
        _ => [&placement.v4, &placement.v6]
            .into_iter()
            .flat_map(|treated| treated.treatment.egress_addresses())
            .collect(),
    }
}

/// What a workload leaves with, for people.
pub(super) fn egress_text(planner: &Planner, tracked: &Tracked) -> String {
    let (state, reason, _) = standing(planner, tracked);
    let egress: Vec<String> = egress(tracked).iter().map(ToString::to_string).collect();
    match (state, reason) {
        (WorkloadState::Unmanaged | WorkloadState::Bypassed, _) => "as without Sortie".to_owned(),
        (_, Some(reason)) => {
            format!(
                "{} ({reason})",
                if egress.is_empty() {
                    "nothing".into()
                } else {
                    egress.join(",")
                }
            )
        }
        (_, None) => egress.join(","),
    }
}

/// Steps, in order:
/// 1. Who is bypassed leaves, whatever is wrong.
/// 2. What cannot be managed is an error only where somebody wants it managed.
/// 3. A label that is wrong is an error; nothing leaves.
/// 4. An egress address that cannot be used blocks; one that a container cannot have itself is an
///    error; a family without one is told.
pub(super) fn standing(
    planner: &Planner,
    tracked: &Tracked,
) -> (WorkloadState, Option<String>, Option<String>) {
    let workload = &tracked.workload;
    if planner.bypassed(&workload.id).is_some() {
        let fix = format!("sortie bypass {} --end", workload.name);
        return (WorkloadState::Bypassed, None, Some(fix));
    }
    if let Err(errors) = &tracked.label {
        return (WorkloadState::Error, Some(errors.to_string()), None);
    }
    if let Some(reason) = workload
        .unmanageable
        .as_ref()
        .filter(|_| !tracked.policies.is_empty())
    {
        return (
            WorkloadState::Error,
            Some(format!("it cannot be managed: {reason}")),
            None,
        );
    }
    if !tracked.placement.is_managed() {
        return (WorkloadState::Unmanaged, None, None);
    }
    if workload.kind != WorkloadKind::Process {
        for address in egress(tracked) {
            let own = matches!(
                tracked.placement.of_family(address.is_ipv6()),
                Treatment::Own { .. }
            );
            let unusable = if own {
                planner.no_way_out(address)
            } else {
                planner.unusable(address)
            };
            if let Some(unusable) = unusable {
                return (
                    WorkloadState::Blocked,
                    Some(unusable.reason),
                    Some(unusable.fix),
                );
            }
        }
    }
    for v6 in [false, true] {
        let has = workload
            .endpoints
            .iter()
            .flat_map(|e| &e.addresses)
            .any(|address| address.is_ipv6() == v6);
        let has = has || workload.cgroup.is_some();
        let family = if v6 { "IPv6" } else { "IPv4" };
        match tracked.placement.of_family(v6) {
            Treatment::Blocked(Refusal::NoAddressOfFamily) if has => {
                let reason = format!(
                    "its policy has no {family} egress address: its {family} packets are dropped"
                );
                return (WorkloadState::Ready, Some(reason), None);
            }
            Treatment::Blocked(Refusal::NotDirect) if has => {
                let Some(unusable) = planner.not_direct(tracked, v6) else {
                    continue;
                };
                return (
                    WorkloadState::Error,
                    Some(unusable.reason),
                    Some(unusable.fix),
                );
            }
            Treatment::Blocked(Refusal::Denied) if has => {
                return (
                    WorkloadState::Blocked,
                    Some(format!("its policy denies all {family}")),
                    None,
                );
            }
            _ => {}
        }
    }
    (WorkloadState::Ready, None, None)
}

fn record(planner: &Planner, policy: &EgressPolicy, file: Option<String>) -> PolicyRecord {
    let audit = policy.enforcement == Enforcement::Audit;
    let selected = planner.workloads().values().filter(|t| {
        t.policies.iter().any(|p| p.name == policy.name)
            || audit && planner.auditing(t).any(|p| p.name == policy.name)
    });
    let (action, addresses) = match &policy.action {
        Action::Egress(egress) => ("Egress", egress.addresses().collect()),
        Action::Bypass => ("Bypass", Vec::new()),
        Action::Deny => ("Deny", Vec::new()),
    };
    PolicyRecord {
        name: policy.name.0.clone(),
        file,
        action: action.to_owned(),
        audit,
        addresses,
        workloads: selected
            .map(|tracked| tracked.workload.name.clone())
            .collect(),
        yaml: policy.to_yaml().unwrap_or_default(),
    }
}
