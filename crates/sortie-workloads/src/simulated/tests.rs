use std::collections::BTreeSet;

use super::*;

#[test]
fn ten_thousand_share_nothing_that_identifies_them() {
    let snapshot = simulated(10_000);
    assert_eq!(snapshot.workloads.len(), 10_000);
    assert_eq!(snapshot.networks.len(), 10);
    let mut ids = BTreeSet::new();
    let mut ports = BTreeSet::new();
    let mut macs = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    for workload in &snapshot.workloads {
        let endpoint = &workload.endpoints[0];
        let network = snapshot
            .networks
            .iter()
            .find(|network| network.name == endpoint.network)
            .unwrap();
        assert_eq!(network.bridge, endpoint.bridge);
        for address in &endpoint.addresses {
            assert!(
                network
                    .subnets
                    .iter()
                    .any(|subnet| subnet.contains(address))
            );
            assert!(addresses.insert(*address), "{address} twice");
        }
        assert!(ids.insert(workload.id.clone()));
        assert!(ports.insert(endpoint.port));
        assert!(macs.insert(endpoint.mac));
    }
}

#[test]
fn a_larger_snapshot_begins_with_the_smaller_one() {
    let (small, large) = (simulated(1_000), simulated(1_001));
    assert_eq!(large.workloads[..1_000], small.workloads);
    assert_eq!(large.workloads[1_000], workload(1_000));
    assert_eq!(large.networks[..1], small.networks);
}
