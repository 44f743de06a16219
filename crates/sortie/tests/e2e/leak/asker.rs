//! What runs in a container whose policies are about names and paths: it looks its names up, and asks
//! for `/api/…` and other paths, on connections that stay and on new ones, until it is stopped.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;
use std::{env, fs};

use nix::poll::{PollTimeout, poll};
use sortie_lab::{ContainerSpec, Destination};

use super::policies::NAME_SERVER;
use super::sender::{self, ECHO};
use crate::names::{A, AAAA, query};
use crate::requests::{Client, hello};

/// Variables that say what is asked.
const NAME: &str = "LEAK_NAME";
const TLS_NAME: &str = "LEAK_TLS_NAME";

/// How long anything may take: what was struck is soon there again.
const ANSWERED: Duration = Duration::from_millis(700);

/// Between two rounds, in milliseconds: a round is a dozen connections.
const PAUSE: u16 = 150;

/// Whom one asks.
pub(super) struct Names {
    /// For requests; where all of its destination is decided by name, for other packets too.
    pub(super) requests: String,
    /// For TLS, and where that leads.
    pub(super) tls: Option<(String, Destination)>,
}

/// A container that asks, from an image with this very program.
pub(super) fn spec(name: &str, image: &str, names: &Names) -> ContainerSpec {
    let spec = match &names.tls {
        Some((tls, to)) => sender::spec(name, image, *to).env(TLS_NAME, tls),
        None => ContainerSpec::new(name).image(image),
    };
    spec.command(&["--exact", "leak::asker::asks_until_stopped", "--ignored"])
        .env(NAME, &names.requests)
        .name_server(NAME_SERVER)
}

#[test]
#[ignore = "the process that the leak test starts in containers"]
fn asks_until_stopped() {
    let name = env::var(NAME).expect("a name");
    let tls = env::var(TLS_NAME).ok();
    let mut kept: [Option<Client>; 2] = [None, None];
    let mut round: u32 = 0;
    loop {
        for (kind, kept) in [A, AAAA].into_iter().zip(&mut kept) {
            // What fails now, for want of a name or of who answers, is tried again.
            if let Some(to) = server().and_then(|server| look_up(server, &name, kind)) {
                for path in ["/api/kept", "/kept", "/api"] {
                    let _ = ask_kept(kept, (to, &name), path);
                }
                let path = ["/new", "/api/new"][round as usize % 2];
                let _ = connected(to).and_then(|mut new| ask(&mut new, &name, path));
                if tls.is_none() {
                    let _ = sender::datagram(to, ECHO, b"new");
                    let _ = connected_to(to, ECHO);
                }
            }
        }
        if let Some(tls) = &tls {
            for to in sender::destination() {
                let _ = says_hello(to, tls);
            }
        }
        round = round.wrapping_add(1);
        let _ = poll(&mut [], PollTimeout::from(PAUSE));
    }
}

/// The server that this container has.
fn server() -> Option<IpAddr> {
    let file = fs::read_to_string("/etc/resolv.conf").ok()?;
    let mut words = file.split_whitespace();
    words.find(|word| *word == "nameserver");
    words.next()?.parse().ok()
}

/// An address of a name.
pub(super) fn look_up(server: IpAddr, name: &str, kind: u8) -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.set_read_timeout(Some(ANSWERED)).ok()?;
    socket.connect((server, 53)).ok()?;
    let mut question = query(name);
    // Its kind's last byte is followed by the class (RFC 1035, section 4.1.2).
    let at = question.len() - 3;
    question[at] = kind;
    socket.send(&question).ok()?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).ok()?;
    // NOERROR with one record at least, which ends in its address.
    if answer[3] % 16 != 0 || answer[7] == 0 {
        return None;
    }
    let answer = &answer[..length];
    if kind == A {
        let bytes: &[u8; 4] = answer.last_chunk()?;
        return Some(Ipv4Addr::from(*bytes).into());
    }
    let bytes: &[u8; 16] = answer.last_chunk()?;
    Some(Ipv6Addr::from(*bytes).into())
}

pub(super) fn connected(to: IpAddr) -> io::Result<Client> {
    Ok(Client {
        reader: BufReader::new(connected_to(to, 80)?),
    })
}

pub(super) fn connected_to(to: IpAddr, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(to, port), ANSWERED)?;
    stream.set_read_timeout(Some(ANSWERED))?;
    Ok(stream)
}

pub(super) fn ask(client: &mut Client, name: &str, path: &str) -> io::Result<u16> {
    client.ask(&format!("GET {path} HTTP/1.1\r\nHost: {name}\r\n\r\n"))
}

/// On the connection that was used last, or on another one when that has ended.
fn ask_kept(kept: &mut Option<Client>, (to, name): (IpAddr, &str), path: &str) -> io::Result<()> {
    let mut client = match kept.take() {
        Some(client) => client,
        None => connected(to)?,
    };
    ask(&mut client, name, path)?;
    *kept = Some(client);
    Ok(())
}

/// Asks for a name that nobody has looked up, and reads what the other side says first.
fn says_hello(to: IpAddr, name: &str) -> io::Result<()> {
    let mut stream = connected_to(to, 443)?;
    stream.write_all(&hello(name))?;
    let mut told = String::new();
    BufReader::new(stream).read_line(&mut told).map(drop)
}
