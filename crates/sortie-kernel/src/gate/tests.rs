use crate::testing::{in_namespace, open_kernel, sh};

#[test]
fn the_gate_lets_marked_packets_of_its_interface_through_only() {
    in_namespace(|| {
        let (mut kernel, _state) = open_kernel();
        assert!(!kernel.remove_gate().unwrap());
        kernel.close_behind("srt0000000000").unwrap();
        let gate = sh("nft -y list table inet sortie-gate");
        let rules: Vec<&str> = gate.lines().map(str::trim).skip(2).take(3).collect();
        assert_eq!(
            rules,
            [
                "type filter hook postrouting priority 151; policy accept;",
                "iifname \"srt0000000000\" meta mark & 0x000000f0 == 0x000000e0 accept",
                "iifname \"srt0000000000\" drop",
            ]
        );
        drop(kernel);
        assert_eq!(sh("nft -y list table inet sortie-gate"), gate, "it stays");
        let (mut next, _state) = open_kernel();
        assert!(next.remove_gate().unwrap());
        assert_eq!(sh("nft list tables"), "");
    });
}
