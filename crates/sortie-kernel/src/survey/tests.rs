use super::*;
use crate::testing::{in_namespace, sh};

#[test]
fn statistics_are_summed_over_processors() {
    let text =
        "entries  drop early_drop\n00000001  0000000a 00000000\n00000001 00000006 00000001\n";
    assert_eq!(statistic(text, "drop"), 16);
    assert_eq!(statistic(text, "early_drop"), 1);
    assert_eq!(statistic(text, "expect_new"), 0);
}

/// A host with a bridge, a default route and others' chains, as the survey tells it.
#[test]
fn a_host_is_read_as_it_is() {
    in_namespace(|| {
        sh("ip link add up0 type veth peer name far; ip addr add 203.0.113.5/24 dev up0
            ip addr add 203.0.113.11/32 dev up0; ip link set far up; ip link set up0 mtu 1400 up
            ip route add default via 203.0.113.1 metric 100
            ip route add 198.51.100.0/24 via 203.0.113.1 src 203.0.113.11
            ip link add br0 type bridge; ip addr add 10.77.0.1/24 dev br0
            ip link add br1 type bridge; ip link set br1 up
            nft 'add table ip other; add chain ip other post { type nat hook postrouting priority 50; }
                 add chain ip other forward { type filter hook forward priority 0; policy drop; }
                 add rule ip other forward iifname \"br-*\" accept; add rule ip other forward oifname br0 accept
                 add table inet sortie; add chain inet sortie post { type nat hook postrouting priority 99; }'");
        let survey = read(MarkMask::default()).unwrap();
        let bridges: Vec<&str> = survey
            .interfaces
            .iter()
            .filter(|interface| interface.bridge)
            .map(|interface| interface.name.as_str())
            .collect();
        assert_eq!(bridges, ["br0"], "br1 routes nothing");
        let up0 = survey.interfaces.iter().find(|i| i.name == "up0").unwrap();
        assert_eq!(up0.mtu, 1400);
        assert_eq!(survey.defaults.len(), 1);
        let chosen: Vec<(String, &str)> = survey
            .chosen
            .iter()
            .map(|chosen| (chosen.source.to_string(), chosen.route.as_str()))
            .collect();
        for expected in [
            ("203.0.113.11", "198.51.100.0/24 via 203.0.113.1 dev up0"),
            ("203.0.113.5", "default via 203.0.113.1 dev up0 metric 100"),
        ] {
            assert!(
                chosen.contains(&(expected.0.to_owned(), expected.1)),
                "{chosen:?}"
            );
        }
        assert_eq!(survey.sysctls["net/ipv4/ip_forward"], "0");
        assert_eq!(survey.sysctls["net/ipv4/conf/br0/forwarding"], "0");
        assert_eq!(survey.chains.len(), 2, "{:?}", survey.chains);
        let forward = &survey.chains[1];
        assert!(forward.drops);
        let names = forward.names.as_deref().unwrap();
        assert_eq!(names, ["br-*", "br0"]);
        assert_eq!(survey.chains[0].priority, 50);
        assert_eq!(survey.tables.len(), 1);
        assert_eq!(survey.tables[0].owner, None);
    });
}

#[test]
fn rules_that_decide_by_sets_are_not_judged() {
    in_namespace(|| {
        sh("nft 'add table inet other
                 add chain inet other forward { type filter hook forward priority 0; policy drop; }
                 add rule inet other forward iifname { a, b } accept'");
        let survey = read(MarkMask::default()).unwrap();
        assert_eq!(survey.chains[0].names, None);
    });
}

#[test]
fn marks_of_others_are_read_from_rules_and_chains() {
    in_namespace(|| {
        sh("ip rule add pref 50 fwmark 0x30/0xff lookup main
            ip -6 rule add pref 51 fwmark 0xca6c lookup main
            nft 'add table ip other
                 add chain ip other a; add rule ip other a meta mark set 0x1
                 add chain ip other b; add rule ip other b meta mark set meta mark or 0x10
                 add chain ip other c; add rule ip other c meta mark set meta mark and 0xffffff0f
                 add chain ip other d; add rule ip other d meta mark set ct mark
                 add chain ip other e; add rule ip other e meta mark 0x10 accept'
            iptables-nft -t mangle -A PREROUTING -j MARK --set-xmark 0x4000/0x4000
            iptables-nft -t mangle -A OUTPUT -j CONNMARK --restore-mark --nfmask 0xf0 --ctmask 0xf0");
        let survey = read(MarkMask::default()).unwrap();
        let found: Vec<_> = survey
            .marks
            .iter()
            .map(|mark| (&*mark.by, mark.bits, mark.value))
            .collect();
        assert_eq!(
            found,
            [
                ("ip rule pref 50 fwmark 0x30/0xff", 0xff, Some(0x30)),
                (
                    "ip -6 rule pref 51 fwmark 0xca6c/0xffffffff",
                    u32::MAX,
                    Some(0xca6c)
                ),
                ("ip other a", u32::MAX, Some(1)),
                ("ip other b", 0x10, Some(0x10)),
                ("ip other c", 0xf0, None),
                ("ip other d", u32::MAX, None),
                ("ip mangle PREROUTING", 0x4000, Some(0x4000)),
                ("ip mangle OUTPUT", 0xf0, None),
            ]
        );
    });
}
