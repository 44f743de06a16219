use super::*;

#[test]
fn marks_are_distinct_and_keep_to_their_bits() {
    let mut values: Vec<u32> = VALUES.to_vec();
    values.sort_unstable();
    values.dedup();
    assert_eq!(values.len(), Mark::COUNT);
    assert!(values.iter().all(|value| *value != 0 && value & !MASK == 0));
    assert_eq!(Mark::nth(Mark::COUNT), None);
    assert_eq!(Mark::nth(0).unwrap().to_string(), "0x10/0xf0");
}

/// Other programs' bits, and the whole marks of those that set all 32.
#[test]
fn nobody_elses_packets_look_like_ours() {
    let netavark_kube_tailscale_calico = [0x3000, 0xc000, 0x00ff_0000, 0xffff_0000];
    assert!(
        netavark_kube_tailscale_calico
            .iter()
            .all(|bits| bits & MASK == 0)
    );
    for whole in [0xca6c_u32, 0x00d0_c4e3] {
        assert!(!VALUES.contains(&(whole & MASK)), "{whole:#x}");
    }
}
