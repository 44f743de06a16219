use super::*;
use crate::fake;
use crate::nft::{Family, text};
use crate::op::Op;
use crate::state::{HostState, Network, Observed};
use crate::{diff, op};

fn redirect() -> Redirect {
    let parse = |text: &str| text.parse().unwrap();
    Redirect {
        ports: [(80, 80), (8000, 8999)].into(),
        local: ["127.0.0.0/8", "172.17.0.0/16", "::1/128", "fe80::/10"]
            .map(|range| range.parse().unwrap())
            .into(),
        direct: ["198.51.100.7", "2001:db8:51::7"].map(parse).into(),
    }
}

#[test]
fn golden_table_of_a_namespace() {
    insta::assert_snapshot!(text::table(Family::Inet, &redirect().table()));
}

#[test]
fn the_tag_tells_of_rules_not_of_elements() {
    let of = |redirect: Redirect| redirect.table().tag;
    let without = Redirect {
        ports: [(80, 80)].into(),
        ..redirect()
    };
    assert_ne!(of(redirect()), of(without));
    let elsewhere = Redirect {
        direct: BTreeSet::new(),
        local: BTreeSet::new(),
        ..redirect()
    };
    assert_eq!(of(redirect()), of(elsewhere));
}

fn network(redirects: &[(u32, Redirect)]) -> Network {
    Network {
        redirects: redirects.iter().cloned().collect(),
        ..Network::default()
    }
}

#[test]
fn steps_come_change_and_go_by_process() {
    let other = Redirect::default();
    let stages = [
        network(&[]),
        network(&[(7, redirect()), (8, redirect())]),
        network(&[(7, other), (9, redirect())]),
        network(&[]),
    ];
    let mut observed = Observed::default();
    let mut done = Vec::new();
    for wanted in stages {
        let ops = diff::network(&observed.network, &wanted);
        fake::apply(&mut observed, &ops);
        assert_eq!(observed.network, wanted);
        assert_eq!(diff::network(&observed.network, &wanted), []);
        done.extend(op::describe(&ops));
    }
    insta::assert_snapshot!(done.join("\n"));
}

#[test]
fn before_the_engines_have_told_those_that_are_there_stay() {
    let observed = network(&[(7, redirect()), (8, redirect())]);
    let wanted = network(&[(8, Redirect::default())]);
    let ops = diff::network(&observed, &diff::sparing(&observed, &wanted));
    assert_eq!(ops, [Op::AddRedirect(8, Redirect::default())]);
    let whole = diff::diff(
        &Observed {
            network: observed,
            ..Observed::default()
        },
        HostState::default(),
    );
    assert_eq!(whole, [Op::DeleteRedirect(7), Op::DeleteRedirect(8)]);
}
