use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use sortie_plan::redirect::{GATEWAY_PORT, RESOLVER_PORT, SOCKET_MARK};

use super::*;
use crate::testing::{Container, in_namespace, sh};

/// How long a packet may take on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(30);
/// An address outside, and the container's neighbour.
const FAR: [&str; 2] = ["198.51.100.7", "2001:db8:51::7"];
const NEAR: &str = "172.17.0.1";

fn redirect() -> Redirect {
    let ranges = ["127.0.0.0/8", "172.17.0.0/16", "::1/128", "fd00::/64"];
    Redirect {
        ports: [(80, 80), (8000, 8010)].into(),
        local: ranges.map(|range| range.parse().unwrap()).into(),
        direct: BTreeSet::new(),
    }
}

/// The test's namespace is the way out, and all that is outside.
fn outside() {
    sh(
        "ip addr add 172.17.0.1/16 dev port; ip addr add fd00::1/64 dev port nodad
        ip addr add 198.51.100.7/32 dev lo; ip addr add 2001:db8:51::7/128 dev lo nodad",
    );
}

/// Waits for one datagram, and answers where it came from with who answers.
fn answer(socket: &UdpSocket, by: &str) {
    let (_, from) = socket.recv_from(&mut [0; 64]).unwrap();
    socket.send_to(by.as_bytes(), from).unwrap();
}

fn bound(at: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(at).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

/// Who answers a lookup that is sent to `to`; the answer must come from there.
fn asked(to: SocketAddr, mark: Option<u32>, answering: &UdpSocket, by: &str) -> String {
    let any: IpAddr = if to.is_ipv4() {
        [0; 4].into()
    } else {
        [0; 16].into()
    };
    let socket = bound((any, 0).into());
    if let Some(mark) = mark {
        setsockopt(&socket, sockopt::Mark, &mark).unwrap();
    }
    // Connected: the kernel takes an answer from no one else.
    socket.connect(to).unwrap();
    socket.send(b"?").unwrap();
    answer(answering, by);
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

/// Connects, and yields the accepting side's end.
fn connected(to: SocketAddr, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect_timeout(&to, LIMIT).unwrap();
    let (server, _) = listener.accept().unwrap();
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
    }
    (client, server)
}

fn talks(client: &mut TcpStream, server: &mut TcpStream) {
    client.write_all(b"?").unwrap();
    server.read_exact(&mut [0]).unwrap();
    server.write_all(b"!").unwrap();
    client.read_exact(&mut [0]).unwrap();
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

#[test]
fn lookups_come_to_the_resolver_and_its_own_go_where_they_went() {
    in_namespace(|| {
        let state = tempfile::tempdir().unwrap();
        let container = Container::new();
        outside();
        // As in Docker's containers: its resolver is at another port than 53.
        container.sh("nft add table ip nat
            nft add chain ip nat OUTPUT '{ type nat hook output priority -100; }'
            nft add rule ip nat OUTPUT ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:40053");
        let mut redirects = Redirects::load(state.path()).unwrap();
        redirects.add(container.pid(), &redirect()).unwrap();
        let servers = FAR.map(|address| bound(at(address, 53)));
        container
            .namespace
            .enter(|| {
                let resolver = ["127.0.0.1", "::1"].map(|a| bound(at(a, RESOLVER_PORT)));
                let docker = bound(at("127.0.0.11", 40_053));
                for (v6, server) in servers.iter().enumerate() {
                    let to = at(FAR[v6], 53);
                    assert_eq!(asked(to, None, &resolver[v6], "resolver"), "resolver");
                    let own = asked(to, Some(SOCKET_MARK), server, "server");
                    assert_eq!(own, "server");
                }
                for to in [at("127.0.0.11", 53), at(NEAR, 53), at("127.0.0.1", 53)] {
                    assert_eq!(asked(to, None, &resolver[0], "resolver"), "resolver");
                }
                let to = at("127.0.0.11", 53);
                assert_eq!(asked(to, Some(SOCKET_MARK), &docker, "docker"), "docker");

                let listener = TcpListener::bind(at("127.0.0.1", RESOLVER_PORT)).unwrap();
                let (_client, server) = connected(at(FAR[0], 53), &listener);
                let asked = getsockopt(&server, sockopt::OriginalDst).unwrap();
                assert_eq!(u16::from_be(asked.sin_port), 53);
            })
            .unwrap();
    });
}

#[test]
fn connections_come_to_the_gateway_but_for_those_that_are_no_business_of_it() {
    in_namespace(|| {
        let state = tempfile::tempdir().unwrap();
        let container = Container::new();
        outside();
        let mut redirects = Redirects::load(state.path()).unwrap();
        let far = FAR.map(|address| TcpListener::bind(at(address, 80)).unwrap());
        let enter = |run: &(dyn Fn() + Sync)| container.namespace.enter(run).unwrap();
        // Begun before: it goes on as it is.
        let old = container
            .namespace
            .enter(|| connected(at(FAR[0], 80), &far[0]));
        let (mut client, mut server) = old.unwrap();
        talks(&mut client, &mut server);
        redirects.add(container.pid(), &redirect()).unwrap();
        talks(&mut client, &mut server);

        let near = TcpListener::bind(at(NEAR, 80)).unwrap();
        let other = TcpListener::bind(at(FAR[0], 81)).unwrap();
        enter(&|| {
            let gateway = ["127.0.0.1", "::1"].map(|a| TcpListener::bind(at(a, GATEWAY_PORT)));
            let [v4, v6] = gateway.map(Result::unwrap);
            for port in [80, 8005] {
                let (mut client, mut server) = connected(at(FAR[0], port), &v4);
                let to = getsockopt(&server, sockopt::OriginalDst).unwrap();
                assert_eq!(u32::from_be(to.sin_addr.s_addr), 0xc633_6407);
                assert_eq!(u16::from_be(to.sin_port), port);
                talks(&mut client, &mut server);
            }
            let (mut client, mut server) = connected(at(FAR[1], 80), &v6);
            let to = getsockopt(&server, sockopt::Ip6tOriginalDst).unwrap();
            assert_eq!(u16::from_be(to.sin6_port), 80);
            talks(&mut client, &mut server);
            // To the neighbour, to another port, to itself.
            connected(at(NEAR, 80), &near);
            connected(at(FAR[0], 81), &other);
            let itself = TcpListener::bind(at("172.17.0.2", 80)).unwrap();
            connected(at("172.17.0.2", 80), &itself);
        });
        // Where the kernel decides alone it goes straight there.
        let direct = Redirect {
            direct: FAR.map(|address| address.parse().unwrap()).into(),
            ..redirect()
        };
        redirects.add(container.pid(), &direct).unwrap();
        enter(&|| {
            connected(at(FAR[0], 80), &far[0]);
            connected(at(FAR[1], 80), &far[1]);
        });
    });
}

#[test]
fn nobody_listens_so_nothing_leaves() {
    in_namespace(|| {
        let state = tempfile::tempdir().unwrap();
        let container = Container::new();
        outside();
        let _far = TcpListener::bind(at(FAR[0], 80)).unwrap();
        let mut redirects = Redirects::load(state.path()).unwrap();
        redirects.add(container.pid(), &redirect()).unwrap();
        container
            .namespace
            .enter(|| {
                let refused = TcpStream::connect_timeout(&at(FAR[0], 80), LIMIT).unwrap_err();
                assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
                let socket = bound(at("0.0.0.0", 0));
                socket.connect(at(FAR[0], 53)).unwrap();
                socket.send(b"?").unwrap();
                let refused = socket.recv(&mut [0; 64]).unwrap_err();
                assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
            })
            .unwrap();
    });
}

#[test]
fn it_is_changed_repaired_and_taken_back() {
    in_namespace(|| {
        let state = tempfile::tempdir().unwrap();
        let container = Container::new();
        let pid = container.pid();
        container.sh("nft add table inet theirs");
        let before = container.sh("nft list ruleset");
        let mut redirects = Redirects::load(state.path()).unwrap();
        let others = Redirect {
            ports: [(443, 443)].into(),
            local: ["10.0.0.0/8".parse().unwrap()].into(),
            direct: ["198.51.100.9".parse().unwrap()].into(),
        };
        for wanted in [redirect(), others, redirect()] {
            for _ in 0..2 {
                redirects.add(pid, &wanted).unwrap();
                let found = redirects.observe(Look::Everywhere).unwrap();
                assert_eq!(found, BTreeMap::from([(pid, wanted.clone())]));
            }
        }
        let damages = [
            "nft flush ruleset; nft add table inet theirs",
            "nft flush chain inet sortie names",
            "nft add rule inet sortie names accept",
            "nft flush set inet sortie local4",
            "nft add element inet sortie direct4 '{ 198.51.100.9 }'",
        ];
        for damage in damages {
            container.sh(damage);
            let believed = redirects.observe(Look::Nowhere).unwrap();
            assert_eq!(believed.get(&pid), Some(&redirect()), "{damage}");
            let found = redirects.observe(Look::Everywhere).unwrap();
            assert_ne!(found.get(&pid), Some(&redirect()), "{damage}");
            redirects.add(pid, &redirect()).unwrap();
            let found = redirects.observe(Look::Everywhere).unwrap();
            assert_eq!(found.get(&pid), Some(&redirect()), "{damage}");
        }
        // Another process knows where it is, and what is in it no more.
        let mut redirects = Redirects::load(state.path()).unwrap();
        let found = redirects.observe(Look::Everywhere).unwrap();
        assert_eq!(found, BTreeMap::from([(pid, Redirect::default())]));
        for _ in 0..2 {
            redirects.delete(pid).unwrap();
        }
        assert_eq!(container.sh("nft list ruleset"), before);
        assert_eq!(
            redirects.observe(Look::Everywhere).unwrap(),
            BTreeMap::new()
        );
    });
}

#[test]
fn what_is_gone_needs_nothing_and_what_is_refused_stops_nobody() {
    in_namespace(|| {
        let state = tempfile::tempdir().unwrap();
        let mut redirects = Redirects::load(state.path()).unwrap();
        // Its owner is in the container, and lives on.
        let container = Container::new();
        let owned = container.namespace.enter(|| {
            let mut socket = Socket::open().unwrap();
            let mut batch = Batch::new();
            let inet = nfnetlink::Family::Inet;
            batch.add_table(&nfnetlink::Table::new(inet, TABLE).flags(table::Flags::OWNER));
            socket.commit(&batch).unwrap();
            socket
        });
        redirects.add(container.pid(), &redirect()).unwrap();
        let found = redirects.observe(Look::Everywhere).unwrap();
        assert_eq!(found[&container.pid()], Redirect::default());
        drop(owned);
        redirects.add(container.pid(), &redirect()).unwrap();
        let found = redirects.observe(Look::Everywhere).unwrap();
        assert_eq!(found[&container.pid()], redirect());

        let mut container = container;
        container.end();
        assert_eq!(
            redirects.observe(Look::Everywhere).unwrap(),
            BTreeMap::new()
        );
        redirects.add(container.pid(), &redirect()).unwrap();
        redirects.delete(container.pid()).unwrap();
        // In this very namespace, as a container with the host's network is. The process is in
        // the machine's own: it is the thread that is in the test's.
        let this = nix::unistd::gettid().as_raw().unsigned_abs();
        redirects.add(this, &redirect()).unwrap();
        assert_eq!(sh("nft list ruleset"), "");
    });
}

#[test]
fn what_cannot_be_noted_is_made() {
    in_namespace(|| {
        let state = tempfile::tempdir().unwrap();
        let container = Container::new();
        let file = state.path().join("file");
        std::fs::write(&file, "").unwrap();
        let mut redirects = Redirects {
            file: file.join("folder"),
            notes: Vec::new(),
            made: BTreeMap::new(),
        };
        let error = redirects.add(container.pid(), &redirect()).unwrap_err();
        assert!(error.to_string().contains("folder"), "{error}");
        let found = redirects.observe(Look::Everywhere).unwrap();
        assert_eq!(found[&container.pid()], redirect());
    });
}

#[test]
fn what_is_not_led_to_the_gateway_comes_and_goes_without_a_new_table() {
    in_namespace(|| {
        let state = tempfile::tempdir().unwrap();
        let container = Container::new();
        let mut redirects = Redirects::load(state.path()).unwrap();
        let pid = container.pid();
        redirects.add(pid, &redirect()).unwrap();
        let addresses = FAR.map(|address| address.parse().unwrap());
        redirects.direct(pid, &addresses, &[]).unwrap();
        let wanted = |direct: &[IpAddr]| Redirect {
            direct: direct.iter().copied().collect(),
            ..redirect()
        };
        let found = redirects.observe(Look::Everywhere).unwrap();
        assert_eq!(found, [(pid, wanted(&addresses))].into());
        redirects.direct(pid, &[], &addresses[..1]).unwrap();
        let found = redirects.observe(Look::Everywhere).unwrap();
        assert_eq!(found, [(pid, wanted(&addresses[1..]))].into());
        let listed = container.sh("nft list set inet sortie direct6");
        assert!(listed.contains(FAR[1]), "{listed}");
    });
}
