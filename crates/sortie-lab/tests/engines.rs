//! Real engines in lab hosts, before anybody manages their containers.

use std::net::IpAddr;

use sortie_lab::{
    ALL_TRAFFIC, ContainerSpec, Engine, EngineKind, EngineSpec, Firewall, Host, HostSpec, Lab,
    Result, UplinkSpec,
};

fn host(lab: &Lab) -> Result<Host> {
    let uplink = UplinkSpec::new(&["203.0.113.5/24", "2001:db8:113::5/64"]);
    lab.host(&HostSpec::new("h1").uplink(uplink))
}

fn leaves_with_the_address_of_its_host(kind: EngineKind) -> Result<()> {
    let lab = Lab::new("plain")?;
    let host = host(&lab)?;
    let engine = Engine::start(&host, &EngineSpec::new(kind))?;
    let container = engine.run(&ContainerSpec::new("web"))?;
    let to = lab.destination()?;
    let [v4, v6]: [IpAddr; 2] = [
        [203, 0, 113, 5].into(),
        [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 5].into(),
    ];
    for traffic in ALL_TRAFFIC {
        lab.expect_source(&container, traffic, to.v4, v4)?;
        lab.expect_source(&container, traffic, to.v6, v6)?;
    }
    Ok(())
}

#[test]
fn docker_20_10() -> Result<()> {
    leaves_with_the_address_of_its_host(EngineKind::Docker20)
}

#[test]
fn docker_29_nftables() -> Result<()> {
    leaves_with_the_address_of_its_host(EngineKind::Docker29(Firewall::Nftables))
}

#[test]
fn docker_29_iptables() -> Result<()> {
    leaves_with_the_address_of_its_host(EngineKind::Docker29(Firewall::Iptables))
}

#[test]
fn podman() -> Result<()> {
    leaves_with_the_address_of_its_host(EngineKind::Podman)
}
