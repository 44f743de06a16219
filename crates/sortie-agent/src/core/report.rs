//! What the agent tells of itself: status and policies.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sortie_api::policy::{Action, EgressPolicy, Enforcement};
use sortie_api::workload::{Cgroup, CgroupId};
use sortie_plan::explain::Unusable;
use sortie_plan::nft::Family;
use sortie_plan::planner::{Planner, Tracked};
use sortie_plan::precedence::Candidate;
use sortie_plan::reason::Reason;
use sortie_plan::resolve::Addresses;

use super::Core;
use super::workload_state::{egress, own_addresses, standing};
use crate::Error;
use crate::api::{AddressStatus, Draining, DropCount, PolicyRecord, Status, WorkloadStatus};

impl Core {
    /// The whole at a glance.
    pub fn status(&mut self) -> Result<Status, Error> {
        let dropped = self.dropped_by_workload()?;
        let workloads = self.planner.workloads().values();
        let mut workloads: Vec<_> = workloads
            .map(|tracked| self.workload_status(tracked, &dropped))
            .chain(self.client_statuses())
            .collect();
        workloads.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        let problems = self.problems();
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
            problems,
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

    fn workload_status(&self, tracked: &Tracked, dropped: &Dropped) -> WorkloadStatus {
        let workload = &tracked.workload;
        let mut addresses: Vec<IpAddr> = workload
            .endpoints
            .iter()
            .flat_map(|e| e.addresses.iter().copied())
            .collect();
        addresses.extend(own_addresses(tracked));
        let policies = in_order(tracked);
        let (state, mut reason, mut fix) = standing(&self.planner, tracked);
        if reason.is_none() && self.planner.asks_names(&workload.id) && !self.has_gateway() {
            reason =
                Some("its policies speak of names, and no gateway answers its lookups".to_owned());
            fix = Some("systemctl start sortie-gateway, or: sortie gateway".to_owned());
        }
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
                if let Some(cgroup) = key.as_cgroup() {
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

/// The policies that select a workload, the first to decide first.
pub(super) fn in_order(tracked: &Tracked) -> Vec<String> {
    let mut policies: Vec<String> = Vec::new();
    for candidate in Candidate::ordered(tracked.policies.iter().map(AsRef::as_ref)) {
        if !policies.contains(&candidate.policy.name.0) {
            policies.push(candidate.policy.name.0.clone());
        }
    }
    policies
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

fn record(planner: &Planner, policy: &EgressPolicy, file: Option<String>) -> PolicyRecord {
    let audit = policy.enforcement == Enforcement::Audit;
    let selected = planner.workloads().values().filter(|t| {
        t.policies.iter().any(|p| p.name == policy.name)
            || audit && planner.auditing(t).any(|p| p.name == policy.name)
    });
    let selected = selected.map(|tracked| tracked.workload.name.clone());
    let clients = planner.clients();
    let clients = clients.filter(|client| client.policies.iter().any(|p| p.name == policy.name));
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
            .chain(clients.map(|client| client.workload.name))
            .collect(),
        yaml: policy.to_yaml().unwrap_or_default(),
    }
}
