use std::net::Ipv4Addr;

use super::*;

const SMALL: Bounds = Bounds {
    names: 2,
    addresses: 3,
};

fn ip(last: u8) -> IpAddr {
    Ipv4Addr::new(203, 0, 113, last).into()
}

fn told(lasts: &[u8]) -> Vec<(IpAddr, Answered)> {
    lasts
        .iter()
        .map(|last| (ip(*last), Answered::Kept))
        .collect()
}

#[test]
fn what_was_told_is_recalled_whole_or_not_at_all() {
    let (mut history, now) = (History::new(SMALL), Instant::now());
    let name = DnsName::from("api.example");
    let fake = Answered::Replaced(ip(99));
    history.note(&name, &[(ip(1), Answered::Kept), (ip(2), fake)], now);
    assert_eq!(
        history.recall(&name, &[ip(2), ip(1)]),
        Some(vec![fake, Answered::Kept])
    );
    assert_eq!(history.recall(&name, &[ip(1), ip(3)]), None);
    assert_eq!(
        history.recall(&DnsName::from("other.example"), &[ip(1)]),
        None
    );
    assert_eq!(history.recall(&name, &[]), Some(Vec::new()));
}

#[test]
fn the_least_recently_told_make_room() {
    let (mut history, now) = (History::new(SMALL), Instant::now());
    let [a, b, c] = ["a", "b", "c"].map(DnsName::from);
    assert_eq!(history.note(&a, &told(&[1, 2]), now), []);
    assert_eq!(history.note(&b, &told(&[3]), now), []);
    // Told again: now `b` is the oldest, and of `a`'s addresses 2.
    assert_eq!(history.note(&a, &told(&[1]), now), []);
    assert_eq!(history.note(&a, &told(&[4, 5]), now), [(a.clone(), ip(2))]);
    assert_eq!(history.note(&c, &told(&[6]), now), [(b, ip(3))]);
    let names: Vec<_> = history.all().into_iter().map(|it| it.name).collect();
    assert_eq!(names, [a, c]);
}

#[test]
fn what_is_forgotten_takes_no_room() {
    let now = Instant::now();
    let mut memory = Memory::new(SMALL);
    let (one, two) = (WorkloadId::from("docker/1"), WorkloadId::from("docker/2"));
    let name = DnsName::from("a");
    memory.of_mut(&one).note(&name, &told(&[1]), now);
    memory.of_mut(&two).note(&name, &told(&[2]), now);
    memory.forget(&one);
    assert!(memory.of(&one).is_none());
    memory.of_mut(&two).forget(&name);
    assert_eq!(memory.of(&two).map(History::all), Some(Vec::new()));
}
