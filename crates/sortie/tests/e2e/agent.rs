//! The agent killed and ended: the rules serve without it, and the next one takes them over.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use nix::sys::signal::Signal;
use sortie_lab::{
    ALL_TRAFFIC, Call, ContainerSpec, EngineKind, Place, Result, Traffic, eventually,
};

use crate::sender::Sender;
use crate::stage::{GUARD_ALL, LIMIT, Stage, ip};

const EGRESS: &str = "203.0.113.12,2001:db8:113::12";

/// Existing rules serve: each kind of traffic arrives with its address.
fn still_served(stage: &Stage, place: &dyn Place) -> Result<()> {
    let to = stage.lab.destination()?;
    for traffic in ALL_TRAFFIC {
        stage
            .lab
            .expect_source(place, traffic, to.v4, ip("203.0.113.11"))?;
        stage
            .lab
            .expect_source(place, traffic, to.v6, ip("2001:db8:113::11"))?;
    }
    Ok(())
}

/// The worker dies, and its holder starts another one; a container that is started meanwhile
/// waits behind the guard.
fn worker_killed(engine: EngineKind) -> Result<()> {
    let stage = Stage::guarded("worker", engine)?;
    let web = Sender::labelled(&stage, ContainerSpec::new("web"), 11)?;
    web.arrives(&stage)?;
    for name in ["late-1", "late-2"] {
        let worker = stage.worker_pid();
        stage.signal("-KILL", worker)?;
        let late = Sender::labelled(&stage, ContainerSpec::new(name), 12)?;
        still_served(&stage, &web.container)?;
        late.arrives(&stage)?;
        late.never_otherwise(&stage)?;
        assert_ne!(stage.worker_pid(), worker, "another process answers");
        assert!(stage.agent().ended()?.is_none(), "the holder lives");
    }
    web.arrives(&stage)?;
    web.never_otherwise(&stage)
}

/// The worker dies right after a container's start, again and again: its open connections go on.
fn connections_outlive_the_worker(engine: EngineKind) -> Result<()> {
    let stage = Stage::guarded("open", engine)?;
    let web = stage.labelled("web", "203.0.113.11,2001:db8:113::11")?;
    let to = stage.lab.destination()?;
    let mut open = Vec::new();
    for to in [to.v4, to.v6] {
        open.push(
            Call::new(Traffic::Tcp(7), to)
                .within(LIMIT)
                .connect(&web, 7)?,
        );
    }
    for _ in 0..3 {
        stage.signal("-KILL", stage.worker_pid())?;
        stage.wait_for_engine()?;
        stage.wait_for("web", "Ready")?;
        for stream in &mut open {
            echoes(stream).expect("the connection is still there");
        }
    }
    Ok(())
}

/// The observer sends back what it gets, behind its greeting.
fn echoes(stream: &mut TcpStream) -> io::Result<()> {
    const WORD: &[u8] = b"still here\n";
    stream.write_all(WORD)?;
    let mut heard = Vec::new();
    while !heard.ends_with(WORD) {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        heard.extend(byte);
    }
    Ok(())
}

/// Holder and worker die: nobody is there, and yet nothing changes for whom they knew, and nothing
/// leaves of whom they did not. The next agent takes over.
fn holder_and_worker_killed(engine: EngineKind) -> Result<()> {
    let mut stage = Stage::guarded("holder", engine)?;
    let web = Sender::labelled(&stage, ContainerSpec::new("web"), 11)?;
    web.arrives(&stage)?;
    let worker = stage.worker_pid();
    // The holder first: it would start another worker.
    stage.agent().kill()?;
    stage.signal("-KILL", worker)?;
    eventually(LIMIT, "nobody answers", || {
        match stage.run(&["status"]).map_err(|error| error.to_string())? {
            outcome if outcome.code() == 0 => Err(outcome.stdout),
            _ => Ok(()),
        }
    })?;
    still_served(&stage, &web.container)?;
    let late = Sender::labelled(&stage, ContainerSpec::new("late"), 12)?;
    stage
        .lab
        .expect_nothing(&late.container, Traffic::Tcp(443), late.to.v4)?;
    stage
        .lab
        .expect_nothing(&late.container, Traffic::Tcp(443), late.to.v6)?;

    stage.start_agent(GUARD_ALL)?;
    late.arrives(&stage)?;
    web.arrives(&stage)?;
    let newest = Sender::labelled(&stage, ContainerSpec::new("newest"), 13)?;
    newest.arrives(&stage)?;
    for sender in [&web, &late, &newest] {
        sender.never_otherwise(&stage)?;
    }
    Ok(())
}

/// SIGTERM ends the agent, and the rules stay.
fn ended_by_sigterm(engine: EngineKind) -> Result<()> {
    let mut stage = Stage::guarded("term", engine)?;
    let web = Sender::labelled(&stage, ContainerSpec::new("web"), 11)?;
    web.arrives(&stage)?;
    stage.agent().signal(Signal::SIGTERM)?;
    let status = stage.agent().wait(LIMIT)?;
    assert!(status.success(), "{status}: {}", stage.agent().tail());
    still_served(&stage, &web.container)?;
    let late = ContainerSpec::new("late").label("sortie.egress", EGRESS);
    let late = stage.engine.run(&late)?;
    let to = stage.lab.destination()?;
    for traffic in ALL_TRAFFIC {
        stage.lab.expect_nothing(&late, traffic, to.v4)?;
    }
    stage.start_agent(GUARD_ALL)?;
    stage.wait_for("late", "Ready")?;
    stage
        .lab
        .expect_source(&late, Traffic::Tcp(7), to.v4, ip("203.0.113.12"))?;
    web.arrives(&stage)?;
    web.never_otherwise(&stage)
}

on_every_engine!(
    worker_killed,
    connections_outlive_the_worker,
    holder_and_worker_killed,
    ended_by_sigterm
);
