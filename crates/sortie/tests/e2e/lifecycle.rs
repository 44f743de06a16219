//! What an engine does to a managed container in its life: it has its address again each time, and
//! with the guard on no frame leaves with another one meanwhile.

use sortie_lab::{ALL_TRAFFIC, ContainerSpec, EngineKind, Result};

use crate::sender::Sender;
use crate::stage::{HOST_V4, HOST_V6, Stage, ip};

fn on_shop(name: &str) -> ContainerSpec {
    ContainerSpec::new(name).network("shop")
}

/// `docker restart`, again and again.
fn restart(engine: EngineKind) -> Result<()> {
    let stage = Stage::guarded("restart", engine)?;
    let web = Sender::labelled(&stage, ContainerSpec::new("web"), 11)?;
    web.arrives(&stage)?;
    for _ in 0..3 {
        web.container.restart()?;
        web.arrives(&stage)?;
    }
    web.never_otherwise(&stage)
}

/// Its own address goes to an unlabelled container while it is stopped, and it gets another one.
fn stop_and_start_with_a_new_ip(engine: EngineKind) -> Result<()> {
    let stage = Stage::guarded("newip", engine)?;
    stage.network("shop", 1, &[])?;
    let web = Sender::labelled(&stage, on_shop("web"), 11)?;
    web.arrives(&stage)?;
    let addresses = || -> Result<[String; 2]> {
        Ok([
            web.container.address("shop", false)?.to_string(),
            web.container.address("shop", true)?.to_string(),
        ])
    };
    let before = addresses()?;
    web.container.stop()?;
    let heir = on_shop("heir").address(&before[0]).address(&before[1]);
    let heir = Sender::with_sources(&stage, &heir, ip(HOST_V4), ip(HOST_V6))?;
    heir.arrives(&stage)?;
    web.container.start()?;
    web.arrives(&stage)?;
    assert_ne!(addresses()?, before, "the heir holds the old ones");
    heir.arrives(&stage)?;
    web.never_otherwise(&stage)?;
    heir.never_otherwise(&stage)
}

/// `docker network connect` and `disconnect`: whichever network has the default route.
fn connect_and_disconnect(engine: EngineKind) -> Result<()> {
    let stage = Stage::guarded("connect", engine)?;
    stage.network("shop", 1, &[])?;
    // Engines take the default route of the first network by name.
    stage.network("alpha", 2, &[])?;
    let web = Sender::labelled(&stage, on_shop("web"), 11)?;
    web.arrives(&stage)?;
    stage.engine.connect("alpha", &web.container, &[])?;
    web.arrives(&stage)?;
    stage.engine.disconnect("shop", &web.container)?;
    web.arrives(&stage)?;
    stage.engine.connect("shop", &web.container, &[])?;
    web.arrives(&stage)?;
    stage.engine.disconnect("alpha", &web.container)?;
    web.arrives(&stage)?;
    web.never_otherwise(&stage)
}

/// The engine ends, with its containers, and starts again, with its containers.
fn engine_restart(engine: EngineKind) -> Result<()> {
    let stage = Stage::guarded("engine", engine)?;
    stage.network("shop", 1, &[])?;
    let web = Sender::labelled(&stage, on_shop("web").always(), 11)?;
    let mail = Sender::labelled(&stage, ContainerSpec::new("mail").always(), 12)?;
    let all = [web, mail];
    for sender in &all {
        sender.arrives(&stage)?;
    }
    stage.engine.restart()?;
    stage.wait_for_engine()?;
    for sender in &all {
        sender.arrives(&stage)?;
        sender.never_otherwise(&stage)?;
    }
    Ok(())
}

/// The engine dies, and its containers go on without it: so do their rules.
fn engine_killed(engine: EngineKind) -> Result<()> {
    let stage = Stage::guarded("killed", engine)?;
    let web = Sender::labelled(&stage, ContainerSpec::new("web").always(), 11)?;
    web.arrives(&stage)?;
    // The engine cannot be asked for it any more.
    let place = web.container.netns()?;
    stage.engine.kill()?;
    for traffic in ALL_TRAFFIC {
        for (to, source) in [
            (web.to.v4, ip("203.0.113.11")),
            (web.to.v6, ip("2001:db8:113::11")),
        ] {
            stage.lab.expect_source(&place, traffic, to, source)?;
        }
    }
    stage.engine.resume()?;
    stage.wait_for_engine()?;
    web.arrives(&stage)?;
    web.never_otherwise(&stage)
}

on_every_engine!(
    restart,
    stop_and_start_with_a_new_ip,
    connect_and_disconnect,
    engine_restart,
    engine_killed,
);

mod podman {
    use sortie_lab::Result;

    use crate::stage::PODMAN;

    #[test]
    fn restart() -> Result<()> {
        super::restart(PODMAN)
    }

    #[test]
    fn stop_and_start_with_a_new_ip() -> Result<()> {
        super::stop_and_start_with_a_new_ip(PODMAN)
    }

    #[test]
    fn connect_and_disconnect() -> Result<()> {
        super::connect_and_disconnect(PODMAN)
    }

    #[test]
    fn engine_killed() -> Result<()> {
        super::engine_killed(PODMAN)
    }
}
