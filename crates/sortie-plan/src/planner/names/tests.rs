use std::net::IpAddr;

use proptest::prelude::*;
use sortie_api::config::Guard;
use sortie_api::policy::{Action, EgressPolicy, HostPattern, Http, PolicyName, Protocol};
use sortie_api::workload::WorkloadId;

use super::{Known, REMEMBERED, Told};
use crate::compile::treatment::Treatment;
use crate::nft::{Family, text};
use crate::op::Op;
use crate::planner::Planner;
use crate::planner::tests::{NAMES, any_policy, container, destination, environment, policy, v4};
use crate::precedence::{Candidate, Target};
use crate::resolve::{Decision, Exit, Refusal, resolve};

const EGRESS: &str = "203.0.113.11";

fn ip(address: &str) -> IpAddr {
    address.parse().unwrap()
}

fn by_host(name: &str, host: &str, ports: &[u16], address: &str) -> EgressPolicy {
    let mut policy = policy(name, &[], ports, v4(address));
    policy.destinations[0].hosts = vec![HostPattern::try_from(host.to_owned()).unwrap()];
    policy
}

fn planner(policies: Vec<EgressPolicy>) -> Planner {
    let mut planner = Planner::new(environment(&[EGRESS, "203.0.113.12"], Guard::Networks));
    planner.policies_changed(policies);
    planner.workload(container("web", None, 30, &["172.17.0.2"]), None);
    planner
}

fn web() -> WorkloadId {
    "docker/web".to_owned().into()
}

fn answer(planner: &mut Planner, name: &str, address: &str) -> IpAddr {
    let (told, _) = planner.learned(&web(), name, &[ip(address)]);
    assert_eq!(told[0].real, ip(address));
    told[0].answer.unwrap()
}

/// The elements of all sets whose name begins so.
fn held(planner: &Planner, prefix: &str) -> Vec<String> {
    let desired = planner.desired();
    let sets = &desired.tables[&Family::Inet].sets;
    let sets = sets.iter().filter(|(name, _)| name.starts_with(prefix));
    let elements = sets.flat_map(|(_, set)| {
        let elements = set.elements.iter();
        elements.map(|(key, data)| text::element(set, key, data))
    });
    elements.collect()
}

#[test]
fn names_that_mean_the_same_share_an_address() {
    let mut planner = planner(vec![by_host("bank", "*.bank.example", &[], EGRESS)]);
    for name in ["api.bank.example", "www.bank.example", "api.bank.example"] {
        assert_eq!(
            answer(&mut planner, name, "198.51.100.7"),
            ip("198.51.100.7")
        );
    }
    assert_eq!(held(&planner, "named4"), ["172.17.0.2 . 198.51.100.7"]);
    assert_eq!(held(&planner, "learned4"), ["172.17.0.2 . 198.51.100.7"]);
    assert_eq!(held(&planner, "stand-ins4"), Vec::<String>::new());
    let names: Vec<String> = planner
        .names_of(&web(), ip("198.51.100.7"))
        .map(str::to_owned)
        .collect();
    assert_eq!(names, ["api.bank.example", "www.bank.example"]);
}

#[test]
fn the_later_of_two_names_that_differ_is_answered_with_a_stand_in() {
    let mut planner = planner(vec![by_host("bank", "bank.example", &[], EGRESS)]);
    assert_eq!(
        answer(&mut planner, "other.example", "198.51.100.7"),
        ip("198.51.100.7")
    );
    assert_eq!(
        answer(&mut planner, "bank.example", "198.51.100.7"),
        ip("198.18.0.1")
    );
    assert_eq!(
        answer(&mut planner, "bank.example", "198.51.100.7"),
        ip("198.18.0.1")
    );
    assert_eq!(
        answer(&mut planner, "other.example", "198.51.100.7"),
        ip("198.51.100.7")
    );
    assert_eq!(held(&planner, "named4"), ["172.17.0.2 . 198.18.0.1"]);
    assert_eq!(
        held(&planner, "stand-ins4"),
        ["172.17.0.2 . 198.18.0.1 : 198.51.100.7"]
    );
    assert_eq!(
        held(&planner, "learned4"),
        ["172.17.0.2 . 198.18.0.1", "172.17.0.2 . 198.51.100.7"]
    );
}

#[test]
fn a_policy_applies_to_what_was_looked_up_before() {
    let mut planner = planner(Vec::new());
    assert_eq!(
        answer(&mut planner, "bank.example", "198.51.100.7"),
        ip("198.51.100.7")
    );
    assert_eq!(planner.by_name().count(), 0);
    planner.policies_changed(vec![by_host("bank", "bank.example", &[], EGRESS)]);
    assert_eq!(held(&planner, "named4"), ["172.17.0.2 . 198.51.100.7"]);
    assert_eq!(planner.by_name().count(), 1);
    planner.policies_changed(Vec::new());
    assert_eq!(held(&planner, "named4"), Vec::<String>::new());
}

/// A packet on its way has found the former chain, and asks its sets when they are others already.
#[test]
fn what_was_told_is_there_until_packets_have_passed() {
    let mut planner = planner(vec![by_host("bank", "bank.example", &[], EGRESS)]);
    // Keeps the former chain.
    planner.workload(container("mail", None, 31, &["172.17.0.3"]), None);
    answer(&mut planner, "bank.example", "198.51.100.7");
    let mut other = by_host("bank", "bank.example", &[], "203.0.113.12");
    other.name = PolicyName("only-web".to_owned());
    other.workloads[0].names = vec!["web".to_owned()];
    other.priority = 1;
    let both = vec![by_host("bank", "bank.example", &[], EGRESS), other.clone()];
    let [shared, alone] = [both, vec![other]].map(|policies| {
        let ops = planner.policies_changed(policies);
        let passed = ops.iter().position(|op| *op == Op::LetPass).unwrap();
        let text = |ops: &[Op]| ops.iter().map(ToString::to_string).collect::<Vec<_>>();
        (text(&ops[..passed]), text(&ops[passed + 1..]))
    });
    let goes = |text: &String| text.starts_with("nft delete") || text.starts_with("nft flush");
    for (before, behind) in [&shared, &alone] {
        let of_names = |text: &&String| text.contains("named4") || text.contains("learned4");
        assert!(
            !before.iter().any(|text| goes(text) && of_names(&text)),
            "{before:?}"
        );
        assert!(
            !before.iter().any(|text| text.contains("delete chain")),
            "{before:?}"
        );
        assert!(
            before
                .iter()
                .any(|text| text.contains("add element inet sortie check4"))
                || before
                    .iter()
                    .any(|text| text.contains("delete element inet sortie check4")),
            "{before:?}"
        );
        assert!(
            behind
                .iter()
                .filter(|text| text.starts_with("nft"))
                .all(goes),
            "{behind:?}"
        );
    }
    assert!(
        shared.1[0].starts_with("nft delete element inet sortie learned4"),
        "{shared:?}"
    );
    assert!(
        !alone.1.iter().any(|text| text.contains("delete element")),
        "{alone:?}"
    );
}

#[test]
fn names_last_as_long_as_the_workload() {
    let mut planner = planner(vec![by_host("bank", "bank.example", &[], EGRESS)]);
    answer(&mut planner, "bank.example", "198.51.100.7");
    // It got another address.
    let mut workload = container("web", None, 30, &["172.17.0.9"]);
    planner.workload(workload.clone(), None);
    assert_eq!(held(&planner, "named4"), ["172.17.0.9 . 198.51.100.7"]);
    // The engine tells another time of its start than the runtime did.
    workload.started += 1;
    planner.workload(workload.clone(), None);
    assert_eq!(held(&planner, "named4"), ["172.17.0.9 . 198.51.100.7"]);
    // It was started anew.
    workload.pid += 1;
    planner.workload(workload, None);
    assert_eq!(held(&planner, "named4"), Vec::<String>::new());
    answer(&mut planner, "bank.example", "198.51.100.7");
    planner.workload_gone(&web());
    assert_eq!(held(&planner, "named4"), Vec::<String>::new());
    let told = planner.learned(&web(), "bank.example", &[ip("198.51.100.7")]);
    let as_is = Told {
        real: ip("198.51.100.7"),
        answer: Some(ip("198.51.100.7")),
        new: false,
    };
    assert_eq!(told, (vec![as_is], Vec::new()));
}

#[test]
fn the_next_agent_goes_on_where_the_last_one_was() {
    let policies = vec![by_host("bank", "bank.example", &[], EGRESS)];
    let mut before = planner(policies.clone());
    let looked_up = [
        ("other.example", "198.51.100.7"),
        ("bank.example", "198.51.100.7"),
        ("www.example", "198.51.100.7"),
        ("bank.example", "198.51.100.8"),
    ];
    for (name, address) in looked_up {
        answer(&mut before, name, address);
    }
    let mut after = Planner::new(environment(&[EGRESS, "203.0.113.12"], Guard::Networks));
    after.policies_changed(policies);
    for known in before.known_names() {
        after.recall_name(known);
    }
    // From when the process was not known yet.
    let mut early = Planner::new(environment(&[EGRESS], Guard::Networks));
    let first = before.known_names().next().unwrap();
    early.recall_name(Known { pid: 0, ..first });
    early.workload(container("web", None, 30, &["172.17.0.2"]), None);
    assert!(early.known_names().eq([first]));
    // Of another run, and of one that has ended meanwhile.
    let (mut other, gone) = (
        before.known_names().next().unwrap(),
        "docker/gone".to_owned().into(),
    );
    after.recall_name(Known {
        workload: &gone,
        ..other
    });
    other.pid += 1;
    let mut another = Planner::new(environment(&[EGRESS], Guard::Networks));
    another.recall_name(other);
    for planner in [&mut after, &mut another] {
        planner.workload(container("web", None, 30, &["172.17.0.2"]), None);
        planner.forget_names_of_others();
    }
    assert_eq!(after.desired(), before.desired());
    assert!(after.known_names().eq(before.known_names()));
    assert_eq!(another.known_names().count(), 0);
    for (name, address) in looked_up {
        let told = answer(&mut before, name, address);
        assert_eq!(answer(&mut after, name, address), told, "{name}");
    }
}

#[test]
fn what_is_unused_for_longest_goes_first() {
    let mut planner = planner(vec![by_host("bank", "bank.example", &[], EGRESS)]);
    let address = |number: usize| {
        IpAddr::from([
            198,
            51,
            u8::try_from(number / 256).unwrap(),
            u8::try_from(number % 256).unwrap(),
        ])
    };
    for number in 0..REMEMBERED {
        planner.learned(&web(), "bank.example", &[address(number)]);
    }
    planner.learned(&web(), "bank.example", &[address(0)]);
    planner.learned(&web(), "bank.example", &[address(REMEMBERED)]);
    let named = held(&planner, "named4");
    assert_eq!(named.len(), REMEMBERED);
    assert!(named.contains(&"172.17.0.2 . 198.51.0.0".to_owned()));
    assert!(!named.contains(&"172.17.0.2 . 198.51.0.1".to_owned()));
}

#[test]
fn a_workloads_namespace_leads_to_the_gateway_what_the_kernel_cannot_decide() {
    let redirects = |ops: &[Op]| -> Vec<String> {
        let of_namespace = |op: &&Op| {
            matches!(
                op,
                Op::AddRedirect(..) | Op::ChangeDirect { .. } | Op::DeleteRedirect(_)
            )
        };
        ops.iter()
            .filter(of_namespace)
            .map(ToString::to_string)
            .collect()
    };
    let mut planner = planner(Vec::new());
    let mut api = by_host("api", "api.example", &[], EGRESS);
    api.destinations[0].http = Some(Http::default());
    let bank = by_host("bank", "bank.example", &[], EGRESS);
    let ops = planner.policies_changed(vec![bank.clone(), api]);
    let led = "in the namespace of process 30: lookups to :19053, TCP to 80, 443, 853 to :19083";
    assert_eq!(redirects(&ops), [led]);
    let direct = |planner: &Planner| -> Vec<IpAddr> {
        let redirects = &planner.desired_network().redirects;
        redirects[&30].direct.iter().copied().collect()
    };
    for (name, address) in [
        ("bank.example", "198.51.100.7"),
        ("api.example", "198.51.100.8"),
        ("other.example", "198.51.100.9"),
    ] {
        let (_, ops) = planner.learned(&web(), name, &[ip(address)]);
        assert_eq!(
            redirects(&ops).len(),
            usize::from(name != "api.example"),
            "{name}"
        );
        assert_eq!(
            redirects(&planner.learned(&web(), name, &[ip(address)]).1),
            Vec::<String>::new()
        );
    }
    assert_eq!(direct(&planner), [ip("198.51.100.7"), ip("198.51.100.9")]);
    // Without requests the kernel decides alone.
    planner.policies_changed(vec![bank]);
    assert_eq!(
        direct(&planner),
        ["198.51.100.7", "198.51.100.8", "198.51.100.9"].map(ip)
    );
    // Its process is not known, and nothing leads its look-ups to the resolver.
    let mut workload = container("web", None, 30, &["172.17.0.2"]);
    workload.pid = 0;
    planner.workload(workload, None);
    assert_eq!(planner.by_name().count(), 0);
    let blocked = Treatment::Blocked(Refusal::Unlearned);
    assert_eq!(
        *planner.workloads()[&web()].placement.of_family(false),
        blocked
    );
    // Another process of the same container, and its end.
    let mut workload = container("web", None, 30, &["172.17.0.2"]);
    workload.pid = 2;
    let ops = planner.workload(workload, None);
    assert_eq!(redirects(&ops).len(), 1, "{ops:?}");
    let first = ops.iter().position(|op| matches!(op, Op::AddRedirect(..)));
    assert!(
        first < ops.iter().position(|op| matches!(op, Op::Nft(..))),
        "{ops:?}"
    );
    let taken_back = "in the namespace of process 2";
    let ops = redirects(&planner.workload_gone(&web()));
    assert!(ops.len() == 1 && ops[0].starts_with(taken_back), "{ops:?}");
    assert!(planner.desired_network().redirects.is_empty());
}

#[test]
fn golden_names_prefixes_and_a_prefix_that_is_denied() {
    let mut rest = policy("rest", &[], &[], v4("203.0.113.12"));
    rest.destinations.clear();
    let mut deny = policy("deny", &["198.51.100.0/24"], &[25], Action::Deny);
    deny.name = PolicyName("deny".to_owned());
    let mut bank = by_host("bank", "bank.example", &[443], EGRESS);
    bank.destinations.push(destination(&["192.0.2.0/24"], &[]));
    let planner = planner(vec![rest, deny, bank]);
    let desired = planner.desired();
    let inet = &desired.tables[&Family::Inet];
    let chains = inet
        .chains
        .iter()
        .filter(|(name, _)| name.contains("4-") && name.contains(|c: char| c.is_ascii_digit()));
    let digest = |text: &str| {
        let set = planner.by_name().next().unwrap().placement.of_family(false);
        let crate::compile::treatment::Treatment::Set(set) = set else {
            panic!("{set:?}")
        };
        let check = set.check_chain();
        text.replace(check.trim_start_matches("check4-"), "DIGEST")
    };
    let chains = chains.filter(|(name, _)| {
        name.starts_with("check4-")
            || name.starts_with("forbid4-")
            || name.starts_with("translate4-")
    });
    let text: Vec<String> = chains
        .map(|(name, chain)| digest(&format!("{name}:\n{}", text::rules(&chain.rules))))
        .collect();
    insta::assert_snapshot!(text.join("\n"));
}

proptest! {
    /// The chains of a set say what `resolve` says, for every name that the workload was told the
    /// address for. What has no name and goes to a port that the gateway sees is not theirs.
    #[test]
    fn sets_and_resolve_agree(
        policies in prop::collection::btree_map(0u8..4, any_policy(), 1..4),
        to in prop::sample::select(vec!["203.0.113.70", "203.0.113.200", "192.0.2.7", "2001:db8::7", "2001:db9::7"]),
        port in prop::sample::select(vec![25, 80, 443, 5432]),
        name in prop::option::of(prop::sample::select(NAMES.to_vec())),
    ) {
        let policies = policies.into_iter().map(|(i, p)| EgressPolicy { name: PolicyName(format!("p{i}")), ..p });
        let mut planner = Planner::new(environment(&[EGRESS, "203.0.113.12", "203.0.113.13", "2001:db8::13"], Guard::Networks));
        planner.policies_changed(policies.collect());
        planner.workload(container("web", None, 30, &["172.17.0.2", "fd00::2"]), None);
        if let Some(name) = name {
            planner.learned(&web(), name, &[ip(to)]);
        }
        let tracked = &planner.workloads()[&web()];
        let Treatment::Set(set) = tracked.placement.of_family(ip(to).is_ipv6()) else {
            return Ok(());
        };
        let target = Target { name, ..Target::address(ip(to), Some((Protocol::Tcp, port))) };
        let candidates = Candidate::ordered(tracked.policies.iter().map(AsRef::as_ref));
        let decided = match resolve(&candidates, target, &[], &planner) {
            Decision::Decided { exit: Exit::Egress(address), .. } => Some(address),
            _ => None,
        };
        let meant = name.map(|name| set.meant(name));
        let compiled = set.egress(target, meant.as_ref()).map(|leads| leads.address);
        if name.is_some() || port == 25 || port == 5432 {
            prop_assert_eq!(compiled, decided);
        } else {
            prop_assert!(compiled == decided || compiled.is_none());
        }
    }
}
