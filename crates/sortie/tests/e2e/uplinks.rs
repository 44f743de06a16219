//! Several uplinks: containers leave by the one that holds their address, whatever the host's own
//! routes say, or not at all.

use std::net::{IpAddr, SocketAddr};

use sortie_lab::{
    ALL_TRAFFIC, Call, Container, ContainerSpec, EngineKind, Result, Traffic, UplinkSpec,
    eventually,
};

use crate::change::Open;
use crate::ports::Server;
use crate::stage::{DOCKER_20, DOCKER_29_NFTABLES, LIMIT, Stage, ip, snapshot};

pub(crate) const FIRST: &str = "203.0.113.11";
pub(crate) const FIRST_V6: &str = "2001:db8:113::11";
pub(crate) const SECOND: &str = "192.0.2.12";
pub(crate) const SECOND_V6: &str = "2001:db8:2::12";

/// Egress addresses on both uplinks; the default route that counts is the first one's.
pub(crate) fn stage(name: &str, engine: EngineKind) -> Result<Stage> {
    let uplinks = [
        UplinkSpec::new(&["203.0.113.5/24", "2001:db8:113::5/64"]),
        UplinkSpec::new(&["192.0.2.5/24", "2001:db8:2::5/64"]),
    ];
    let stage = Stage::with_uplinks(name, engine, uplinks)?;
    for line in [
        "203.0.113.11/32 dev up0",
        "2001:db8:113::11/128 dev up0 preferred_lft 0 nodad",
        "192.0.2.12/32 dev up1",
        "2001:db8:2::12/128 dev up1 preferred_lft 0 nodad",
    ] {
        stage.host.ip(&format!("addr add {line}"))?;
    }
    Ok(stage)
}

pub(crate) fn container(
    stage: &Stage,
    name: &str,
    addresses: [&str; 2],
    port: u16,
) -> Result<Container> {
    let spec = ContainerSpec::new(name)
        .publish("80/tcp", port)
        .publish("80/udp", port)
        .label("sortie.egress", &addresses.join(","));
    stage.engine.run(&spec)
}

/// Both families and all kinds of traffic are seen with these addresses, and leave by this uplink.
#[track_caller]
pub(crate) fn leaves(
    stage: &Stage,
    container: &Container,
    sources: [&str; 2],
    uplink: &str,
) -> Result<()> {
    let to = stage.lab.destination()?;
    let mark = stage.lab.mark()?;
    for (to, source) in [(to.v4, sources[0]), (to.v6, sources[1])] {
        for traffic in ALL_TRAFFIC {
            stage
                .lab
                .expect_source(container, traffic, to, ip(source))?;
        }
    }
    for (label, frame) in stage.lab.frames_since(&mark)? {
        let packet = frame.left();
        if packet.is_some_and(|packet| [to.v4, to.v6].contains(&packet.destination)) {
            assert_eq!(label, format!("h1 {uplink}"), "{frame}");
        }
    }
    Ok(())
}

#[track_caller]
pub(crate) fn nothing_leaves(stage: &Stage, container: &Container) -> Result<()> {
    let to = stage.lab.destination()?;
    stage
        .lab
        .expect_nothing(container, Traffic::Tcp(7), to.v4)?;
    stage.lab.expect_nothing(container, Traffic::Ping, to.v4)?;
    stage.lab.expect_nothing(container, Traffic::Udp(7), to.v6)
}

/// Waits until both families are answered again, and checks with what.
fn leaves_again(stage: &Stage, container: &Container) -> Result<()> {
    for v6 in [false, true] {
        eventually(LIMIT, "the container is answered again", || {
            let to = stage.lab.destination().map_err(|error| error.to_string())?;
            let to = if v6 { to.v6 } else { to.v4 };
            let call = Call::new(Traffic::Udp(7), to).within(std::time::Duration::from_secs(1));
            call.make(container).map_err(|error| error.to_string())
        })?;
    }
    leaves(stage, container, [SECOND, SECOND_V6], "up1")
}

/// Callers from outside are answered, and are seen as themselves.
fn answers(stage: &Stage, server: &Server, port: u16) -> Result<()> {
    let outside = stage.lab.internet().netns();
    let to = SocketAddr::new(ip("203.0.113.5"), port);
    let callers = server.callers(outside, to)?;
    assert_eq!(callers, [Some(ip("203.0.113.1")); 2], "{to}");
    Ok(())
}

/// One container on each uplink, with every setting of the kernel's check of return paths; a route
/// of the host's own that leads elsewhere; ports published on the first uplink. What `down` leaves
/// is what was before.
fn each_by_its_own(engine: EngineKind) -> Result<()> {
    let mut stage = stage("uplinks", engine)?;
    let first = container(&stage, "first", [FIRST, FIRST_V6], 8081)?;
    let second = container(&stage, "second", [SECOND, SECOND_V6], 8082)?;
    for device in ["all", "up0", "up1", "docker0"] {
        let name = format!("net.ipv4.conf.{device}.rp_filter");
        stage.host.netns().set_sysctl(&name, "1")?;
    }
    // As wg-quick sets it: marks then count when a source is checked.
    let valid = "net.ipv4.conf.all.src_valid_mark";
    stage.host.netns().set_sysctl(valid, "1")?;
    let before = snapshot(&stage.host)?;
    stage.start_agent("")?;
    stage.wait_for("first", "Ready")?;
    stage.wait_for("second", "Ready")?;
    let server = Server::start(&second)?;
    for rp_filter in ["1", "0", "2"] {
        let set = |value| {
            let netns = stage.host.netns();
            netns.set_sysctl("net.ipv4.conf.all.rp_filter", value)
        };
        set(rp_filter)?;
        leaves(&stage, &first, [FIRST, FIRST_V6], "up0")?;
        leaves(&stage, &second, [SECOND, SECOND_V6], "up1")?;
        answers(&stage, &server, 8082)?;
        set("1")?;
    }
    for (network, elsewhere, to, source, gateway) in [
        (
            "198.51.100.0/24",
            "203.0.113.1",
            "198.51.100.9",
            SECOND,
            "192.0.2.1",
        ),
        (
            "2001:db8:51::/64",
            "2001:db8:113::1",
            "2001:db8:51::9",
            SECOND_V6,
            "2001:db8:2::1",
        ),
    ] {
        let route = format!("{network} via {elsewhere} dev up0");
        stage.host.ip(&format!("route add {route}"))?;
        for traffic in ALL_TRAFFIC {
            stage
                .lab
                .expect_source(&second, traffic, ip(to), ip(source))?;
        }
        let explained = stage.json(&["explain", "second", to])?;
        assert_eq!(explained["verdict"], "Egress", "{explained}");
        assert_eq!(explained["uplink"], "up1", "{explained}");
        let taken = format!("via {gateway} dev up1");
        assert_eq!(explained["route"], taken, "{explained}");
        stage.host.ip(&format!("route del {route}"))?;
    }
    stage.ok(&["down"]);
    assert_eq!(before.diff(&snapshot(&stage.host)?), "");
    Ok(())
}

mod each {
    use super::{DOCKER_20, DOCKER_29_NFTABLES, Result};

    #[test]
    fn by_its_own_docker_20() -> Result<()> {
        super::each_by_its_own(DOCKER_20)
    }

    #[test]
    fn by_its_own_docker_29_nftables() -> Result<()> {
        super::each_by_its_own(DOCKER_29_NFTABLES)
    }
}

/// The uplink of one container depends on the destination.
#[test]
fn destinations_choose_the_uplink() -> Result<()> {
    let mut stage = stage("choose", DOCKER_20)?;
    stage.start_agent("")?;
    let applied = stage.apply(
        "apiVersion: sortie.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: bank}\nspec:\n  workloads: [{containers: {names: [pay]}}]\n  destinations:\n  - cidrs: [198.51.100.0/24]\n    ports: [{protocol: TCP, port: 443}]\n  action: Egress\n  egress: {addresses: [192.0.2.12]}\n---\napiVersion: sortie.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: rest}\nspec:\n  workloads: [{containers: {names: [pay]}}]\n  action: Egress\n  egress: {addresses: [203.0.113.11]}\n",
    )?;
    assert_eq!(applied.code(), 0, "{}", applied.stderr);
    let pay = stage.managed(&ContainerSpec::new("pay"))?;
    let to: IpAddr = ip("198.51.100.9");
    for (traffic, to, source) in [
        (Traffic::Tcp(443), to, SECOND),
        (Traffic::Udp(443), to, FIRST),
        (Traffic::Tcp(7), to, FIRST),
        (Traffic::Tcp(443), ip("198.51.101.9"), FIRST),
    ] {
        if to == ip("198.51.101.9") {
            stage.lab.internet().serve("198.51.101.0/24")?;
        }
        stage.lab.expect_source(&pay, traffic, to, ip(source))?;
    }
    Ok(())
}

/// What breaks the second uplink closes its containers, and never sends them through the first.
#[test]
fn a_broken_uplink_closes() -> Result<()> {
    let mut stage = stage("broken", DOCKER_29_NFTABLES)?;
    stage.start_agent("")?;
    let second = container(&stage, "second", [SECOND, SECOND_V6], 8082)?;
    stage.wait_for("second", "Ready")?;
    leaves(&stage, &second, [SECOND, SECOND_V6], "up1")?;
    // Without carrier.
    let far_end = |state| {
        let internet = stage.lab.internet().netns();
        internet.ip(&format!("link set port2 {state}"))
    };
    far_end("down")?;
    nothing_leaves(&stage, &second)?;
    let problems = stage.json(&["status"])?["problems"].to_string();
    assert!(problems.contains("uplink up1"), "{problems}");
    assert!(problems.contains("it has no carrier"), "{problems}");
    far_end("up")?;
    leaves_again(&stage, &second)?;
    // Without a next hop; the line that is printed mends it.
    for (flag, gateway) in [("", "192.0.2.1"), ("-6 ", "2001:db8:2::1")] {
        stage
            .host
            .ip(&format!("{flag}route del default via {gateway}"))?;
        stage.wait_for("second", "Blocked")?;
        let to = stage.lab.destination()?;
        let to = if flag.is_empty() { to.v4 } else { to.v6 };
        stage.lab.expect_nothing(&second, Traffic::Tcp(7), to)?;
        let explained = stage.json(&["explain", "second", &to.to_string()])?;
        assert_eq!(explained["verdict"], "Drop", "{explained}");
        let fix = format!("ip {flag}route add default via GATEWAY dev up1 metric 20000");
        assert_eq!(explained["fix"], fix, "{explained}");
        let status = stage.run(&["status"])?;
        assert!(status.stdout.contains(&fix), "{}", status.stdout);
        let line = fix.replace("GATEWAY", gateway);
        stage.host.ip(line.trim_start_matches("ip "))?;
        stage.wait_for("second", "Ready")?;
    }
    leaves_again(&stage, &second)?;
    // Somebody flushes what is not his.
    let index = stage.host.ip("-o link show up1")?;
    let index: u32 = index
        .split(':')
        .next()
        .and_then(|n| n.parse().ok())
        .expect("an index");
    for family in ["-4", "-6"] {
        stage.host.ip(&format!("{family} rule flush"))?;
        stage
            .host
            .ip(&format!("{family} rule add pref 32766 lookup main"))?;
        leaves_again(&stage, &second)?;
        stage
            .host
            .ip(&format!("{family} route flush table {}", 83_000 + index))?;
        leaves_again(&stage, &second)?;
    }
    Ok(())
}

/// A policy for the container `pay` that lets old connections drain.
fn policy(addresses: [&str; 2], seconds: u16) -> String {
    format!(
        "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {{name: pay}}
spec:
  workloads: [{{containers: {{names: [pay]}}}}]
  action: Egress
  egress: {{addresses: [\"{}\", \"{}\"]}}
  onChange: {{connections: Drain, drainSeconds: {seconds}}}
",
        addresses[0], addresses[1]
    )
}

/// Old connections go on, and everything of them leaves by this uplink with its address.
#[track_caller]
fn go_on(stage: &Stage, open: &mut [Open; 2], sources: [&str; 2], uplink: &str) -> Result<()> {
    let mark = stage.lab.mark()?;
    for (open, source) in open.iter_mut().zip(sources) {
        open.goes_on();
        let to = open.to;
        stage.lab.expect_only_sources(&mark, to, &[ip(source)])?;
        for (label, frame) in stage.lab.frames_since(&mark)? {
            let packet = frame.left();
            if packet.is_some_and(|packet| packet.destination == to) {
                assert_eq!(label, format!("h1 {uplink}"), "{frame}");
            }
        }
    }
    Ok(())
}

/// A change to an address on another uplink drains as any other: old connections go on by the old
/// uplink, new ones leave by the new one at once.
#[test]
fn a_drain_keeps_its_uplink() -> Result<()> {
    let mut stage = stage("drain-uplinks", DOCKER_29_NFTABLES)?;
    stage.start_agent("")?;
    let (first, second) = ([FIRST, FIRST_V6], [SECOND, SECOND_V6]);
    let apply = |stage: &Stage, addresses, seconds| -> Result<()> {
        stage.applied(&policy(addresses, seconds)).map(drop)
    };
    apply(&stage, first, 3600)?;
    let pay = stage.managed(&ContainerSpec::new("pay"))?;
    let open = |sources: [&str; 2], last: u8| -> Result<[Open; 2]> {
        let (v4, v6) = (format!("198.51.100.{last}"), format!("2001:db8:51::{last}"));
        Ok([
            Open::new(&pay, ip(&v4), ip(sources[0]))?,
            Open::new(&pay, ip(&v6), ip(sources[1]))?,
        ])
    };
    let mut old = open(first, 9)?;

    apply(&stage, second, 3600)?;
    leaves(&stage, &pay, second, "up1")?;
    go_on(&stage, &mut old, first, "up0")?;

    // Back, and no policy names the second uplink any more.
    let mut other = open(second, 10)?;
    apply(&stage, first, 3600)?;
    leaves(&stage, &pay, first, "up0")?;
    go_on(&stage, &mut other, second, "up1")?;
    go_on(&stage, &mut old, first, "up0")?;

    // Without an agent, and with the next one.
    stage.kill_agent()?;
    go_on(&stage, &mut other, second, "up1")?;
    stage.start_agent("")?;
    go_on(&stage, &mut other, second, "up1")?;
    leaves(&stage, &pay, first, "up0")?;

    // For its time, and then the uplink is forgotten.
    apply(&stage, second, 3)?;
    leaves(&stage, &pay, second, "up1")?;
    eventually(LIMIT, "the drain is over", || {
        let pay = stage.workload("pay").ok_or("unknown")?;
        let left = pay["draining"].as_array().map_or(0, Vec::len);
        (left == 0).then_some(()).ok_or(pay.to_string())
    })?;
    for (old, next) in old.iter_mut().zip(second) {
        old.has_ended(&stage, ip(next))?;
    }
    go_on(&stage, &mut other, second, "up1")?;
    let flows = stage.ok(&["flows"]);
    assert!(!flows.contains("leak"), "{flows}");
    assert_eq!(stage.json(&["status"])?["leaks"], 0);
    Ok(())
}

/// Other bits of marks, and back: what a former agent made with its own is gone.
#[test]
fn other_bits_of_marks_name_the_uplinks() -> Result<()> {
    let mut stage = stage("mark-mask", DOCKER_29_NFTABLES)?;
    let second = container(&stage, "second", [SECOND, SECOND_V6], 8082)?;
    for (config, ours, other) in [
        ("markMask: 0xff00000\n", "0x100000/0xff00000", "/0xf0 "),
        ("", "0x10/0xf0", "/0xff00000 "),
    ] {
        stage.start_agent(config)?;
        stage.wait_for("second", "Ready")?;
        leaves_again(&stage, &second)?;
        for family in ["-4", "-6"] {
            let rules = stage.host.netns().ip(&format!("{family} rule show"))?;
            assert!(rules.contains(&format!("fwmark {ours}")), "{rules}");
            assert!(!rules.contains(other), "{rules}");
        }
        stage.stop_agent()?;
    }
    Ok(())
}
