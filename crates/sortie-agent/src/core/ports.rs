//! Source ports in use, as people are told of them: by egress address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sortie_api::workload::WorkloadKind;

use super::Core;
use crate::api;
use crate::source_ports::{DIRECT, TRANSLATED, Towards, is_scarce};

/// So many destinations are told at most; there may be as many as flows.
const TOLD: usize = 10;

impl Core {
    /// The destination that most ports of each egress address are used for.
    pub(super) fn busiest_ports(&self) -> BTreeMap<IpAddr, api::SourcePorts> {
        let mut busiest: BTreeMap<IpAddr, (u32, Towards)> = BTreeMap::new();
        let egress: BTreeSet<IpAddr> = self.planner.egress_addresses().collect();
        for (towards, used) in self.ports.counts() {
            if egress.contains(&towards.source) {
                let most = busiest.entry(towards.source).or_insert((used, towards));
                if used > most.0 {
                    *most = (used, towards);
                }
            }
        }
        busiest
            .into_iter()
            .map(|(address, (used, towards))| (address, self.told(towards, used)))
            .collect()
    }

    /// What may soon be used up, the most used first: of egress addresses, those that workloads
    /// have on their own interface among them.
    pub(super) fn scarce_ports(&self) -> Vec<(IpAddr, api::SourcePorts)> {
        let egress: BTreeSet<IpAddr> = self.planner.egress_addresses().collect();
        let mut scarce: Vec<_> = self
            .ports
            .counts()
            .filter(|(towards, used)| is_scarce(*used, self.available(towards.source)))
            .filter(|(towards, _)| {
                egress.contains(&towards.source) || self.is_direct(towards.source)
            })
            .map(|(towards, used)| (towards.source, self.told(towards, used)))
            .collect();
        scarce.sort_by_key(|(address, ports)| (u32::MAX - ports.used, *address));
        scarce.truncate(TOLD);
        scarce
    }

    fn told(&self, towards: Towards, used: u32) -> api::SourcePorts {
        let of = self.available(towards.source);
        api::SourcePorts {
            protocol: if towards.protocol == 17 { "udp" } else { "tcp" }.to_owned(),
            destination: towards.destination,
            port: towards.port,
            used,
            of,
            scarce: is_scarce(used, of),
        }
    }

    /// A workload with the address on its own interface takes ports as its own kernel gives them.
    fn available(&self, address: IpAddr) -> u32 {
        if self.is_direct(address) {
            DIRECT
        } else {
            TRANSLATED
        }
    }

    fn is_direct(&self, address: IpAddr) -> bool {
        let holder = self.planner.holder(address);
        holder.is_some_and(|tracked| tracked.workload.kind == WorkloadKind::Process)
            || self.planner.owner(address).is_some()
    }
}
