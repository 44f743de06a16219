use super::*;

#[test]
fn this_kernel_has_what_is_needed() {
    let missing = missing(&Failpoints::default()).unwrap();
    assert!(
        !missing.iter().any(|feature| feature.is_needed()),
        "{missing:?}"
    );
}

#[test]
fn a_feature_may_be_made_to_look_absent() {
    let failpoints = "probe:netdev-egress=unsupported".parse().unwrap();
    assert!(
        missing(&failpoints)
            .unwrap()
            .contains(&Feature::NetdevEgress)
    );
    assert!(!is_there(Feature::NetdevEgress, &failpoints).unwrap());
    assert!(Feature::NetdevEgress.is_needed());
}

/// The kernel that these tests run on has it (CONFIG_NFT_SOCKET, CONFIG_NF_CONNTRACK_LABELS).
#[test]
fn sockets_have_cgroups_and_flows_labels() {
    assert!(is_there(Feature::SocketCgroup, &Failpoints::default()).unwrap());
}
