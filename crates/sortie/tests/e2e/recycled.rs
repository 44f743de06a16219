//! An engine gives a managed container's IP to another one: that one never leaves with the managed
//! address, whatever the agent knows of it.

use sortie_lab::{ALL_TRAFFIC, ContainerSpec, EngineKind, Result};

use crate::sender::Sender;
use crate::stage::{HOST_V4, HOST_V6, Stage, ip};

fn on_shop(name: &str) -> ContainerSpec {
    ContainerSpec::new(name).network("shop")
}

/// A managed container and its heir, which nobody labelled; `blind` is what keeps the agent from
/// seeing the change, and `sight` what lets it see again.
fn inherited(
    stage: &mut Stage,
    blind: impl FnOnce(&mut Stage) -> Result<()>,
    sight: impl FnOnce(&mut Stage) -> Result<()>,
) -> Result<()> {
    stage.network("shop", 1, &[])?;
    let web = on_shop("web").label("sortie.egress", "203.0.113.11,2001:db8:113::11");
    let web = stage.managed(&web)?;
    let to = stage.lab.destination()?;
    for traffic in ALL_TRAFFIC {
        for (to, source) in [(to.v4, "203.0.113.11"), (to.v6, "2001:db8:113::11")] {
            stage.lab.expect_source(&web, traffic, to, ip(source))?;
        }
    }
    let v4 = web.address("shop", false)?.to_string();
    let v6 = web.address("shop", true)?.to_string();
    blind(stage)?;
    web.remove()?;

    let spec = on_shop("heir").address(&v4).address(&v6);
    let heir = Sender::with_sources(stage, &spec, ip(HOST_V4), ip(HOST_V6))?;
    // Time for it to be seen: a neighbour's packets come and go meanwhile.
    let neighbour = Sender::with_sources(stage, &on_shop("other"), ip(HOST_V4), ip(HOST_V6))?;
    neighbour.arrives(stage)?;
    heir.never_otherwise(stage)?;
    sight(stage)?;
    heir.arrives(stage)?;
    heir.never_otherwise(stage)
}

/// The agent is stopped while the IP changes hands.
fn while_the_agent_is_stopped(engine: EngineKind) -> Result<()> {
    let mut stage = Stage::new("stopped", engine)?;
    let worker = stage.worker_pid();
    inherited(
        &mut stage,
        |stage| stage.signal("-STOP", worker),
        |stage| stage.signal("-CONT", worker),
    )
}

/// The agent and its holder are dead while the IP changes hands.
fn while_the_agent_is_dead(engine: EngineKind) -> Result<()> {
    let mut stage = Stage::new("dead", engine)?;
    inherited(&mut stage, Stage::kill_agent, |stage| stage.start_agent(""))
}

/// The agent sees all of it.
fn while_the_agent_looks_on(engine: EngineKind) -> Result<()> {
    let mut stage = Stage::new("looks", engine)?;
    inherited(&mut stage, |_| Ok(()), |_| Ok(()))
}

on_every_engine!(
    while_the_agent_is_stopped,
    while_the_agent_is_dead,
    while_the_agent_looks_on,
);
