//! A row is right only when both witnesses say so.

use super::*;

const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 11));
const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 5));

fn evidence(answered: usize, seen: &[IpAddr], left: &[IpAddr]) -> Evidence {
    Evidence {
        attempts: 3,
        answered,
        seen: seen.to_vec(),
        left: left.to_vec(),
    }
}

#[test]
fn right_when_all_was_answered_and_both_saw_the_address() {
    assert_eq!(
        judge(Some(OWN), &evidence(3, &[OWN], &[OWN])),
        Verdict::Right
    );
}

#[test]
fn wrong_when_either_saw_another_source() {
    for weakened in [
        evidence(3, &[HOST], &[HOST]),
        evidence(3, &[OWN], &[OWN, HOST]),
        evidence(3, &[OWN, HOST], &[OWN]),
        evidence(0, &[], &[HOST]),
    ] {
        assert_eq!(judge(Some(OWN), &weakened), Verdict::Wrong, "{weakened:?}");
    }
}

#[test]
fn unreachable_when_an_attempt_or_a_witness_is_missing() {
    for weakened in [
        evidence(2, &[OWN], &[OWN]),
        evidence(3, &[], &[OWN]),
        evidence(3, &[OWN], &[]),
        evidence(0, &[], &[]),
    ] {
        assert_eq!(
            judge(Some(OWN), &weakened),
            Verdict::Unreachable,
            "{weakened:?}"
        );
    }
}

#[test]
fn nothing_is_right_only_when_nothing_left() {
    assert_eq!(judge(None, &evidence(0, &[], &[])), Verdict::Right);
    for weakened in [
        evidence(1, &[], &[]),
        evidence(0, &[OWN], &[]),
        evidence(0, &[], &[OWN]),
        evidence(0, &[], &[HOST]),
    ] {
        assert_eq!(judge(None, &weakened), Verdict::Wrong, "{weakened:?}");
    }
}

fn row(step: &'static str, expected: Option<IpAddr>, evidence: Evidence) -> Row {
    Row {
        step,
        workload: "shop-mail-1".to_owned(),
        policy: "label sortie.egress",
        expected,
        verdict: judge(expected, &evidence),
        evidence,
    }
}

#[test]
fn the_table_names_a_step_once_and_says_what_is_not_right() {
    let rows = [
        row("1 all runs", Some(OWN), evidence(3, &[OWN], &[OWN])),
        row("1 all runs", Some(OWN), evidence(3, &[HOST], &[HOST])),
        row("2 kill -9", None, evidence(0, &[], &[])),
        row("2 kill -9", Some(OWN), evidence(0, &[], &[])),
    ];
    let text = as_text(&rows);
    assert!(text.lines().take(5).all(|line| line.len() <= 100), "{text}");
    insta::assert_snapshot!(text, @r"
    STEP         WORKLOAD      POLICY                EXPECTED       SEEN           VERDICT
    1 all runs   shop-mail-1   label sortie.egress   203.0.113.11   203.0.113.11   right
                 shop-mail-1   label sortie.egress   203.0.113.11   203.0.113.5    wrong
    2 kill -9    shop-mail-1   label sortie.egress   nothing        nothing        right
                 shop-mail-1   label sortie.egress   203.0.113.11   nothing        unreachable

    shop-mail-1 in step 1 all runs is wrong: 3 of 3 attempts were answered; on the uplink: 203.0.113.5
    shop-mail-1 in step 2 kill -9 is unreachable: 0 of 3 attempts were answered; on the uplink: nothing
    2 of 4 rows are right. Each row: TCP, UDP and ICMP echo, and every frame on the uplink.
    ");
}

#[test]
fn json_has_all_fields() {
    let json = serde_json::to_value(row("1 all runs", None, evidence(0, &[], &[]))).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "step": "1 all runs", "workload": "shop-mail-1", "policy": "label sortie.egress",
            "expected": null, "attempts": 3, "answered": 0, "seen": [], "left": [],
            "verdict": "right",
        })
    );
}
