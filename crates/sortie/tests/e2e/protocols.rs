//! What a translated flow needs besides its packets, and protocols that no socket is for: path MTU,
//! fragments, ICMP errors, SCTP, GRE and ESP.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt::Ipv6Ttl};
use sortie_lab::frame::{Packet, Transport};
use sortie_lab::{
    Association, Call, Container, Direction, EngineKind, Frame, HostSpec, Mark, Place, RawSocket,
    Result, Traffic, UplinkSpec, eventually, send_whole,
};

use crate::stage::{DOCKER_20, DOCKER_29_NFTABLES, LIMIT, Stage, ip};

const EGRESS_V4: &str = "203.0.113.11";
const EGRESS_V6: &str = "2001:db8:113::11";

/// A stage and a container that leaves with the two addresses.
fn stage(name: &str, engine: EngineKind) -> Result<(Stage, Container)> {
    let stage = Stage::new(name, engine)?;
    let web = stage.labelled("web", &format!("{EGRESS_V4},{EGRESS_V6}"))?;
    Ok((stage, web))
}

/// A destination of its own for each family, and the source that it must see.
fn destinations(stage: &Stage) -> Result<[(IpAddr, IpAddr); 2]> {
    let to = stage.lab.destination()?;
    Ok([(to.v4, ip(EGRESS_V4)), (to.v6, ip(EGRESS_V6))])
}

/// A UDP socket at an address of a place; any port where the address is of a container.
fn udp(place: &dyn Place, at: SocketAddr) -> Result<UdpSocket> {
    let socket = place.place()?.run(|| UdpSocket::bind(at))?;
    let socket = socket.unwrap_or_else(|error| panic!("{at}: {error}"));
    socket.set_read_timeout(Some(LIMIT)).expect("a time limit");
    Ok(socket)
}

/// Any address and port of the same family.
fn any(of: IpAddr) -> SocketAddr {
    let text = if of.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    text.parse().expect("an address")
}

/// Bytes that tell when some are missing or at another place.
fn content(length: usize) -> Vec<u8> {
    (0..251).cycle().take(length).collect()
}

/// The packets that crossed the host's uplink in this direction since a mark.
fn packets(stage: &Stage, mark: &Mark, direction: Direction) -> Result<Vec<Packet>> {
    let frames = stage.lab.frames_since(mark)?.into_iter();
    let frames = frames.filter(|(label, frame)| label == "h1 up0" && frame.direction == direction);
    let packet = |(_, frame): (_, Frame)| frame.headers.packet().cloned();
    Ok(frames.filter_map(packet).collect())
}

fn is_icmp(packet: &Packet, wanted: [(u8, u8); 2]) -> bool {
    let wanted = wanted[usize::from(packet.source.is_ipv6())];
    matches!(packet.transport, Transport::Icmp { kind, code, .. } if (kind, code) == wanted)
}

/// From a container to a place at an address, which must see this source.
type Transfer = fn(&dyn Place, &dyn Place, IpAddr, IpAddr) -> Result<()>;

/// A link behind the internet's router takes less than the uplink does. Whoever sends too much is
/// told so by the router, which knows the egress address only; the container must hear it.
fn a_narrow_path(engine: EngineKind) -> Result<()> {
    const FRAGMENTATION_NEEDED: [(u8, u8); 2] = [(3, 4), (2, 0)];
    let (stage, web) = stage("narrow", engine)?;
    let uplink = UplinkSpec::new(&["192.0.2.9/24", "2001:db8:2::9/64"])
        .address("192.0.2.10/24")
        .address("2001:db8:2::10/64")
        .path_mtu(1400);
    let far = stage.lab.host(&HostSpec::new("far").uplink(uplink))?;
    // An address for each protocol: what the container has learned for one must not help the other.
    for (datagrams, segments, source) in [
        ("192.0.2.9", "192.0.2.10", EGRESS_V4),
        ("2001:db8:2::9", "2001:db8:2::10", EGRESS_V6),
    ] {
        let transfers: [(&str, Transfer); 2] = [(datagrams, datagram), (segments, stream)];
        for (to, transfer) in transfers {
            let mark = stage.lab.mark()?;
            transfer(&web, &far, ip(to), ip(source))?;
            stage
                .lab
                .expect_only_sources(&mark, ip(to), &[ip(source)])?;
            let told = packets(&stage, &mark, Direction::In)?;
            let told = told.iter().any(|packet| {
                packet.destination == ip(source) && is_icmp(packet, FRAGMENTATION_NEEDED)
            });
            assert!(told, "{to}: nothing was too large for the path");
        }
    }
    Ok(())
}

/// A datagram that fits the uplink and not the path, from a socket that does not fragment: it is
/// refused where it is sent, once the container knows; what fits arrives.
fn datagram(web: &dyn Place, far: &dyn Place, to: IpAddr, source: IpAddr) -> Result<()> {
    const PORT: u16 = 9000;
    let server = udp(far, SocketAddr::new(to, PORT))?;
    let sender = udp(web, any(to))?;
    send_whole(&sender).expect("a socket that does not fragment");
    let too_large = content(1450);
    eventually(LIMIT, "the container knows the path's MTU", || {
        let sent = sender.send_to(&too_large, (to, PORT));
        match sent.as_ref().map_err(std::io::Error::raw_os_error) {
            Err(Some(code)) if code == Errno::EMSGSIZE as i32 => Ok(()),
            _ => Err(format!("{sent:?}")),
        }
    })?;
    let fits = content(1300);
    sender.send_to(&fits, (to, PORT)).expect("room for it");
    let mut received = vec![0; 2048];
    let (length, from) = server.recv_from(&mut received).expect("what fits");
    assert_eq!(from.ip(), source);
    assert_eq!(received[..length], fits);
    Ok(())
}

/// A transfer over TCP, whose ends have agreed on segments that do not fit the path.
fn stream(web: &dyn Place, far: &dyn Place, to: IpAddr, source: IpAddr) -> Result<()> {
    const PORT: u16 = 9000;
    let listener = far.place()?.run(|| TcpListener::bind((to, PORT)))?;
    let listener = listener.expect("a free port");
    let call = Call::new(Traffic::Tcp(PORT), to).within(LIMIT);
    let mut sender = call.connect(web, PORT)?;
    let (mut accepted, from) = listener.accept().expect("the caller");
    assert_eq!(from.ip(), source);
    accepted.set_read_timeout(Some(LIMIT)).expect("a limit");
    let sent = content(1 << 20);
    let mut received = Vec::new();
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| accepted.read_to_end(&mut received));
        sender.write_all(&sent).expect("all is sent");
        drop(sender);
        reading.join().expect("no panic").expect("all is received");
    });
    assert!(received == sent, "{} bytes arrived", received.len());
    Ok(())
}

mod path_mtu {
    use super::{DOCKER_20, DOCKER_29_NFTABLES, Result};

    #[test]
    fn is_found_docker_20() -> Result<()> {
        super::a_narrow_path(DOCKER_20)
    }

    #[test]
    fn is_found_docker_29_nftables() -> Result<()> {
        super::a_narrow_path(DOCKER_29_NFTABLES)
    }
}

/// Datagrams of three fragments each way come whole, and each fragment has the egress address.
#[test]
fn fragments_leave_with_the_egress_address() -> Result<()> {
    const PORT: u16 = 9000;
    let (stage, web) = stage("fragments", DOCKER_29_NFTABLES)?;
    for (to, source) in destinations(&stage)? {
        let mark = stage.lab.mark()?;
        let peer = udp(stage.lab.internet(), SocketAddr::new(to, PORT))?;
        let own = udp(&web, any(to))?;
        own.connect((to, PORT)).expect("a peer");
        let (asked, mut answered) = (content(4000), content(4000));
        answered.reverse();
        let mut received = vec![0; 8000];
        own.send(&asked).expect("room for it");
        let (length, from) = peer.recv_from(&mut received).expect("the question");
        assert_eq!(from.ip(), source);
        assert_eq!(received[..length], asked);
        peer.send_to(&answered, from).expect("room for it");
        let length = own.recv(&mut received).expect("the answer");
        assert_eq!(received[..length], answered);

        stage.lab.expect_only_sources(&mark, to, &[source])?;
        let left = packets(&stage, &mark, Direction::Out)?;
        let fragments = left.iter().filter(|packet| packet.fragment);
        let sources: Vec<IpAddr> = fragments.map(|packet| packet.source).collect();
        assert_eq!(sources, [source; 3]);
    }
    Ok(())
}

/// The error about an answer leaves as the egress address, with a quoted packet that the other side
/// knows as its own: the container's, which has closed the port meanwhile, and the host's, where an
/// answer has come too far.
#[test]
fn icmp_errors_leave_with_the_egress_address() -> Result<()> {
    const PORT: u16 = 9000;
    const PORT_UNREACHABLE: [(u8, u8); 2] = [(3, 3), (1, 4)];
    const TIME_EXCEEDED: [(u8, u8); 2] = [(11, 0), (3, 0)];
    let (stage, web) = stage("errors", DOCKER_29_NFTABLES)?;
    for (to, source) in destinations(&stage)? {
        let mark = stage.lab.mark()?;
        let peer = udp(stage.lab.internet(), SocketAddr::new(to, PORT))?;
        let own = udp(&web, any(to))?;
        own.send_to(b"?", (to, PORT)).expect("room for it");
        let (_, from) = peer.recv_from(&mut [0]).expect("the question");
        assert_eq!(from.ip(), source);
        drop(own);
        peer.connect(from).expect("a caller");
        peer.send(b"!").expect("room for it");
        let refused = peer.recv(&mut [0]).map_err(|error| error.kind());
        assert_eq!(refused, Err(ErrorKind::ConnectionRefused));
        assert_eq!(errors(&stage, &mark, PORT_UNREACHABLE)?, [source]);

        // Each router on the way counts down: the host is the first.
        if to.is_ipv4() {
            peer.set_ttl(1).expect("a time to live");
        } else {
            setsockopt(&peer, Ipv6Ttl, &1).expect("a hop limit");
        }
        peer.send(b"!").expect("room for it");
        let told = eventually(
            LIMIT,
            "the host tells of the expired answer",
            || match errors(&stage, &mark, TIME_EXCEEDED) {
                Ok(sources) if sources.is_empty() => Err("not yet".to_owned()),
                Ok(sources) => Ok(sources),
                Err(error) => Err(error.to_string()),
            },
        )?;
        assert_eq!(told, [source]);
        stage.lab.expect_only_sources(&mark, to, &[source])?;
    }
    Ok(())
}

/// The sources of the ICMP errors of a kind that left since a mark.
fn errors(stage: &Stage, mark: &Mark, kind: [(u8, u8); 2]) -> Result<Vec<IpAddr>> {
    let left = packets(stage, mark, Direction::Out)?;
    let errors = left.iter().filter(|packet| is_icmp(packet, kind));
    Ok(errors.map(|packet| packet.source).collect())
}

/// A protocol's sockets in two containers with the same egress address, and at the other side.
struct Ends {
    web: RawSocket,
    other: RawSocket,
    peer: RawSocket,
    to: IpAddr,
    source: IpAddr,
}

/// Opens the three, and checks what left; for each family.
fn with_both_families(
    stage: &Stage,
    [web, other]: [&Container; 2],
    protocol: u8,
    exchange: fn(&Stage, &Ends) -> Result<()>,
) -> Result<()> {
    for (to, source) in destinations(stage)? {
        let raw = |container: &Container| {
            let own = container.address("bridge", to.is_ipv6())?;
            RawSocket::open(container, protocol, own)
        };
        let ends = Ends {
            web: raw(web)?,
            other: raw(other)?,
            peer: RawSocket::open(stage.lab.internet(), protocol, to)?,
            to,
            source,
        };
        let mark = stage.lab.mark()?;
        exchange(stage, &ends)?;
        stage.lab.expect_only_sources(&mark, to, &[source])?;
    }
    Ok(())
}

/// SCTP: both begin an association from the same port to the same port, and both are answered.
fn sctp(_: &Stage, ends: &Ends) -> Result<()> {
    const BEGUN: Association = Association {
        source_port: 40_000,
        destination_port: 5000,
        tag: 0x1234_5678,
    };
    for own in [&ends.web, &ends.other] {
        own.send(ends.to, &BEGUN.init())?;
        let (from, packet) = ends.peer.receive()?;
        assert_eq!(from, ends.source);
        // As seen from outside: the second has another port.
        let seen = Association {
            source_port: u16::from_be_bytes([packet[0], packet[1]]),
            ..BEGUN
        };
        assert_eq!(packet, seen.init());
        ends.peer.send(ends.source, &seen.init_ack())?;
        assert_eq!(own.receive()?, (ends.to, BEGUN.init_ack()));
    }
    Ok(())
}

/// GRE and ESP have no ports: who was first has the answers, and nobody else.
fn without_ports(stage: &Stage, ends: &Ends) -> Result<()> {
    // To GRE (RFC 2784) the start is a header without key, to ESP (RFC 4303) any two numbers.
    let packet = [&[0, 0, 0x88, 0xb5, 0, 0, 0, 1], &content(60)[..]].concat();
    ends.web.send(ends.to, &packet)?;
    assert_eq!(ends.peer.receive()?, (ends.source, packet.clone()));
    ends.other.send(ends.to, &packet)?;
    stage.lab.fence()?;
    ends.peer.send(ends.source, &packet)?;
    assert_eq!(ends.web.receive()?, (ends.to, packet));
    Ok(())
}

#[test]
fn protocols_without_sockets_leave_with_the_egress_address() -> Result<()> {
    let (stage, web) = stage("protocols", DOCKER_29_NFTABLES)?;
    let other = stage.labelled("other", &format!("{EGRESS_V4},{EGRESS_V6}"))?;
    let both = [&web, &other];
    with_both_families(&stage, both, 132, sctp)?;
    with_both_families(&stage, both, 47, without_ports)?;
    with_both_families(&stage, both, 50, without_ports)
}
