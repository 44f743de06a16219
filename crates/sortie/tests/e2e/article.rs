//! The article's scenario with its own addresses: `container1` has no network of the engine's, and
//! is seen outside as 192.168.10.11.

use std::net::IpAddr;

use sortie_lab::{
    ALL_TRAFFIC, Container, ContainerSpec, EngineKind, Place, Result, Snapshot, UplinkSpec,
    eventually,
};

use crate::stage::{DOCKER_20, DOCKER_29_NFTABLES, LIMIT, Stage, ip, snapshot};

/// The address that the article gives to `container1`.
const V4: &str = "192.168.10.11";
/// Its like in IPv6.
const V6: &str = "2001:db8:10::11";

/// The article's host: its uplink's subnet is 192.168.10.0/24.
fn stage(name: &str, engine: EngineKind) -> Result<Stage> {
    let uplink = UplinkSpec::new(&["192.168.10.2/24", "2001:db8:10::2/64"]);
    let mut stage = Stage::with_uplinks(name, engine, [uplink])?;
    stage.start_agent("")?;
    Ok(stage)
}

/// `docker run --net=none --name container1 …`
fn container1(stage: &Stage) -> Result<Container> {
    stage
        .engine
        .run(&ContainerSpec::new("container1").network("none"))
}

fn attach(stage: &Stage) {
    let addresses = format!("{V4},{V6}");
    stage.ok(&["attach", "container1", "--address", &addresses]);
}

/// TCP, UDP and ICMP echo of both families leave with the attached addresses only.
fn expect_seen_as_attached(stage: &Stage, place: &dyn Place) -> Result<()> {
    let to = stage.lab.destination()?;
    for traffic in ALL_TRAFFIC {
        stage.lab.expect_source(place, traffic, to.v4, ip(V4))?;
        stage.lab.expect_source(place, traffic, to.v6, ip(V6))?;
    }
    Ok(())
}

fn has_address(place: &dyn Place, address: IpAddr) -> Result<bool> {
    let shown = place.place()?.ip("-o addr show scope global")?;
    Ok(shown.contains(&format!(" {address}/")))
}

fn seen_as_attached(engine: EngineKind) -> Result<()> {
    let stage = stage("article", engine)?;
    let container = container1(&stage)?;
    attach(&stage);
    expect_seen_as_attached(&stage, &container)?;
    for address in [V4, V6] {
        assert!(
            has_address(&container, ip(address))?,
            "the container itself has {address}"
        );
    }
    Ok(())
}

#[test]
fn seen_as_attached_docker_20() -> Result<()> {
    seen_as_attached(DOCKER_20)
}

#[test]
fn seen_as_attached_docker_29() -> Result<()> {
    seen_as_attached(DOCKER_29_NFTABLES)
}

fn the_address_answers_from_outside(engine: EngineKind) -> Result<()> {
    let stage = stage("inbound", engine)?;
    let _container = container1(&stage)?;
    attach(&stage);
    for address in [V4, V6] {
        sortie_lab::Call::new(sortie_lab::Traffic::Ping, ip(address)).make(stage.lab.internet())?;
    }
    Ok(())
}

#[test]
fn the_address_answers_from_outside_docker_20() -> Result<()> {
    the_address_answers_from_outside(DOCKER_20)
}

fn detach_takes_it_all_away(engine: EngineKind) -> Result<()> {
    let stage = stage("detach", engine)?;
    let container = container1(&stage)?;
    let host = snapshot(&stage.host)?;
    let own = snapshot(&container)?;
    attach(&stage);
    assert_ne!(host.diff(&Snapshot::take(&stage.host)?), "");
    stage.ok(&["detach", "container1"]);
    assert_eq!(host.diff(&Snapshot::take(&stage.host)?), "");
    assert_eq!(own.diff(&Snapshot::take(&container)?), "");
    let to = stage.lab.destination()?;
    for traffic in ALL_TRAFFIC {
        stage.lab.expect_nothing(&container, traffic, to.v4)?;
    }
    // And it can be had again.
    attach(&stage);
    expect_seen_as_attached(&stage, &container)
}

#[test]
fn detach_takes_it_all_away_docker_20() -> Result<()> {
    detach_takes_it_all_away(DOCKER_20)
}

#[test]
fn detach_takes_it_all_away_docker_29() -> Result<()> {
    detach_takes_it_all_away(DOCKER_29_NFTABLES)
}

fn the_containers_end_takes_it_all_away(engine: EngineKind) -> Result<()> {
    let stage = stage("stop", engine)?;
    let host = snapshot(&stage.host)?;
    let container = container1(&stage)?;
    attach(&stage);
    container.stop()?;
    eventually(LIMIT, "nothing is left", || {
        let now = Snapshot::take(&stage.host).map_err(|error| error.to_string())?;
        match host.diff(&now) {
            same if same.is_empty() => Ok(()),
            different => Err(different),
        }
    })?;
    container.start()?;
    attach(&stage);
    expect_seen_as_attached(&stage, &container)
}

#[test]
fn the_containers_end_takes_it_all_away_docker_20() -> Result<()> {
    the_containers_end_takes_it_all_away(DOCKER_20)
}

#[test]
fn the_containers_end_takes_it_all_away_docker_29() -> Result<()> {
    the_containers_end_takes_it_all_away(DOCKER_29_NFTABLES)
}
