use super::*;

const NETAVARK_KUBE_TAILSCALE_CALICO: [u32; 4] = [0x3000, 0xc000, 0x00ff_0000, 0xffff_0000];

#[test]
fn marks_are_distinct_and_keep_to_their_bits() {
    for (bits, count) in [
        (0xf0, 12),
        (0xff, 252),
        (0xf000_0000, 14),
        (0x000f_f000, 253),
    ] {
        let mask = MarkMask::try_from(bits).unwrap();
        let marks: Vec<Mark> = (0..).map_while(|number| Mark::nth(mask, number)).collect();
        let mut distinct = marks.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!((marks.len(), distinct.len()), (count, count), "{bits:#x}");
        assert_eq!(Mark::count(mask), count);
        let gateway = Mark::gateway(mask);
        assert!(!marks.contains(&gateway), "{gateway}");
        assert!(Mark::is_given_out(mask, gateway.value()), "{gateway}");
        for mark in marks {
            assert!(mark.value() != 0 && mark.value() & !bits == 0, "{mark}");
            assert!(Mark::is_given_out(mask, mark.value()));
        }
    }
    let usual = MarkMask::default();
    assert_eq!(Mark::nth(usual, 0).unwrap().to_string(), "0x10/0xf0");
    assert_eq!(Mark::gateway(usual).to_string(), "0xf0/0xf0");
    assert!(!Mark::is_given_out(usual, Mark::PASS.value()));
}

/// Other programs' bits, and the whole marks of those that set all 32.
#[test]
fn nobody_elses_packets_look_like_ours() {
    let usual = MarkMask::default();
    let mut others = NETAVARK_KUBE_TAILSCALE_CALICO.iter();
    assert!(others.all(|bits| bits & usual.bits() == 0));
    for bits in [0xf0, 0xff, 0x0ff0, 0x00ff_0000] {
        let mask = MarkMask::try_from(bits).unwrap();
        for whole in WHOLE {
            assert!(
                !Mark::is_given_out(mask, whole & bits),
                "{whole:#x} in {bits:#x}"
            );
        }
    }
}
