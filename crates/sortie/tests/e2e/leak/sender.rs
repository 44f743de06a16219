//! What runs in a container of the leak test: it sends from its first instruction until it is
//! stopped, to a destination that nobody else has.

use std::collections::VecDeque;
use std::env;
use std::fs::OpenOptions;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::poll::{PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};
use sortie_lab::{Container, ContainerSpec, Destination, OddPackets, Result};

/// The UDP port of a container's very first packet, and of no other.
pub(super) const FIRST: u16 = 1001;

/// An observer answers here with TCP and UDP.
pub(super) const ECHO: u16 = 7;
const DNS: u16 = 53;

/// Variables that name the destination.
const V4: &str = "LEAK_V4";
const V6: &str = "LEAK_V6";
/// Which addresses are claimed, with commas.
const SOURCES: &str = "LEAK_SOURCES";

/// Between two rounds, in milliseconds: 60 containers must leave two cores time for the faults.
const PAUSE: u16 = 100;

/// Connections that are kept open, the oldest ending for each new one.
const OPEN: usize = 8;

/// A query for the root's name servers (RFC 1035, section 4.1).
const QUERY: [u8; 17] = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];

/// A container that sends to `to`, from an image with this very program.
pub(super) fn spec(name: &str, image: &str, to: Destination) -> ContainerSpec {
    ContainerSpec::new(name)
        .image(image)
        .command(&["--exact", "leak::sender::sends_until_stopped", "--ignored"])
        .env(V4, &to.v4.to_string())
        .env(V6, &to.v6.to_string())
}

/// A container that sends to `to` what it is told to, and claims these sources.
pub(super) fn claiming(
    name: &str,
    image: &str,
    to: Destination,
    sources: &[IpAddr],
) -> ContainerSpec {
    let sources: Vec<String> = sources.iter().map(ToString::to_string).collect();
    spec(name, image, to)
        .command(&["--exact", "leak::sender::waits_until_stopped", "--ignored"])
        .env(SOURCES, &sources.join(","))
}

/// Sends from inside such a container, with its cgroup.
pub(super) fn claims_from(container: &Container) -> Result<()> {
    let program = env::current_exe().expect("this program");
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let program = format!("/bin/{name}");
    container.exec(&[&program, "--exact", "leak::sender::claims", "--ignored"])?;
    Ok(())
}

/// What the variables of the container name.
pub(super) fn destination() -> [IpAddr; 2] {
    let [v4, v6] = [V4, V6].map(|name| env::var(name).ok().and_then(|text| text.parse().ok()));
    let (Some(v4), Some(v6)) = (v4, v6) else {
        panic!("{V4} and {V6} must name the destination");
    };
    [v4, v6]
}

#[test]
#[ignore = "the process that the leak test starts in containers, and beside it others"]
fn waits_until_stopped() {
    loop {
        let _ = poll(&mut [], PollTimeout::NONE);
    }
}

#[test]
#[ignore = "the process that the leak test starts in containers"]
fn claims() {
    let sources = env::var(SOURCES).expect("the sources");
    let sources = sources
        .split(',')
        .map(|text| text.parse().expect("an address"));
    for source in sources.collect::<Vec<IpAddr>>() {
        let to = destination()
            .into_iter()
            .find(|to| to.is_ipv4() == source.is_ipv4());
        let packets = OddPackets::new(source, to.expect("one of each family"));
        // What the kernel drops of its own it says.
        let _ = packets.expect("packets").send_here();
    }
}

#[test]
#[ignore = "the process that the leak test starts in containers"]
fn sends_until_stopped() {
    let to = destination();
    if is_first_start() {
        for to in to {
            let _ = datagram(to, FIRST, b"first");
        }
    }
    let mut old: [Option<UdpSocket>; 2] = [None, None];
    let mut open = VecDeque::new();
    loop {
        for (to, old) in to.into_iter().zip(&mut old) {
            // What cannot be sent now, for want of a route or an address, is tried again.
            let _ = datagram(to, ECHO, b"new");
            let _ = datagram(to, DNS, &QUERY);
            open.extend(syn(to, ECHO));
            match old {
                Some(socket) => drop(socket.send(b"old")),
                None => *old = datagram(to, ECHO, b"old").ok(),
            }
        }
        while open.len() > OPEN {
            open.pop_front();
        }
        let _ = poll(&mut [], PollTimeout::from(PAUSE));
    }
}

/// Whether this container has not run before: its files outlive its processes.
fn is_first_start() -> bool {
    let mut new = OpenOptions::new();
    new.write(true).create_new(true).open("/started").is_ok()
}

/// Sends one datagram from a port of its own, without waiting for anything.
pub(super) fn datagram(to: IpAddr, port: u16, bytes: &[u8]) -> io::Result<UdpSocket> {
    let any: IpAddr = if to.is_ipv4() {
        [0, 0, 0, 0].into()
    } else {
        [0_u16; 8].into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect((to, port))?;
    socket.send(bytes)?;
    Ok(socket)
}

/// Begins a TCP connection, which the kernel goes on with.
pub(super) fn syn(to: IpAddr, port: u16) -> Option<OwnedFd> {
    let family = if to.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(family, SockType::Stream, flags, None).ok()?;
    let address = SockaddrStorage::from(SocketAddr::new(to, port));
    match connect(socket.as_raw_fd(), &address) {
        Ok(()) | Err(nix::Error::EINPROGRESS) => Some(socket),
        Err(_) => None,
    }
}
