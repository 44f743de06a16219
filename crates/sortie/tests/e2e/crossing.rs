//! Published ports whose callers come in by another uplink than the container's egress address is on.
//! Answers leave by the uplink that was called, from the address that was called; what the container
//! begins itself leaves with its egress address.

use std::net::SocketAddr;

use sortie_lab::{Container, ContainerSpec, Result};

use crate::ports::Server;
use crate::stage::{DOCKER_29_NFTABLES, Stage, ip};
use crate::uplinks::{self, FIRST, FIRST_V6, SECOND, SECOND_V6};

/// The host's own addresses, by uplink.
const HOST: [[&str; 2]; 2] = [
    ["203.0.113.5", "2001:db8:113::5"],
    ["192.0.2.5", "2001:db8:2::5"],
];
/// Callers that are on no link of the host.
const REMOTE: [&str; 2] = ["198.51.100.77", "2001:db8:51::77"];

struct Published<'a> {
    container: &'a Container,
    server: &'a Server,
    port: u16,
    /// Its egress addresses and their uplink.
    egress: [&'a str; 2],
    uplink: &'a str,
    udp: bool,
}

impl Published<'_> {
    /// Who calls it at an address of an uplink is answered from there.
    fn answers(&self, stage: &Stage, called: &str, from: &str, uplink: &str) -> Result<()> {
        let mark = stage.lab.mark()?;
        let to = SocketAddr::new(ip(called), self.port);
        let outside = stage.lab.internet();
        let seen = Some(ip(from));
        assert_eq!(self.server.tcp(outside, to)?, seen, "{to} over TCP");
        if self.udp {
            assert_eq!(self.server.udp(outside, to)?, seen, "{to} over UDP");
        }
        stage.lab.fence()?;
        let mut answers = 0;
        for (label, frame) in stage.lab.frames_since(&mark)? {
            let packet = frame.left();
            if packet.is_some_and(|packet| packet.destination == ip(from)) {
                let source = packet.map(|packet| packet.source);
                assert_eq!(source, Some(ip(called)), "{frame}");
                assert_eq!(label, format!("h1 {uplink}"), "{frame}");
                answers += 1;
            }
        }
        assert!(answers > 0, "{to}: answers leave");
        Ok(())
    }
}

/// From the uplink's own link, and from afar.
fn all_answers(
    stage: &Stage,
    published: &Published<'_>,
    called: [&str; 2],
    uplink: usize,
) -> Result<()> {
    let internet = stage.lab.internet().netns();
    let near = [
        ["203.0.113.1", "2001:db8:113::1"],
        ["192.0.2.1", "2001:db8:2::1"],
    ][uplink];
    let name = ["up0", "up1"][uplink];
    for family in [0, 1] {
        let (called, bits) = (called[family], [32, 128][family]);
        published.answers(stage, called, near[family], name)?;
        let remote = REMOTE[family];
        let route = format!("{called}/{bits} dev segment{uplink} src {remote} table local");
        internet.ip(&format!("route add {route}"))?;
        published.answers(stage, called, remote, name)?;
        internet.ip(&format!("route del {route}"))?;
    }
    Ok(())
}

#[test]
fn a_caller_by_another_uplink() -> Result<()> {
    let mut stage = uplinks::stage("crossing", DOCKER_29_NFTABLES)?;
    for (address, bits) in REMOTE.into_iter().zip([32, 128]) {
        let line = format!("addr add {address}/{bits} dev lo");
        stage.lab.internet().netns().ip(&line)?;
    }
    for device in ["all", "up0", "up1", "docker0"] {
        let name = format!("net.ipv4.conf.{device}.rp_filter");
        stage.host.netns().set_sysctl(&name, "1")?;
    }
    stage.start_agent("")?;
    let first = uplinks::container(&stage, "first", [FIRST, FIRST_V6], 8081)?;
    let second = uplinks::container(&stage, "second", [SECOND, SECOND_V6], 8082)?;
    let own = ["192.0.2.21", "2001:db8:2::21"];
    let direct = ContainerSpec::new("direct")
        .publish("80/tcp", 8083)
        .label("sortie.egress", &own.join(","))
        .label("sortie.egress.mode", "direct");
    let direct = stage.engine.run(&direct)?;
    let mut all = Vec::new();
    let containers = [&first, &second, &direct];
    let servers = containers.map(|container| Server::start(container).expect("a server"));
    for (place, (container, server)) in containers.into_iter().zip(&servers).enumerate() {
        stage.wait_for(&sortie_lab::Place::name(container), "Ready")?;
        all.push(Published {
            container,
            server,
            port: [8081, 8082, 8083][place],
            egress: [[FIRST, FIRST_V6], [SECOND, SECOND_V6], own][place],
            uplink: ["up0", "up1", "up1"][place],
            udp: place < 2,
        });
    }
    for rp_filter in ["1", "0", "2"] {
        let netns = stage.host.netns();
        netns.set_sysctl("net.ipv4.conf.all.rp_filter", rp_filter)?;
        for published in &all {
            for (uplink, called) in HOST.into_iter().enumerate() {
                all_answers(&stage, published, called, uplink)?;
            }
            uplinks::leaves(
                &stage,
                published.container,
                published.egress,
                published.uplink,
            )?;
        }
        // An egress address can be called too.
        all_answers(&stage, &all[0], [SECOND, SECOND_V6], 1)?;
        all_answers(&stage, &all[1], [SECOND, SECOND_V6], 1)?;
    }
    let flows = stage.ok(&["flows"]);
    assert!(!flows.contains("leak"), "{flows}");
    Ok(())
}
