use std::time::Duration;

use sortie_lab::frame::{Headers, Mac, Payload};
use sortie_lab::{Direction, Frame};

use super::*;

const EGRESS: &str = "203.0.113.11";
const DIRECT: &str = "203.0.113.31";

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

fn to() -> Destination {
    Destination {
        v4: ip("198.51.100.7"),
        v6: ip("2001:db8:51::7"),
    }
}

/// How many of the frames that leave with this source at this time are leaks.
fn leaks(tally: &mut Tally, source: &str, at: SystemTime) -> u64 {
    let query = Transport::Udp {
        source_port: 4000,
        destination_port: 53,
    };
    leaks_of(tally, source, at, query)
}

fn leaks_of(tally: &mut Tally, source: &str, at: SystemTime, transport: Transport) -> u64 {
    let before = tally.leaked;
    let packet = Packet {
        source: ip(source),
        destination: to().v4,
        protocol: 17,
        fragment: false,
        transport,
    };
    tally.count(&Frame {
        at,
        direction: Direction::Out,
        length: 60,
        headers: Headers {
            source_mac: Mac([2; 6]),
            destination_mac: Mac([4; 6]),
            vlan: None,
            payload: Payload::Ip(packet),
        },
    });
    tally.leaked - before
}

fn owner(allowed: Allowed) -> Tally {
    let mut tally = Tally::default();
    tally.add("it", to(), allowed);
    tally
}

/// During its time the host's address is right too, and nobody else's; before and behind it is not.
#[test]
fn a_bypass_allows_the_hosts_address_for_its_time() {
    let mut tally = owner(Allowed::Only(vec![ip(EGRESS)]));
    tally.bypasses(0, at(10)..at(12));
    for (second, host) in [(9, 1), (10, 0), (11, 0), (12, 1), (13, 1)] {
        assert_eq!(leaks(&mut tally, HOST_V4, at(second)), host, "{second}");
        assert_eq!(leaks(&mut tally, EGRESS, at(second)), 0, "{second}");
        assert_eq!(leaks(&mut tally, "10.77.1.2", at(second)), 1, "{second}");
        assert_eq!(leaks(&mut tally, "203.0.113.12", at(second)), 1, "{second}");
    }
    // Another one's bypass is nothing to it.
    let other = Destination {
        v4: ip("198.51.100.8"),
        v6: ip("2001:db8:51::8"),
    };
    let mut tally = owner(Allowed::Only(vec![ip(EGRESS)]));
    tally.add("other", other, Allowed::Only(vec![ip(EGRESS)]));
    tally.bypasses(1, at(10)..at(12));
    assert_eq!(leaks(&mut tally, HOST_V4, at(11)), 1);
}

/// While the mode changes both addresses are right, behind it the new one alone.
#[test]
fn a_change_allows_both_until_it_is_done() {
    let only = |text: &str| Allowed::Only(vec![ip(text)]);
    let mut tally = owner(Allowed::Given(policies::MODE));
    assert_eq!(leaks(&mut tally, EGRESS, at(0)), 1, "nothing is given yet");
    tally.policy_gives(policies::MODE, vec![only(EGRESS)]);
    assert_eq!(leaks(&mut tally, EGRESS, at(0)), 0);
    assert_eq!(leaks(&mut tally, DIRECT, at(0)), 1);
    tally.policy_gives(policies::MODE, vec![only(EGRESS), only(DIRECT)]);
    assert_eq!(leaks(&mut tally, EGRESS, at(0)), 0);
    assert_eq!(leaks(&mut tally, DIRECT, at(0)), 0);
    assert_eq!(leaks(&mut tally, HOST_V4, at(0)), 1);
    tally.policy_gives(policies::MODE, vec![only(DIRECT)]);
    assert_eq!(leaks(&mut tally, EGRESS, at(0)), 1);
    assert_eq!(leaks(&mut tally, DIRECT, at(0)), 0);
    // What another policy gives is not its own.
    tally.policy_gives(policies::ADDRESS, vec![only("203.0.113.12")]);
    assert_eq!(leaks(&mut tally, "203.0.113.12", at(0)), 1);
}

/// Audited only, it is whatever the engine makes of it, but never what the policy would give.
#[test]
fn an_audit_gives_no_address() {
    let mut tally = owner(Allowed::Given(policies::ENFORCEMENT));
    let audited = Allowed::AnyBut(vec![ip(EGRESS)]);
    tally.policy_gives(policies::ENFORCEMENT, vec![audited]);
    assert_eq!(leaks(&mut tally, HOST_V4, at(0)), 0);
    assert_eq!(leaks(&mut tally, EGRESS, at(0)), 1);
}

/// On the host's network one has its own address from the first packet on, as everywhere.
#[test]
fn the_hosts_address_is_a_leak_of_who_is_on_its_network() {
    let mut tally = owner(Allowed::Only(vec![ip(EGRESS), ip("2001:db8:113::11")]));
    assert_eq!(leaks(&mut tally, EGRESS, at(0)), 0);
    assert_eq!(leaks(&mut tally, HOST_V4, at(0)), 1);
}

/// Who asks at the former address is answered by the host; nobody's address is excused by that
/// whose address has not changed, and no packet that begins something.
#[test]
fn the_hosts_own_answers_are_not_the_containers() {
    let tcp = |flags| Transport::Tcp {
        source_port: 4000,
        destination_port: 7,
        flags,
    };
    let mut given = owner(Allowed::Given(policies::MODE));
    given.policy_gives(policies::MODE, vec![Allowed::Only(vec![ip(DIRECT)])]);
    assert_eq!(leaks_of(&mut given, EGRESS, at(0), tcp(4)), 0);
    for (source, flags) in [
        (EGRESS, 2),
        (EGRESS, 0x14),
        (EGRESS, 0x19),
        ("10.77.1.2", 4),
    ] {
        assert_eq!(
            leaks_of(&mut given, source, at(0), tcp(flags)),
            1,
            "{source} {flags}"
        );
    }
    let mut fixed = owner(Allowed::Only(vec![ip(DIRECT)]));
    assert_eq!(leaks_of(&mut fixed, EGRESS, at(0), tcp(4)), 1);
}

/// What a path's policy gives is right for its requests, and for frames of the port that any may use.
#[test]
fn a_request_has_its_paths_source() {
    let only = |text: &str| Allowed::Only(vec![ip(text)]);
    let mut tally = owner(only(HOST_V4));
    let (api, other) = (only(EGRESS), only(HOST_V4));
    tally.asks(0, Asks { api, other });
    let mut asked = |path: &str, source: &str| {
        let before = tally.leaked;
        tally.count_request(&Requested {
            at: at(0),
            destination: to().v4,
            source: ip(source),
            host: String::new(),
            path: path.to_owned(),
            head: String::new(),
        });
        tally.leaked - before
    };
    for (path, right, wrong) in [
        ("/api", EGRESS, HOST_V4),
        ("/api/x?y", EGRESS, HOST_V4),
        ("/apis", HOST_V4, EGRESS),
        ("/other", HOST_V4, EGRESS),
    ] {
        assert_eq!(asked(path, right), 0, "{path}");
        assert_eq!(asked(path, wrong), 1, "{path}");
    }
    assert_eq!(tally.requests, [4, 4]);
    let tcp = |destination_port| Transport::Tcp {
        source_port: 4000,
        destination_port,
        flags: 2,
    };
    assert_eq!(leaks_of(&mut tally, EGRESS, at(0), tcp(80)), 0);
    assert_eq!(leaks_of(&mut tally, EGRESS, at(0), tcp(7)), 1);
    assert_eq!(leaks_of(&mut tally, DIRECT, at(0), tcp(80)), 1);
}

/// Who follows a change late may still have the former address for a while, at each destination.
#[test]
fn a_follower_knows_of_a_change_a_while_behind() {
    let only = |text: &str| Allowed::Only(vec![ip(text)]);
    let mut tally = owner(Allowed::Given(policies::PATHS));
    tally.policy_gives(policies::PATHS, vec![only(DIRECT)]);
    tally.policy_gave(policies::PATHS, only(EGRESS), at(2));
    for (second, former) in [(0, 0), (1, 0), (2, 1), (3, 1)] {
        assert_eq!(leaks(&mut tally, EGRESS, at(second)), former, "{second}");
        assert_eq!(leaks(&mut tally, DIRECT, at(second)), 0, "{second}");
    }
}

/// What the gateway has begun may end as it began, and nothing may begin so.
#[test]
fn connections_of_the_gateway_end_as_they_began() {
    let only = |text: &str| Allowed::Only(vec![ip(text)]);
    let mut tally = owner(only(DIRECT));
    tally.on_port(0, 80, Allowed::Given(policies::PATHS));
    tally.policy_gives(policies::PATHS, vec![only(DIRECT)]);
    tally.policy_gave(policies::PATHS, only(EGRESS), at(2));
    let tcp = |destination_port, flags| Transport::Tcp {
        source_port: 4000,
        destination_port,
        flags,
    };
    for (second, port, flags, wrong) in [
        (37, 80, 16, 0),
        (38, 80, 16, 1),
        (121, 80, 17, 0),
        (122, 80, 17, 1),
        (3, 80, 2, 1),
        (3, 7, 17, 1),
    ] {
        let leaked = leaks_of(&mut tally, EGRESS, at(second), tcp(port, flags));
        assert_eq!(leaked, wrong, "{second} {port} {flags}");
    }
    assert_eq!(leaks_of(&mut tally, HOST_V4, at(3), tcp(80, 17)), 1);
}
