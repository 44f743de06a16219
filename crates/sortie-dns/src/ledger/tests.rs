use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds {
    names: 4,
    addresses: 3,
};
const PREFIX: Ipv6Addr = Ipv6Addr::new(0xfd53, 0x6f72, 0x7469, 1, 0, 0, 0, 0);

fn ip(last: u8) -> IpAddr {
    Ipv4Addr::new(203, 0, 113, last).into()
}

fn ledger() -> Ledger<&'static str> {
    Ledger::new(BOUNDS, PREFIX, 4)
}

#[test]
fn names_with_one_decision_share_an_address() {
    let (mut ledger, now) = (ledger(), Instant::now());
    let [a, b] = ["a.example", "b.example"].map(DnsName::from);
    let put = Step::Put {
        address: ip(1),
        real: None,
        decision: "bank",
    };
    assert_eq!(
        ledger.learn(&a, &[ip(1)], &"bank", now),
        (vec![Answered::Kept], vec![put])
    );
    assert_eq!(
        ledger.learn(&b, &[ip(1)], &"bank", now),
        (vec![Answered::Kept], vec![])
    );
    assert_eq!(
        ledger.learn(&a, &[ip(1)], &"bank", now),
        (vec![Answered::Kept], vec![])
    );
}

#[test]
fn the_later_of_two_decisions_gets_an_address_that_stands_for_it() {
    let (mut ledger, now) = (ledger(), Instant::now());
    let [a, b] = ["a.example", "b.example"].map(DnsName::from);
    ledger.learn(&a, &[ip(1)], &"bank", now);
    let (told, steps) = ledger.learn(&b, &[ip(1), ip(2)], &"plain", now);
    let [Answered::Replaced(fake), Answered::Kept] = told[..] else {
        panic!("{told:?}");
    };
    let leads = Step::Put {
        address: fake,
        real: Some(ip(1)),
        decision: "plain",
    };
    assert_eq!(steps[0], leads);
    // The first name's connections go on as they were.
    assert_eq!(
        ledger.learn(&a, &[ip(1)], &"bank", now),
        (vec![Answered::Kept], vec![])
    );
    // Told again, it is the same one, and put again: the writer may have lost it.
    assert_eq!(
        ledger.learn(&b, &[ip(1)], &"plain", now),
        (vec![told[0]], vec![leads])
    );
}

#[test]
fn a_changed_policy_decides_an_address_anew_when_it_is_one_names() {
    let (mut ledger, now) = (ledger(), Instant::now());
    let a = DnsName::from("a.example");
    ledger.learn(&a, &[ip(1)], &"bank", now);
    let (told, steps) = ledger.learn(&a, &[ip(1)], &"plain", now);
    assert_eq!(told, [Answered::Kept]);
    assert!(matches!(
        steps[..],
        [Step::Put {
            real: None,
            decision: "plain",
            ..
        }]
    ));
}

#[test]
fn what_nobody_is_told_any_more_is_taken_out() {
    let (mut ledger, now) = (ledger(), Instant::now());
    let [a, b] = ["a.example", "b.example"].map(DnsName::from);
    ledger.learn(&a, &[ip(1), ip(2), ip(3)], &"bank", now);
    ledger.learn(&b, &[ip(1)], &"bank", now);
    let (_, steps) = ledger.learn(&a, &[ip(4), ip(5)], &"bank", now);
    // 1 was the oldest, but the other name has it too.
    let gone: Vec<_> = steps
        .iter()
        .filter(|it| matches!(it, Step::TakeOut(_)))
        .collect();
    assert_eq!(gone, [&Step::TakeOut(ip(2))]);
}

proptest! {
    /// Whatever is learned: what a client was told last of a name is in the kernel with that name's
    /// decision, unless it was given up, and leads to the real address.
    #[test]
    fn the_kernel_has_what_clients_were_told(
        learned in prop::collection::vec((0..6_u8, 0..8_u8), 1..150),
    ) {
        let (mut ledger, now) = (ledger(), Instant::now());
        let mut kernel: HashMap<IpAddr, (Option<IpAddr>, &str)> = HashMap::new();
        for (which, last) in learned {
            let name = DnsName::from(format!("n{which}").as_str());
            let decision = if which % 2 == 0 { "even" } else { "odd" };
            let (told, steps) = ledger.learn(&name, &[ip(last)], &decision, now);
            for step in steps {
                match step {
                    Step::Put { address, real, decision } => {
                        kernel.insert(address, (real, decision));
                    }
                    Step::TakeOut(address) => {
                        kernel.remove(&address);
                    }
                }
            }
            let expected = match told[..] {
                [Answered::Kept] => kernel.get(&ip(last)) == Some(&(None, decision)),
                [Answered::Replaced(fake)] => kernel.get(&fake) == Some(&(Some(ip(last)), decision)),
                _ => false,
            };
            prop_assert!(expected, "{name} {last}: {told:?}, {kernel:?}");
        }
        // Nothing stays for ever: four names with three addresses, and four that stand for others.
        prop_assert!(kernel.len() <= 16);
    }
}
