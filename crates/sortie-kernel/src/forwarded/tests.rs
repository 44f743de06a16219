use super::*;
use crate::testing::{in_namespace, open_kernel, sh};
use sortie_plan::op::Op;

fn let_through(interface: &str) -> [Op; 1] {
    [Op::AddForwarded(interface.to_owned())]
}

fn forwarded(kernel: &mut crate::Kernel) -> Vec<String> {
    kernel
        .observe()
        .unwrap()
        .network
        .forwarded
        .into_iter()
        .collect()
}

/// As Docker 20.10 leaves the filter table.
const DOCKER: &str = "iptables-nft -P FORWARD DROP
    iptables-nft -N DOCKER-USER
    iptables-nft -A FORWARD -j DOCKER-USER
    iptables-nft -A FORWARD -o docker0 -j ACCEPT
    iptables-nft -A DOCKER-USER -j RETURN";

#[test]
fn rules_go_first_into_docker_user_and_iptables_can_list_them() {
    in_namespace(|| {
        sh(DOCKER);
        let before = sh("iptables-nft-save | grep -v '^#'");
        let (mut kernel, _state) = open_kernel();
        kernel.apply(&let_through("srt0")).unwrap();
        let rules = sh("iptables-nft -S DOCKER-USER");
        let lines: Vec<&str> = rules.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "-A DOCKER-USER -o srt0 -m comment --comment sortie -j ACCEPT",
                "-A DOCKER-USER -i srt0 -m comment --comment sortie -j ACCEPT",
                "-A DOCKER-USER -j RETURN",
            ]
        );
        let saved = sh("iptables-nft-save");
        sh(&format!("iptables-nft-restore --test <<'END'\n{saved}END"));
        assert_eq!(forwarded(&mut kernel), ["srt0"]);
        kernel
            .apply(&[Op::DeleteForwarded("srt0".to_owned())])
            .unwrap();
        assert_eq!(sh("iptables-nft-save | grep -v '^#'"), before);
        assert_eq!(forwarded(&mut kernel), [""; 0]);
    });
}

#[test]
fn every_chain_that_drops_gets_them_and_others_none() {
    in_namespace(|| {
        sh("ip6tables-nft -P FORWARD DROP
            nft add table inet filter
            nft add chain inet filter forward '{ type filter hook forward priority 0; policy drop; }'
            nft add table ip open
            nft add chain ip open forward '{ type filter hook forward priority 0; policy accept; }'");
        let (mut kernel, _state) = open_kernel();
        kernel.apply(&let_through("srt0")).unwrap();
        for table in ["ip6 filter", "inet filter"] {
            let listed = sh(&format!("nft list table {table}"));
            assert_eq!(listed.matches("\"srt0\"").count(), 2, "{listed}");
        }
        assert!(!sh("nft list table ip open").contains("srt0"));
        kernel.apply(&let_through("srt0")).unwrap();
        let listed = sh("nft list ruleset");
        assert_eq!(listed.matches("\"srt0\"").count(), 4, "{listed}");
    });
}

#[test]
fn what_an_engine_threw_away_is_missed_and_put_back() {
    in_namespace(|| {
        sh(DOCKER);
        let (mut kernel, _state) = open_kernel();
        kernel.apply(&let_through("srt0")).unwrap();
        sh("iptables-nft -F DOCKER-USER");
        assert_eq!(forwarded(&mut kernel), [""; 0]);
        kernel.apply(&let_through("srt0")).unwrap();
        assert_eq!(forwarded(&mut kernel), ["srt0"]);
    });
}

#[test]
fn where_nothing_drops_nothing_is_needed() {
    in_namespace(|| {
        let (mut kernel, _state) = open_kernel();
        kernel.apply(&let_through("srt0")).unwrap();
        assert_eq!(forwarded(&mut kernel), ["srt0"]);
        assert_eq!(sh("nft list ruleset"), "");
    });
}

#[test]
fn half_of_it_left_by_a_crash_is_removed_at_the_start() {
    in_namespace(|| {
        sh(DOCKER);
        let (mut kernel, _state) = open_kernel();
        kernel.apply(&let_through("srt0")).unwrap();
        kernel.apply(&let_through("srt1")).unwrap();
        drop(kernel);
        sh("iptables-nft -D DOCKER-USER -i srt0 -m comment --comment sortie -j ACCEPT");
        let (mut kernel, _state) = open_kernel();
        assert_eq!(forwarded(&mut kernel), ["srt1"]);
        assert!(!sh("iptables-nft -S").contains("srt0"));
    });
}

#[test]
fn a_firewall_that_cannot_be_seen_is_told() {
    in_namespace(|| {
        sh("iptables-legacy -P FORWARD DROP");
        let (mut kernel, _state) = open_kernel();
        let error = *kernel.apply(&let_through("srt0")).unwrap_err().error;
        assert!(matches!(error, Error::LegacyFirewall { .. }), "{error}");
    });
}
