//! Packets that connection tracking does not follow, or that claim to be another's: none leaves
//! with a source outside policy.

use std::net::{IpAddr, UdpSocket};

use sortie_lab::{
    ALL_TRAFFIC, Container, ContainerSpec, EngineKind, OddPackets, RawSocket, Result, Traffic,
    eventually, eventually_true,
};

use crate::stage::{
    DOCKER_20, DOCKER_29_IPTABLES, DOCKER_29_NFTABLES, HOST_V4, HOST_V6, LIMIT, Stage, ip,
};

const EGRESS_V4: &str = "203.0.113.11";
const EGRESS_V6: &str = "2001:db8:113::11";
/// What `attach` gives to a third container.
const DIRECT_V4: &str = "203.0.113.21";
const DIRECT_V6: &str = "2001:db8:113::21";
const FOREIGN_V4: &str = "192.0.2.99";
const FOREIGN_V6: &str = "2001:db8:2::99";

/// A managed container and an unlabelled neighbour on one bridge.
struct Pair {
    managed: Container,
    other: Container,
}

impl Pair {
    fn new(stage: &Stage, agent: bool) -> Result<Self> {
        stage.network("shop", 1, &[])?;
        let egress = format!("{EGRESS_V4},{EGRESS_V6}");
        let managed = ContainerSpec::new("web").network("shop");
        let managed = managed.label("sortie.egress", &egress);
        let other = ContainerSpec::new("other").network("shop");
        let pair = Self {
            managed: stage.engine.run(&managed)?,
            other: stage.engine.run(&other)?,
        };
        if agent {
            stage.wait_for("web", "Ready")?;
            stage.wait_for("other", "Unmanaged")?;
        }
        Ok(pair)
    }
}

/// Odd packets of one sender, as each of these sources, to a destination of their own each.
fn send(
    stage: &Stage,
    sender: &Container,
    mac_of: &Container,
    sources: &[IpAddr],
    allowed: &[&str],
) -> Result<()> {
    let allowed: Vec<IpAddr> = allowed.iter().map(|text| ip(text)).collect();
    for source in sources {
        let to = stage.lab.destination()?;
        let to = if source.is_ipv4() { to.v4 } else { to.v6 };
        let mark = stage.lab.mark()?;
        let packets = OddPackets::new(*source, to)?;
        packets.send(sender)?;
        packets.send_as(sender, mac_of.mac("shop")?)?;
        stage.lab.fence()?;
        stage.lab.expect_only_sources(&mark, to, &allowed)?;
    }
    Ok(())
}

fn none_leaves_a_managed_container_with_another_source(engine: EngineKind) -> Result<()> {
    let stage = Stage::new("odd", engine)?;
    let Pair { managed, other } = Pair::new(&stage, true)?;
    let sources = [
        managed.address("shop", false)?,
        managed.address("shop", true)?,
        other.address("shop", false)?,
        other.address("shop", true)?,
        ip(FOREIGN_V4),
        ip(FOREIGN_V6),
        ip(EGRESS_V4),
        ip(EGRESS_V6),
        ip(HOST_V4),
        ip(HOST_V6),
    ];
    let allowed = [EGRESS_V4, EGRESS_V6];
    for mac_of in [&managed, &other] {
        send(&stage, &managed, mac_of, &sources, &allowed)?;
    }
    // Ordinary traffic goes on.
    let to = stage.lab.destination()?;
    for traffic in ALL_TRAFFIC {
        stage
            .lab
            .expect_source(&managed, traffic, to.v4, ip(EGRESS_V4))?;
    }
    Ok(())
}

#[test]
fn none_leaves_a_managed_container_with_another_source_docker_20() -> Result<()> {
    none_leaves_a_managed_container_with_another_source(DOCKER_20)
}

#[test]
fn none_leaves_a_managed_container_with_another_source_docker_29_nftables() -> Result<()> {
    none_leaves_a_managed_container_with_another_source(DOCKER_29_NFTABLES)
}

#[test]
fn none_leaves_a_managed_container_with_another_source_docker_29_iptables() -> Result<()> {
    none_leaves_a_managed_container_with_another_source(DOCKER_29_IPTABLES)
}

/// An unlabelled neighbour claims to be the managed container, and claims managed addresses.
fn a_neighbour_never_leaves_with_a_managed_address(engine: EngineKind) -> Result<()> {
    let stage = Stage::new("borrow", engine)?;
    let Pair { managed, other } = Pair::new(&stage, true)?;
    let third = ContainerSpec::new("container1").network("none");
    let third = stage.engine.run(&third)?;
    let direct = format!("{DIRECT_V4},{DIRECT_V6}");
    stage.ok(&["attach", "container1", "--address", &direct]);
    let sources = [
        managed.address("shop", false)?,
        managed.address("shop", true)?,
        ip(EGRESS_V4),
        ip(EGRESS_V6),
        ip(DIRECT_V4),
        ip(DIRECT_V6),
    ];
    for mac_of in [&managed, &other] {
        send(&stage, &other, mac_of, &sources, &[])?;
    }
    let to = stage.lab.destination()?;
    let expected = [
        (&managed, EGRESS_V4),
        (&other, HOST_V4),
        (&third, DIRECT_V4),
    ];
    for (container, address) in expected {
        stage
            .lab
            .expect_source(container, Traffic::Tcp(7), to.v4, ip(address))?;
    }
    Ok(())
}

#[test]
fn a_neighbour_never_leaves_with_a_managed_address_docker_20() -> Result<()> {
    a_neighbour_never_leaves_with_a_managed_address(DOCKER_20)
}

#[test]
fn a_neighbour_never_leaves_with_a_managed_address_docker_29_nftables() -> Result<()> {
    a_neighbour_never_leaves_with_a_managed_address(DOCKER_29_NFTABLES)
}

#[test]
fn a_neighbour_never_leaves_with_a_managed_address_docker_29_iptables() -> Result<()> {
    a_neighbour_never_leaves_with_a_managed_address(DOCKER_29_IPTABLES)
}

/// A container whose interface is ours leaves with what it was given only.
#[test]
fn none_leaves_an_attached_container_with_another_source() -> Result<()> {
    let stage = Stage::new("direct", DOCKER_20)?;
    let third = ContainerSpec::new("container1").network("none");
    let third = stage.engine.run(&third)?;
    let direct = [DIRECT_V4, DIRECT_V6];
    stage.ok(&["attach", "container1", "--address", &direct.join(",")]);
    for source in [
        DIRECT_V4, DIRECT_V6, FOREIGN_V4, FOREIGN_V6, EGRESS_V4, EGRESS_V6, HOST_V4, HOST_V6,
    ] {
        let to = stage.lab.destination()?;
        let source = ip(source);
        let to = if source.is_ipv4() { to.v4 } else { to.v6 };
        let mark = stage.lab.mark()?;
        OddPackets::new(source, to)?.send(&third)?;
        stage.lab.fence()?;
        stage.lab.expect_only_sources(&mark, to, &direct.map(ip))?;
    }
    let to = stage.lab.destination()?;
    stage
        .lab
        .expect_source(&third, Traffic::Tcp(7), to.v4, ip(DIRECT_V4))
}

/// The same packets without Sortie: they do leave wrongly, so the tests above can fail.
#[test]
fn without_sortie_they_leave() -> Result<()> {
    let stage = Stage::without_agent("bare", DOCKER_20)?;
    let Pair { managed, other } = Pair::new(&stage, false)?;
    let allowed = [EGRESS_V4, EGRESS_V6];
    for source in [
        managed.address("shop", false)?,
        managed.address("shop", true)?,
        other.address("shop", false)?,
        ip(FOREIGN_V4),
    ] {
        let wrong = send(&stage, &managed, &managed, &[source], &allowed);
        assert!(wrong.is_err(), "nothing left wrongly as {source}");
    }
    // Its neighbour's IP, and an address that is another's on the uplink's subnet.
    for source in [managed.address("shop", false)?, ip(DIRECT_V4)] {
        let borrowed = send(&stage, &other, &managed, &[source], &[]);
        assert!(borrowed.is_err(), "nothing left as {source}");
    }
    Ok(())
}

/// The neighbour announces the managed container's addresses as its own: by ARP, as who asks for the
/// router with them, and by an unsolicited neighbour advertisement.
fn announces(managed: &Container, other: &Container) -> Result<()> {
    const ICMPV6: u8 = 58;
    let router = ["10.77.1.1", "fd77:1::1"].map(ip);
    let (v4, v6) = (
        managed.address("shop", false)?,
        managed.address("shop", true)?,
    );
    let inside = other.netns()?;
    inside.ip("neigh flush dev eth0")?;
    inside.ip(&format!("addr add {v4}/32 dev eth0"))?;
    let asked = inside.run(|| UdpSocket::bind((v4, 0))?.send_to(b"?", (router[0], 9)))?;
    asked.expect("a datagram");
    inside.ip(&format!("addr del {v4}/32 dev eth0"))?;
    // RFC 4861, section 4.4: override, and the option with the sender's MAC; hop limit 255.
    inside.set_sysctl("net.ipv6.conf.eth0.hop_limit", "255")?;
    let IpAddr::V6(target) = v6 else {
        panic!("{v6} is no IPv6 address");
    };
    let header = [136, 0, 0, 0, 0x20, 0, 0, 0];
    let advertisement = [
        &header[..],
        &target.octets(),
        &[2, 1],
        &other.mac("shop")?.0,
    ]
    .concat();
    let socket = RawSocket::open(other, ICMPV6, other.address("shop", true)?)?;
    socket.send(router[1], &advertisement)
}

/// Whether the host takes this container for the owner of the managed one's addresses.
fn taken_for(stage: &Stage, owner: &Container, managed: &Container) -> Result<[bool; 2]> {
    let mac = owner.mac("shop")?.to_string();
    let known = |v6| -> Result<bool> {
        let address = managed.address("shop", v6)?;
        let known = stage.host.ip(&format!("neigh show to {address}"))?;
        Ok(known.contains(&mac))
    };
    Ok([known(false)?, known(true)?])
}

/// A neighbour does not get the answers to a managed container by saying that it is that one.
/// Without Sortie it does.
#[test]
fn a_neighbour_never_gets_the_answers() -> Result<()> {
    let mut stage = Stage::without_agent("answers", DOCKER_20)?;
    let Pair { managed, other } = Pair::new(&stage, false)?;
    let call = |stage: &Stage, source: [&str; 2]| -> Result<()> {
        let to = stage.lab.destination()?;
        for (to, source) in [(to.v4, source[0]), (to.v6, source[1])] {
            stage
                .lab
                .expect_source(&managed, Traffic::Udp(7), to, ip(source))?;
        }
        Ok(())
    };
    call(&stage, [HOST_V4, HOST_V6])?;
    announces(&managed, &other)?;
    eventually_true(LIMIT, "without Sortie the neighbour is believed", || {
        taken_for(&stage, &other, &managed).is_ok_and(|taken| taken == [true; 2])
    })?;

    stage.start_agent("")?;
    stage.wait_for("web", "Ready")?;
    stage.host.ip("neigh flush all")?;
    call(&stage, [EGRESS_V4, EGRESS_V6])?;
    announces(&managed, &other)?;
    stage.lab.fence()?;
    eventually(LIMIT, "both are dropped", || {
        let status = stage.json(&["status"]).map_err(|error| error.to_string())?;
        let mut drops = status["drops"].as_array().into_iter().flatten();
        let identity = drops.find(|drop| drop["reason"] == "identity");
        let packets = identity.and_then(|drop| drop["packets"].as_u64());
        if packets.is_some_and(|packets| packets >= 2) {
            Ok(())
        } else {
            Err(status["drops"].to_string())
        }
    })?;
    assert_eq!(taken_for(&stage, &other, &managed)?, [false; 2]);
    assert_eq!(taken_for(&stage, &managed, &managed)?, [true; 2]);
    call(&stage, [EGRESS_V4, EGRESS_V6])
}
