//! `inbound: Drop`: from outside nobody begins a connection to an egress address, whoever listens.

use std::net::IpAddr;

use sortie_lab::{ALL_TRAFFIC, Call, ContainerSpec, EngineKind, Place, Result, Traffic};

use crate::ports::Server;
use crate::stage::{DOCKER_20, DOCKER_29_NFTABLES, HOST_V4, HOST_V6, Stage, ip};

const CONFIG: &str =
    "inbound: {203.0.113.11: Drop, '2001:db8:113::11': Drop, 203.0.113.12: Allow}\n";
const CLOSED: [&str; 2] = ["203.0.113.11", "2001:db8:113::11"];
const OPEN: [&str; 4] = ["203.0.113.12", "2001:db8:113::12", HOST_V4, HOST_V6];

fn ping(from: &dyn Place, to: IpAddr) -> bool {
    let limit = std::time::Duration::from_secs(3);
    Call::new(Traffic::Ping, to)
        .within(limit)
        .make(from)
        .is_ok()
}

/// Listeners of the host and published ports alike; answers, neighbours and the host itself pass.
fn nobody_calls_from_outside(engine: EngineKind) -> Result<()> {
    let mut stage = Stage::without_agent("inbound", engine)?;
    stage.network("shop", 1, &[])?;
    stage.start_agent(CONFIG)?;
    let web = ContainerSpec::new("web")
        .network("shop")
        .publish("80/tcp", 8080)
        .publish("80/udp", 8080)
        .label("sortie.egress", &CLOSED.join(","));
    let web = stage.managed(&web)?;
    let caller = ContainerSpec::new("caller").network("shop");
    let caller = stage.engine.run(&caller)?;
    stage.wait_for("caller", "Unmanaged")?;
    let published = Server::start(&web)?;
    let listener = Server::start(&stage.host)?;
    let outside = stage.lab.internet();
    for address in CLOSED.map(ip) {
        assert_eq!(
            published.callers(outside, (address, 8080).into())?,
            [None; 2]
        );
        assert_eq!(listener.callers(outside, (address, 80).into())?, [None; 2]);
        assert!(!ping(outside, address), "{address}");
    }
    for address in OPEN.map(ip) {
        let seen = published.callers(outside, (address, 8080).into())?;
        assert!(seen.iter().all(Option::is_some), "{address}: {seen:?}");
        // The host's UDP socket answers with the host's first address, whomever was asked.
        let [tcp, _] = listener.callers(outside, (address, 80).into())?;
        assert!(tcp.is_some(), "{address}");
        assert!(ping(outside, address), "{address}");
    }
    // From inside they are as open as the others.
    for (closed, open) in CLOSED.map(ip).into_iter().zip(OPEN.map(ip)) {
        let calls = |address| published.callers(&caller, (address, 8080).into());
        assert_eq!(calls(closed)?, calls(open)?, "{closed} and {open}");
        let seen = listener.callers(&stage.host, (closed, 80).into())?;
        assert_eq!(seen, [Some(closed); 2]);
        assert!(
            ping(&stage.host, closed) && ping(&caller, closed),
            "{closed}"
        );
    }
    // And answers come.
    let to = stage.lab.destination()?;
    for traffic in ALL_TRAFFIC {
        stage
            .lab
            .expect_source(&web, traffic, to.v4, ip(CLOSED[0]))?;
        stage
            .lab
            .expect_source(&web, traffic, to.v6, ip(CLOSED[1]))?;
    }
    let status = stage.json(&["status"])?;
    let drops = status["drops"].as_array().cloned().unwrap_or_default();
    let inbound = drops.iter().find(|drop| drop["reason"] == "inbound");
    assert!(inbound.is_some(), "{status}");
    let told = stage.ok(&["drops"]);
    assert!(
        told.contains("inbound") && told.contains(CLOSED[0]),
        "{told}"
    );

    // Without the line it is open again.
    stage.stop_agent()?;
    stage.start_agent("")?;
    let again = published.callers(stage.lab.internet(), (ip(CLOSED[0]), 8080).into())?;
    assert!(again.iter().all(Option::is_some), "{again:?}");
    Ok(())
}

#[test]
fn nobody_calls_from_outside_docker_20() -> Result<()> {
    nobody_calls_from_outside(DOCKER_20)
}

#[test]
fn nobody_calls_from_outside_docker_29() -> Result<()> {
    nobody_calls_from_outside(DOCKER_29_NFTABLES)
}
