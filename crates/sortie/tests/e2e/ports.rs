//! What managed containers are to those who call them: published ports answer, and neighbours on
//! the bridge see each other as ever.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use sortie_lab::{ALL_TRAFFIC, Container, ContainerSpec, EngineKind, Place, Result};

use crate::stage::{HOST_V4, HOST_V6, LIMIT, Stage, ip};

/// The port that servers in containers have.
const PORT: u16 = 80;

/// How long a caller waits; some ways do not lead to a published port, with Sortie or without.
const PATIENCE: Duration = Duration::from_secs(2);

/// A server in a container or on a host: it answers each caller once, and tells the test who called.
pub(crate) struct Server {
    tcp: TcpListener,
    udp: UdpSocket,
}

impl Server {
    pub(crate) fn start(place: &dyn Place) -> Result<Self> {
        // Sockets stay in the network namespace in which they were made.
        place.place()?.run(|| {
            let any = (std::net::Ipv6Addr::UNSPECIFIED, PORT);
            let udp = UdpSocket::bind(any).expect("a free port");
            udp.set_read_timeout(Some(PATIENCE)).expect("a time limit");
            Self {
                tcp: TcpListener::bind(any).expect("a free port"),
                udp,
            }
        })
    }

    /// Calls over TCP from a place, and returns whom the server saw if the caller has its answer.
    pub(crate) fn tcp(&self, from: &dyn Place, to: SocketAddr) -> Result<Option<IpAddr>> {
        let connect = || TcpStream::connect_timeout(&to, PATIENCE);
        let Ok(mut client) = from.place()?.run(connect)? else {
            return Ok(None);
        };
        let (mut served, caller) = self.tcp.accept().expect("a caller");
        for stream in [&client, &served] {
            stream.set_read_timeout(Some(LIMIT)).expect("a time limit");
        }
        client.write_all(b"ask").expect("a question");
        let mut question = [0; 3];
        served.read_exact(&mut question).expect("the question");
        served.write_all(b"answer").expect("an answer");
        let mut answer = [0; 6];
        client.read_exact(&mut answer).expect("the answer");
        assert_eq!(&answer, b"answer");
        Ok(Some(caller.ip().to_canonical()))
    }

    /// The same over UDP; a connected socket takes the answer from nobody but whom it asked.
    pub(crate) fn udp(&self, from: &dyn Place, to: SocketAddr) -> Result<Option<IpAddr>> {
        let any: IpAddr = if to.is_ipv4() {
            ip("0.0.0.0")
        } else {
            ip("::")
        };
        let bind = || UdpSocket::bind((any, 0));
        let client = from.place()?.run(bind)?.expect("a free port");
        client
            .set_read_timeout(Some(PATIENCE))
            .expect("a time limit");
        client.connect(to).expect("a route");
        client.send(b"ask").expect("a question");
        let mut packet = [0; 64];
        let Ok((length, caller)) = self.udp.recv_from(&mut packet) else {
            return Ok(None);
        };
        assert_eq!(&packet[..length], b"ask");
        self.udp.send_to(b"answer", caller).expect("an answer");
        let Ok(length) = client.recv(&mut packet) else {
            return Ok(None);
        };
        assert_eq!(&packet[..length], b"answer");
        Ok(Some(caller.ip().to_canonical()))
    }

    /// Over both.
    pub(crate) fn callers(&self, from: &dyn Place, to: SocketAddr) -> Result<[Option<IpAddr>; 2]> {
        Ok([self.tcp(from, to)?, self.udp(from, to)?])
    }
}

fn published(name: &str, port: u16) -> ContainerSpec {
    ContainerSpec::new(name)
        .network("shop")
        .publish("80/tcp", port)
        .publish("80/udp", port)
}

fn egress(spec: ContainerSpec, last: u8) -> ContainerSpec {
    let addresses = format!("203.0.113.{last},2001:db8:113::{last}");
    spec.label("sortie.egress", &addresses)
}

fn leaves_with(stage: &Stage, container: &Container, v4: &str, v6: &str) -> Result<()> {
    let to = stage.lab.destination()?;
    for (to, source) in [(to.v4, v4), (to.v6, v6)] {
        for traffic in ALL_TRAFFIC {
            stage
                .lab
                .expect_source(container, traffic, to, ip(source))?;
        }
    }
    Ok(())
}

/// From outside and from a neighbour, a managed container is reached as an unmanaged one is: by
/// the host's address and by its own egress address, and it sees the same callers.
fn published_ports(engine: EngineKind) -> Result<()> {
    for guard in ["", crate::stage::GUARD_ALL] {
        let mut stage = Stage::without_agent("ports", engine)?;
        stage.network("shop", 1, &[])?;
        stage.start_agent(guard)?;
        let web = stage.managed(&egress(published("web", 8080), 11))?;
        let plain = stage.engine.run(&published("plain", 8081))?;
        stage.wait_for("plain", "Unmanaged")?;
        let caller = stage
            .engine
            .run(&ContainerSpec::new("caller").network("shop"))?;
        stage.wait_for("caller", "Unmanaged")?;
        let (web_server, plain_server) = (Server::start(&web)?, Server::start(&plain)?);
        for address in [HOST_V4, HOST_V6, "203.0.113.11", "2001:db8:113::11"] {
            let (managed, unmanaged) = ((ip(address), 8080).into(), (ip(address), 8081).into());
            let places: [&dyn Place; 2] = [stage.lab.internet(), &caller];
            for from in places {
                assert_eq!(
                    web_server.callers(from, managed)?,
                    plain_server.callers(from, unmanaged)?,
                    "{address}: whom a managed container sees, and an unmanaged one"
                );
            }
            let outside = web_server.callers(stage.lab.internet(), managed)?;
            assert!(
                outside.iter().all(Option::is_some),
                "{address}: {outside:?}"
            );
            // And the managed one as a caller of its neighbour's published port.
            assert_eq!(
                plain_server.callers(&web, unmanaged)?,
                plain_server
                    .callers(&caller, unmanaged)?
                    .map(|seen| seen.map(|seen| own(&caller, &web, seen).expect("addresses"))),
                "{address}: how a managed caller is seen, and an unmanaged one"
            );
        }
        // Calls of its own leave with its address all the same.
        leaves_with(&stage, &web, "203.0.113.11", "2001:db8:113::11")?;
        leaves_with(&stage, &plain, HOST_V4, HOST_V6)?;
    }
    Ok(())
}

/// What `seen` would be for the other container: its own address where it was the first one's.
fn own(one: &Container, other: &Container, seen: IpAddr) -> Result<IpAddr> {
    if seen == one.address("shop", seen.is_ipv6())? {
        other.address("shop", seen.is_ipv6())
    } else {
        Ok(seen)
    }
}

/// On the bridge nothing is translated, whoever is managed.
fn neighbours(engine: EngineKind) -> Result<()> {
    let stage = Stage::guarded("bridge", engine)?;
    stage.network("shop", 1, &[])?;
    let on_shop = |name: &str| ContainerSpec::new(name).network("shop");
    let web = stage.managed(&egress(on_shop("web"), 11))?;
    let mail = stage.managed(&egress(on_shop("mail"), 12))?;
    let plain = stage.engine.run(&on_shop("plain"))?;
    stage.wait_for("plain", "Unmanaged")?;
    let all = [&web, &mail, &plain];
    for server in all {
        let listening = Server::start(server)?;
        for caller in all.into_iter().filter(|caller| caller.id() != server.id()) {
            for v6 in [false, true] {
                let to = (server.address("shop", v6)?, PORT).into();
                let own = caller.address("shop", v6)?;
                assert_eq!(listening.callers(caller, to)?, [Some(own); 2]);
            }
        }
    }
    Ok(())
}

on_every_engine_and_podman!(published_ports, neighbours);
