//! Made-up workloads, always the same ones for the same number: for benches without an engine.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use sortie_api::workload::{
    Endpoint, Families, IfIndex, MacAddress, Network, Snapshot, Workload, WorkloadKind,
};

/// Containers on each simulated bridge, as many as a Linux bridge has ports (`BR_MAX_PORTS`).
const PER_NETWORK: u32 = 1_000;
/// Interface indexes begin here, far above those of a machine's own links.
const FIRST_INDEX: u32 = 1_000_000;

/// `count` containers (at most sixteen million) on as many bridges as they need, each with a v4
/// and a v6 address, a label of its own service and one that all share.
pub fn simulated(count: u32) -> Snapshot {
    Snapshot {
        workloads: (0..count).map(workload).collect(),
        networks: (0..count.div_ceil(PER_NETWORK)).map(network).collect(),
    }
}

/// The workload with this number, the same in every snapshot that has it.
pub fn workload(number: u32) -> Workload {
    let bridge = number / PER_NETWORK;
    let host = 10 + number % PER_NETWORK;
    let (v4, v6) = subnets(bridge);
    let v4 = Ipv4Addr::from(u32::from(v4) + host);
    let v6 = Ipv6Addr::from(u128::from(v6) + u128::from(host));
    let labels = [
        ("com.docker.compose.service", format!("service-{number}")),
        ("simulated", "true".to_owned()),
    ];
    let [_, mac @ ..] = number.to_be_bytes();
    Workload {
        id: format!("docker/{number:064x}").into(),
        name: format!("simulated-{number}"),
        kind: WorkloadKind::Docker,
        labels: labels.into_iter().collect(),
        pid: FIRST_INDEX + number,
        started: i64::from(number),
        endpoints: vec![Endpoint {
            network: network(bridge).name,
            port: IfIndex(FIRST_INDEX * 2 + number),
            bridge: Some(IfIndex(FIRST_INDEX + bridge)),
            mac: MacAddress([0x02, 0x42, 0, mac[0], mac[1], mac[2]]),
            addresses: vec![IpAddr::V4(v4), IpAddr::V6(v6)],
            default_route: Families::default(),
        }],
        published_udp: [].into(),
        cgroup: None,
        unmanageable: None,
    }
}

fn network(bridge: u32) -> Network {
    let (v4, v6) = subnets(bridge);
    Network {
        name: format!("simulated-{bridge}"),
        labels: BTreeMap::new(),
        bridge: Some(IfIndex(FIRST_INDEX + bridge)),
        bridge_name: None,
        subnets: [(IpAddr::V4(v4), 22), (IpAddr::V6(v6), 64)]
            .into_iter()
            .filter_map(|(address, length)| IpNet::new(address, length).ok())
            .collect(),
    }
}

/// The bridge's /22 of 10.0.0.0/8, and its /64 of `fd00::/16`.
fn subnets(bridge: u32) -> (Ipv4Addr, Ipv6Addr) {
    let v4 = u32::from(Ipv4Addr::new(10, 0, 0, 0)) + (bridge << 10);
    let v6 = (0xfd00_u128 << 112) | (u128::from(bridge) << 64);
    (Ipv4Addr::from(v4), Ipv6Addr::from(v6))
}

#[cfg(test)]
mod tests;
