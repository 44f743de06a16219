//! NFLOG in each family that the drops of a host are logged in.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use nfnetlink::chain::{Chain, ChainType, HookPoint};
use nfnetlink::expr::Exprs;
use nfnetlink::expr::selectors::{IP_DADDR, META_L4PROTO, UDP_DPORT};
use nfnetlink::log::{self, Config, Packet};
use nfnetlink::{Batch, Family, Listener, Notice, Rule, Socket, Table};

use super::namespace::{in_namespace, run, wait_for};

const GROUP: u16 = 77;
const LIMIT: Duration = Duration::from_secs(20);
const UDP_PORT: u16 = 4711;

/// Adds a chain that logs and drops what is sent to the port.
fn log_drops(family: Family, point: HookPoint, devices: &[&str]) {
    let mut batch = Batch::new();
    batch.add_table(&Table::new(family, "t"));
    let chain = Chain::base(family, "t", "c", ChainType::Filter, point, 0);
    batch.add_chain(&chain.devices(devices.iter().copied()));
    let exprs = Exprs::new(family)
        .eq(UDP_DPORT, UDP_PORT)
        .log(GROUP, "sortie drop ")
        .drop();
    batch.add_rule(&Rule::new(family, "t", "c", exprs));
    Socket::open().unwrap().commit(&batch).unwrap();
}

fn next_packet(packets: &mut Listener<Packet>) -> Packet {
    match packets.next(LIMIT).unwrap() {
        Some(Notice::Event(packet)) => packet,
        other => panic!("{other:?}"),
    }
}

fn index_of(device: &str) -> u32 {
    nix::net::if_::if_nametoindex(device).unwrap()
}

/// The UDP destination port of an IPv4 packet.
fn dport(packet: &Packet) -> u16 {
    let bytes = packet.network();
    u16::from_be_bytes([bytes[22], bytes[23]])
}

#[test]
fn inet() {
    in_namespace(|| {
        run("ip", &["link", "set", "lo", "up"]);
        log_drops(Family::Inet, HookPoint::POSTROUTING, &[]);
        let mut packets = log::listen(&Config::new(GROUP)).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.set_read_timeout(Some(LIMIT)).unwrap();
        let _ = sender.send_to(&[7; 400], ("127.0.0.1", UDP_PORT));
        let packet = next_packet(&mut packets);
        assert_eq!(packet.prefix, "sortie drop ");
        assert_eq!(packet.family, Family::Ip);
        assert_eq!(packet.group, GROUP);
        assert_eq!(packet.outdev, Some(index_of("lo")));
        let hook = packet.hook.unwrap();
        assert_eq!((hook.protocol, hook.hook), (0x0800, 4));
        assert_eq!(packet.payload.len(), 128, "cut to the snap length");
        assert_eq!(dport(&packet), UDP_PORT);

        let sender = UdpSocket::bind("[::1]:0").unwrap();
        let _ = sender.send_to(b"six", ("::1", UDP_PORT));
        assert_eq!(next_packet(&mut packets).family, Family::Ip6);
    });
}

#[test]
fn one_listener_a_group() {
    in_namespace(|| {
        let first = log::listen(&Config::new(GROUP)).unwrap();
        let error = log::listen(&Config::new(GROUP)).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EPERM));
        assert!(error.to_string().contains("NFLOG group 77"), "{error}");
        drop(first);
        wait_for("the group", || log::listen(&Config::new(GROUP)).ok());
    });
}

/// A bridge with one port, and a way to send into it from the port's other end.
fn bridge_with_sender() {
    run("ip", &["link", "add", "br0", "type", "bridge"]);
    run(
        "ip",
        &[
            "link", "add", "port0", "type", "veth", "peer", "name", "far0",
        ],
    );
    run("ip", &["link", "set", "port0", "master", "br0"]);
    for device in ["lo", "br0", "port0", "far0"] {
        run("ip", &["link", "set", device, "up"]);
    }
    run("ip", &["addr", "add", "10.9.0.1/24", "dev", "far0"]);
    let mac = "02:00:00:00:00:99";
    run(
        "ip",
        &["neigh", "add", "10.9.0.2", "lladdr", mac, "dev", "far0"],
    );
}

/// Sends out of far0 until a packet is logged: a bridge port forwards nothing until the
/// kernel has noticed that its link is up.
fn send_until_logged(packets: &mut Listener<Packet>) -> Packet {
    let sender = UdpSocket::bind("10.9.0.1:0").unwrap();
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        let _ = sender.send_to(b"hello", ("10.9.0.2", UDP_PORT));
        if let Some(Notice::Event(packet)) = packets.next(Duration::from_millis(50)).unwrap() {
            return packet;
        }
    }
    panic!("no packet was logged");
}

#[test]
fn bridge() {
    in_namespace(|| {
        bridge_with_sender();
        log_drops(Family::Bridge, HookPoint::PREROUTING, &[]);
        let mut packets = log::listen(&Config::new(GROUP)).unwrap();
        let packet = send_until_logged(&mut packets);
        assert_eq!(packet.family, Family::Bridge);
        assert_eq!(packet.prefix, "sortie drop ");
        assert_eq!(packet.physindev, Some(index_of("port0")));
        assert_eq!(packet.indev, Some(index_of("br0")));
        assert_eq!(packet.hwaddr.as_ref().map(Vec::len), Some(6));
        assert_eq!(dport(&packet), UDP_PORT);
    });
}

#[test]
fn netdev_egress() {
    in_namespace(|| {
        bridge_with_sender();
        log_drops(Family::Netdev, HookPoint::NETDEV_EGRESS, &["far0"]);
        let mut packets = log::listen(&Config::new(GROUP)).unwrap();
        let packet = send_until_logged(&mut packets);
        assert_eq!(packet.family, Family::Netdev);
        assert_eq!(packet.prefix, "sortie drop ");
        assert_eq!(packet.outdev, Some(index_of("far0")));
        assert_eq!(dport(&packet), UDP_PORT);
    });
}

#[test]
fn packets_come_at_once_and_in_order() {
    in_namespace(|| {
        run("ip", &["link", "set", "lo", "up"]);
        let mut batch = Batch::new();
        batch.add_table(&Table::new(Family::Ip, "t"));
        let filter = ChainType::Filter;
        let out = HookPoint::OUTPUT;
        batch.add_chain(&Chain::base(Family::Ip, "t", "c", filter, out, 0));
        let local = std::net::Ipv4Addr::LOCALHOST;
        let exprs = Exprs::new(Family::Ip)
            .eq(IP_DADDR, local)
            .eq(META_L4PROTO, 17_u8)
            .set_meta_mark(9)
            .log(GROUP, "m");
        batch.add_rule(&Rule::new(Family::Ip, "t", "c", exprs));
        Socket::open().unwrap().commit(&batch).unwrap();
        let mut packets = log::listen(&Config::new(GROUP)).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for port in 5000..5020 {
            sender.send_to(b"x", (local, port)).unwrap();
            let packet = next_packet(&mut packets);
            assert_eq!((dport(&packet), packet.mark), (port, 9));
        }
    });
}
