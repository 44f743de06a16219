//! Hosts, uplinks, observers and the frame reader, without an engine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sortie_lab::{
    ALL_TRAFFIC, Call, HostSpec, Lab, Mark, Protocol, Result, SOON, Traffic, UplinkSpec,
};

const HOST_4: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 5));
const HOST_6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 5));

fn uplink() -> UplinkSpec {
    UplinkSpec::new(&["203.0.113.5/24", "2001:db8:113::5/64"])
}

fn v4(last: u8) -> IpAddr {
    [203, 0, 113, last].into()
}

#[test]
fn a_host_is_seen_with_its_own_addresses() -> Result<()> {
    let lab = Lab::new("own")?;
    let host = lab.host(&HostSpec::new("h1").uplink(uplink()))?;
    let to = lab.destination()?;
    for traffic in ALL_TRAFFIC {
        lab.expect_source(&host, traffic, to.v4, HOST_4)?;
        lab.expect_source(&host, traffic, to.v6, HOST_6)?;
    }
    let seen = lab
        .internet()
        .observer()
        .wait_for(SOON, "the TCP call is noted", |seen| {
            seen.protocol == Protocol::Tcp && seen.destination.ip() == to.v6
        })?;
    assert_eq!(seen.source.ip(), HOST_6);
    Ok(())
}

#[test]
fn a_wrong_expectation_fails_and_shows_the_frames() -> Result<()> {
    let lab = Lab::new("wrong")?;
    let host = lab.host(&HostSpec::new("h1").uplink(uplink()))?;
    let to = lab.destination()?;
    for traffic in ALL_TRAFFIC {
        let error = lab
            .expect_source(&host, traffic, to.v4, v4(11))
            .unwrap_err()
            .to_string();
        for part in ["h1 up0 out", "203.0.113.5", "tests/topology.rs"] {
            assert!(error.contains(part), "{part} is not in: {error}");
        }
        lab.expect_nothing(&host, traffic, to.v4).unwrap_err();
    }
    Ok(())
}

#[test]
fn egress_addresses_are_answered_on_the_link_and_routed_ones_without_arp() -> Result<()> {
    let lab = Lab::new("egress")?;
    let uplink = uplink()
        .address("203.0.113.11/32")
        .address("192.0.2.65/32")
        .routed("192.0.2.64/28");
    let host = lab.host(&HostSpec::new("h1").uplink(uplink))?;
    let to = lab.destination()?;
    let sources = [v4(11), [192, 0, 2, 65].into()];
    for source in sources {
        Call::new(Traffic::Ping, source).make(lab.internet())?;
    }
    let frames: Vec<String> = lab
        .frames_since(&Mark::default())?
        .iter()
        .map(|(_, frame)| frame.to_string())
        .collect();
    let answered = |address: &str| {
        frames
            .iter()
            .any(|frame| frame.contains(&format!("ARP {address} is-at")))
    };
    assert!(answered("203.0.113.11"));
    assert!(!answered("192.0.2.65"));
    for source in sources {
        let mark = lab.mark()?;
        let seen = Call::new(Traffic::Tcp(7), to.v4).from(source).make(&host)?;
        assert_eq!(seen.map(|seen| seen.ip()), Some(source));
        lab.expect_only_sources(&mark, to.v4, &[source])?;
    }
    Ok(())
}

#[test]
fn without_its_address_on_the_host_nothing_answers_for_it() -> Result<()> {
    let lab = Lab::new("gone")?;
    let host = lab.host(&HostSpec::new("h1").uplink(uplink().address("203.0.113.11/32")))?;
    let outside = lab.internet();
    Call::new(Traffic::Ping, v4(11)).make(outside)?;
    host.ip("addr del 203.0.113.11/32 dev up0")?;
    // The router still knows the MAC: the host gets the packet, and does not answer.
    Call::new(Traffic::Ping, v4(11))
        .within(std::time::Duration::from_millis(300))
        .make(outside)
        .unwrap_err();
    Ok(())
}

#[test]
fn the_second_uplink_has_frames_of_its_own() -> Result<()> {
    let lab = Lab::new("two")?;
    let spec = HostSpec::new("h1")
        .uplink(uplink())
        .uplink(UplinkSpec::new(&["192.168.10.5/24"]));
    let host = lab.host(&spec)?;
    let to = lab.destination()?;
    let second: IpAddr = [192, 168, 10, 5].into();
    host.ip(&format!("route add {} via 192.168.10.1 dev up1", to.v4))?;
    lab.expect_source(&host, Traffic::Udp(7), to.v4, second)?;
    let frames = lab.frames_since(&Mark::default())?;
    let left: Vec<&str> = frames
        .iter()
        .filter(|(_, frame)| frame.left_for(to.v4))
        .map(|(on, _)| &**on)
        .collect();
    assert_eq!(left, ["h1 up1"]);

    host.uplinks()[1].down()?;
    let other = lab.destination()?;
    host.ip(&format!(
        "route replace {} via 203.0.113.1 dev up0",
        other.v4
    ))?;
    lab.expect_source(&host, Traffic::Udp(7), other.v4, HOST_4)?;
    Ok(())
}

#[test]
fn two_hosts_share_a_link_and_reach_each_other() -> Result<()> {
    let lab = Lab::new("share")?;
    let first = lab.host(&HostSpec::new("h1").uplink(uplink()))?;
    let second = lab.host(&HostSpec::new("h2").uplink(UplinkSpec::new(&["203.0.113.6/24"])))?;
    Call::new(Traffic::Ping, v4(6)).make(&first)?;
    Call::new(Traffic::Ping, v4(5)).make(&second)?;
    let frames = lab.frames_since(&Mark::default())?;
    let asked = frames.iter().any(|(_, frame)| {
        frame
            .to_string()
            .contains("ARP who-has 203.0.113.6 tell 203.0.113.5")
    });
    assert!(asked, "they are on one link");
    Ok(())
}

#[test]
fn what_is_dropped_on_the_host_never_leaves() -> Result<()> {
    let lab = Lab::new("drop")?;
    let host = lab.host(&HostSpec::new("h1").uplink(uplink()))?;
    let (open, shut) = (lab.destination()?, lab.destination()?);
    host.netns().nft("add table inet t")?;
    host.netns()
        .nft("add chain inet t out { type filter hook output priority 0 ; }")?;
    host.netns()
        .nft(&format!("add rule inet t out ip daddr {} drop", shut.v4))?;
    host.netns()
        .nft(&format!("add rule inet t out ip6 daddr {} drop", shut.v6))?;
    for traffic in ALL_TRAFFIC {
        lab.expect_nothing(&host, traffic, shut.v4)?;
        lab.expect_nothing(&host, traffic, shut.v6)?;
        lab.expect_source(&host, traffic, open.v4, HOST_4)?;
    }
    lab.expect_source(&host, Traffic::Tcp(7), shut.v4, HOST_4)
        .unwrap_err();
    Ok(())
}

#[test]
fn the_machine_is_out_of_reach() -> Result<()> {
    let lab = Lab::new("inside")?;
    let host = lab.host(&HostSpec::new("h1").uplink(uplink()))?;
    let script =
        "ls /run; ls /sys/class/net; echo 1 > /proc/sys/kernel/keys/maxkeys; cat /proc/1/comm";
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script]);
    let outcome = host.run(SOON, command)?;
    assert_eq!(outcome.stdout, "lock\nlo\nup0\nsh\n");
    assert!(
        outcome.stderr.contains("Read-only file system"),
        "{}",
        outcome.stderr
    );
    assert_eq!(outcome.code(), 0);
    Ok(())
}

#[test]
fn addresses_that_cannot_be_read_are_named() -> Result<()> {
    let lab = Lab::new("bad")?;
    let bad = HostSpec::new("h1").uplink(UplinkSpec::new(&["203.0.113.5"]));
    let error = lab.host(&bad).map(drop).unwrap_err().to_string();
    assert_eq!(
        error,
        "\"203.0.113.5\" is not an address with a prefix length: write it as 203.0.113.5/24"
    );
    Ok(())
}
