//! An engine gives a managed container's IP to another one: that one never leaves with the managed
//! address, whatever the agent knows of it.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::poll::{PollTimeout, poll};
use serde_json::Value;
use sortie_lab::{
    ALL_TRAFFIC, Container, ContainerSpec, EngineKind, Mark, Netns, Result, eventually,
};

use crate::sender::Sender;
use crate::stage::{DOCKER_20, HOST_V4, HOST_V6, LIMIT, Stage, ip};
use crate::wire;

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

/// The IPs that change hands, and the MAC that Docker 20.10 makes of the first (`02:42:` and the IP).
const IPS: [&str; 2] = ["10.77.1.50", "fd77:1::50"];
const MAC: &str = "02:42:0a:4d:01:32";

/// A container with these on its interface, at a port `heir0` that is in no bridge yet; it knows
/// the routers of the bridge with this MAC.
fn heir(stage: &Stage, bridge: &str) -> Result<Container> {
    const ROUTERS: [&str; 2] = ["10.77.1.1", "fd77:1::1"];
    let heir = ContainerSpec::new("heir").network("none");
    let heir = stage.engine.run(&heir)?;
    let inside = wire::connect(stage, &heir, "heir0", IPS, ROUTERS)?;
    let inner = wire::INNER;
    inside.ip(&format!("link set {inner} address {MAC}"))?;
    for router in ROUTERS {
        inside.ip(&format!(
            "neigh replace {router} lladdr {bridge} dev {inner} nud permanent"
        ))?;
    }
    Ok(heir)
}

/// A link as `ip` tells it.
fn link(netns: &Netns, which: impl Fn(&Value) -> bool) -> Result<Value> {
    let links: Value = serde_json::from_str(&netns.ip("-j link show")?).expect("links");
    let mut links = links.as_array().expect("a list").iter();
    Ok(links.find(|link| which(link)).expect("the link").clone())
}

/// Sends as the heir until told to end; nothing may arrive, and that is no error.
fn floods(heir: &Netns, flows: &[(SocketAddr, SocketAddr)], over: &AtomicBool) -> Result<()> {
    heir.run(|| {
        let bound = |(from, to): &(SocketAddr, SocketAddr)| {
            let socket = UdpSocket::bind(from).expect("the IP is the heir's");
            socket.set_nonblocking(true).expect("a socket");
            socket.connect(to).expect("a route");
            socket
        };
        let sockets: Vec<UdpSocket> = flows.iter().map(bound).collect();
        while !over.load(Ordering::Relaxed) {
            for socket in &sockets {
                let _ = socket.send(b"heir");
            }
            // One in each millisecond and family: two cores have others to serve.
            let _ = poll(&mut [], PollTimeout::from(1_u8));
        }
    })
}

/// The IP changes hands within a millisecond, in one batch of netlink messages, before anybody could
/// be told; the engine tells of the container's end later. The heir sends all the while, on the
/// very flows that are tracked for the container.
#[test]
fn within_a_millisecond() -> Result<()> {
    let stage = Stage::new("fast", DOCKER_20)?;
    stage.network("shop", 1, &[])?;
    let mut known = None;
    for round in 0..3_u16 {
        let web = on_shop("web").address(IPS[0]).address(IPS[1]);
        let web = web.label("sortie.egress", "203.0.113.11,2001:db8:113::11");
        let web = stage.managed(&web)?;
        assert_eq!(web.mac("shop")?.to_string(), MAC);
        let outer = link(&web.netns()?, |link| link["ifname"] == "eth0")?["link_index"].clone();
        let port = link(stage.host.netns(), |link| link["ifindex"] == outer)?;
        let bridge = link(stage.host.netns(), |link| link["ifname"] == port["master"])?;
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let (port, name, mac) = (
            text(&port["ifname"]),
            text(&bridge["ifname"]),
            text(&bridge["address"]),
        );
        let heir = match known.take() {
            Some(heir) => heir,
            None => heir(&stage, &mac)?,
        };

        let to = stage.lab.destination()?;
        let mut flows = Vec::new();
        for (own, to, source) in [
            (IPS[0], to.v4, "203.0.113.11"),
            (IPS[1], to.v6, "2001:db8:113::11"),
        ] {
            let from = SocketAddr::new(ip(own), 4000 + round);
            let to = SocketAddr::new(to, 7);
            let seen = web.netns()?.run(|| -> std::io::Result<String> {
                let socket = UdpSocket::bind(from)?;
                socket.set_read_timeout(Some(LIMIT))?;
                socket.send_to(b"?", to)?;
                let mut answer = [0; 128];
                let length = socket.recv(&mut answer)?;
                Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
            })?;
            let seen: SocketAddr = seen.expect("an answer").trim().parse().expect("an address");
            assert_eq!(seen.ip(), ip(source));
            flows.push((from, to));
        }
        stage.lab.fence()?;
        let mark = stage.lab.mark()?;
        let batch = stage.folder().join("batch");
        let lines = format!("link set {port} nomaster\nlink set heir0 master {name}\n");
        fs::write(&batch, lines).expect("a file");

        let (over, inside) = (AtomicBool::new(false), heir.netns()?);
        std::thread::scope(|scope| -> Result<()> {
            let sender = scope.spawn(|| floods(&inside, &flows, &over));
            let work = || -> Result<()> {
                stage.host.ip(&format!("-batch {}", batch.display()))?;
                dropped(&stage, to.v4)?;
                dropped(&stage, to.v6)?;
                web.remove()?;
                // The network is not guarded: whom nobody selects leaves as without Sortie.
                comes_from(&stage, &mark, to.v4, HOST_V4)?;
                comes_from(&stage, &mark, to.v6, HOST_V6)
            };
            let done = work();
            over.store(true, Ordering::Relaxed);
            sender.join().expect("no panic")?;
            done
        })?;
        stage.lab.fence()?;
        for (to, own) in [(to.v4, HOST_V4), (to.v6, HOST_V6)] {
            stage.lab.expect_only_sources(&mark, to, &[ip(own)])?;
        }
        stage.host.ip("link set heir0 nomaster")?;
        known = Some(heir);
    }
    Ok(())
}

/// Waits until a drop for a destination is told, and checks its reason.
fn dropped(stage: &Stage, to: IpAddr) -> Result<()> {
    let drop = eventually(LIMIT, "a drop is told", || {
        let drops = stage.ok(&["drops", "-o", "json"]);
        let mut drops = drops
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        drops
            .find(|drop| drop["to"] == to.to_string())
            .ok_or("none")
    })?;
    assert_eq!(drop["reason"], "identity", "{drop}");
    Ok(())
}

/// Waits until a frame for a destination has left with this source.
fn comes_from(stage: &Stage, mark: &Mark, to: IpAddr, source: &str) -> Result<()> {
    eventually(LIMIT, &format!("{to} sees {source}"), || {
        let frames = stage
            .lab
            .frames_since(mark)
            .map_err(|error| error.to_string())?;
        let mut packets = frames.iter().filter_map(|(_, frame)| frame.left());
        let seen = packets.any(|packet| packet.destination == to && packet.source == ip(source));
        if seen {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    })
}

on_every_engine!(
    while_the_agent_is_stopped,
    while_the_agent_is_dead,
    while_the_agent_looks_on,
);

mod podman {
    use crate::stage::PODMAN;

    #[test]
    fn while_the_agent_is_dead() -> sortie_lab::Result<()> {
        super::while_the_agent_is_dead(PODMAN)
    }
}
