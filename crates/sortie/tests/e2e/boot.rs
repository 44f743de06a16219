//! A host that boots: the engine starts its containers before it answers, and none of their
//! packets leaves with a wrong source meanwhile.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use sortie_lab::{ALL_TRAFFIC, Container, ContainerSpec, EngineKind, Result, eventually};

use crate::sender::Sender;
use crate::stage::{DOCKER_20, DOCKER_29_NFTABLES, GUARD_ALL, HOST_V4, HOST_V6, LIMIT, Stage, ip};

/// What a boot takes away: the agent and what it keeps below /run, tables, bridges.
fn forget_everything(stage: &mut Stage) -> Result<()> {
    stage.engine.stop()?;
    stage.kill_agent()?;
    for family in ["bridge", "inet", "netdev"] {
        stage
            .host
            .netns()
            .nft(&format!("delete table {family} sortie"))?;
    }
    fs::remove_dir_all(stage.host.path("/run/sortie")).expect("what the agent keeps");
    let bridges = stage.host.ip("-brief link show type bridge")?;
    for bridge in bridges
        .lines()
        .filter_map(|line| line.split_whitespace().next())
    {
        stage.host.ip(&format!("link del {bridge}"))?;
    }
    Ok(())
}

fn runs(container: &Container) -> Result<()> {
    eventually(LIMIT, "it was started with the engine", || {
        container.netns().map(drop)
    })
}

/// The agent starts first, and the engine's socket takes connections and answers none: so it is
/// while systemd holds it, and while dockerd starts its containers.
fn boots(engine: EngineKind, config: &str) -> Result<()> {
    let mut stage = Stage::without_agent("boot", engine)?;
    stage.network("shop", 1, &[])?;
    stage.start_agent(config)?;
    let on_shop = |name: &str| ContainerSpec::new(name).network("shop").always();
    let web = Sender::labelled(&stage, on_shop("web"), 11)?;
    let plain = Sender::with_sources(&stage, &on_shop("plain"), ip(HOST_V4), ip(HOST_V6))?;
    web.arrives(&stage)?;
    plain.arrives(&stage)?;
    forget_everything(&mut stage)?;

    let socket = stage.folder().join("early.sock");
    let silent = UnixListener::bind(&socket).expect("a socket");
    stage.spawn_agent_for(&socket, config, &[])?;
    stage.wait_for_agent()?;
    stage.engine.resume()?;
    for sender in [&web, &plain] {
        runs(&sender.container)?;
        for traffic in ALL_TRAFFIC {
            for to in [sender.to.v4, sender.to.v6] {
                stage.lab.expect_nothing(&sender.container, traffic, to)?;
            }
        }
    }
    // Now it answers.
    fs::remove_file(&socket).expect("the socket");
    symlink(stage.engine.socket(), &socket).expect("the engine's");
    drop(silent);
    for sender in [&web, &plain] {
        sender.arrives(&stage)?;
        sender.never_otherwise(&stage)?;
    }
    Ok(())
}

#[test]
fn with_every_bridge_guarded() -> Result<()> {
    boots(DOCKER_29_NFTABLES, GUARD_ALL)
}

/// Which bridge is the network's is known from before the boot.
#[test]
fn with_a_remembered_network_guarded() -> Result<()> {
    boots(DOCKER_20, "guardedNetworks: [shop]\n")
}
