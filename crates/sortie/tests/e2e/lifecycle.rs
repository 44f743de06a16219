//! What an engine does to a managed container in its life: it has its address again each time, and
//! with the guard on no frame leaves with another one meanwhile.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::ppoll;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};
use serde_json::Value;
use sortie_lab::{
    ALL_TRAFFIC, ContainerSpec, EngineKind, Netns, Place as _, Result, Traffic, eventually_true,
    greeted,
};

use crate::sender::Sender;
use crate::stage::{HOST_V4, HOST_V6, LIMIT, Stage, ip};

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

/// A network is left and joined again with the same IP while the agent sees nothing: to the agent
/// that IP moves to another port. Of the connections that begin all the while, the first that gets
/// through does so behind the agent's transaction, and before it has ended old flows: all go on.
fn joined_again(engine: EngineKind) -> Result<()> {
    const OWN: &str = "10.77.1.50";
    const ROUTER: &str = "10.77.1.1";
    let stage = Stage::guarded("joined", engine)?;
    stage.network("shop", 1, &[])?;
    let web = on_shop("web").address(OWN);
    let web = stage.managed(&web.label("sortie.egress", "203.0.113.11"))?;
    let place = web.place()?;
    let to = SocketAddr::new(stage.lab.destination()?.v4, 7);
    let source = ip("203.0.113.11");
    stage
        .lab
        .expect_source(&web, Traffic::Tcp(7), to.ip(), source)?;
    let mac = told(&place, &format!("neigh show {ROUTER}"), "lladdr")?;
    let mark = stage.lab.mark()?;
    let worker = stage.worker_pid();
    stage.signal("-STOP", worker)?;
    stage.engine.disconnect("shop", &web)?;
    stage.engine.connect("shop", &web, &[OWN])?;
    // Or the first of them would wait for the router's answer, and be late.
    let device = told(&place, "-4 route show default", "dev")?;
    place.ip(&format!(
        "neigh replace {ROUTER} lladdr {mac} dev {device} nud permanent"
    ))?;
    let over = AtomicBool::new(false);
    let begun = thread::scope(|scope| {
        let begun = scope.spawn(|| place.run(|| begin(to, &over)));
        stage.signal("-CONT", worker)?;
        let left = || {
            let frames = stage.lab.frames_since(&mark).expect("frames");
            let mut packets = frames.iter().filter_map(|(_, frame)| frame.left());
            packets.any(|packet| packet.destination == to.ip())
        };
        let seen = eventually_true(LIMIT, "a connection gets through", left);
        over.store(true, Ordering::Relaxed);
        seen?;
        begun.join().expect("no panic")
    })?;
    let begun = begun.expect("sockets");
    assert!(begun.len() > 10, "only {} connections", begun.len());
    for connection in &begun {
        let waits = connection.set_nonblocking(false);
        waits
            .and_then(|()| connection.set_read_timeout(Some(LIMIT)))
            .expect("a socket");
        let seen = greeted(connection).expect("a connection that nothing cuts");
        assert_eq!(seen.ip(), source);
    }
    stage.lab.fence()?;
    stage.lab.expect_only_sources(&mark, to.ip(), &[source])?;
    let said = stage.agent().tail();
    assert!(!said.contains("new ports are not seen"), "{said}");
    Ok(())
}

/// What `ip` tells by this name, of the one thing that it is asked for.
fn told(place: &Netns, asked: &str, name: &str) -> Result<String> {
    let told: Value = serde_json::from_str(&place.ip(&format!("-j {asked}"))?).expect("JSON");
    Ok(told[0][name].as_str().expect("one of them").to_owned())
}

/// Connections that begin every fifth of a millisecond, until told to end.
fn begin(to: SocketAddr, over: &AtomicBool) -> io::Result<Vec<TcpStream>> {
    let mut begun = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
        match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
            Ok(()) | Err(Errno::EINPROGRESS) => begun.push(TcpStream::from(socket)),
            Err(error) => return Err(error.into()),
        }
        ppoll(&mut [], Some(Duration::from_micros(200).into()), None)?;
    }
    Ok(begun)
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
    joined_again,
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
