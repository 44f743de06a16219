//! Clients of Envoy: through the proxy, or by connections that the kernel leads to it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use sortie_lab::{Netns, Result};

use crate::any::{Asked, By, HTTP_PORTS, Sent, TLS_PORTS};
use crate::expected::Seen;
use crate::proxy::{PROXY, REDIRECTED};

/// What is led to Envoy has this mark; Envoy's own connections have none.
const MARK: u32 = 1;
/// Where clients of redirected connections are. Were it the host's own address, conntrack could take a
/// connection of Envoy for one that it has led there before.
pub(crate) const CLIENT: [u8; 4] = [203, 0, 113, 200];
/// A machine may be busy.
const LIMIT: Duration = Duration::from_mins(1);

/// Leads connections with the mark to Envoy, as a workload's would be.
pub(crate) fn lead_to_envoy(netns: &Netns) -> Result<()> {
    netns.nft("add table ip lead")?;
    netns.nft("add chain ip lead output { type nat hook output priority -100 ; }")?;
    let ports: Vec<String> = HTTP_PORTS
        .iter()
        .chain(&TLS_PORTS)
        .map(u16::to_string)
        .collect();
    netns.nft(&format!(
        "add rule ip lead output meta mark {MARK} tcp dport {{ {} }} redirect to :{REDIRECTED}",
        ports.join(", ")
    ))?;
    Ok(())
}

/// Asks all, some at a time, and tells what came of each.
pub(crate) fn ask_all(netns: &Netns, asked: &[Asked], clients: usize) -> Result<Vec<Seen>> {
    let next = AtomicUsize::new(0);
    let seen = Mutex::new(vec![None; asked.len()]);
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(one) = asked.get(index) else {
                return;
            };
            let answer = ask(one).unwrap_or(Seen::Refused(None));
            seen.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(answer);
        }
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients)
            .map(|_| scope.spawn(|| netns.run(work)))
            .collect();
        for client in clients {
            client.join().expect("a client")?;
        }
        Ok::<_, sortie_lab::LabError>(())
    })?;
    let seen = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(seen
        .into_iter()
        .map(|it| it.expect("all were asked"))
        .collect())
}

fn ask(asked: &Asked) -> io::Result<Seen> {
    let mut stream = connect(asked)?;
    let target = format!("{}:{}", asked.host(), asked.port);
    match &asked.sent {
        Sent::Http {
            method,
            path,
            tenants,
        } => {
            let host = match asked.port {
                80 => asked.host(),
                _ => target.clone(),
            };
            let url = match asked.by {
                By::Proxy => format!("http://{host}{path}"),
                By::Redirect => (*path).to_owned(),
            };
            let tenants: Vec<String> = tenants
                .iter()
                .map(|it| format!("X-Tenant: {it}\r\n"))
                .collect();
            let fields = tenants.concat();
            let request = format!(
                "{method} {url} HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\n\r\n"
            );
            stream.write_all(request.as_bytes())?;
            let head = head(&mut stream)?;
            let status = status(&head);
            Ok(match (status, body(&mut stream, &head)) {
                (Some(200), Some(source)) => Seen::Source(source),
                _ => Seen::Refused(status),
            })
        }
        Sent::Tls | Sent::Text => {
            if asked.by == By::Proxy {
                let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
                stream.write_all(request.as_bytes())?;
                let status = status(&head(&mut stream)?);
                if status != Some(200) {
                    return Ok(Seen::Refused(status));
                }
            }
            match &asked.sent {
                Sent::Tls => stream.write_all(&hello(asked.name))?,
                _ => stream.write_all(b"a protocol of its own\n")?,
            }
            Ok(first_line(&mut stream).map_or(Seen::Refused(None), Seen::Source))
        }
    }
}

fn connect(asked: &Asked) -> io::Result<TcpStream> {
    let to: SocketAddr = match asked.by {
        By::Proxy => PROXY.into(),
        By::Redirect => (asked.address, asked.port).into(),
    };
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if asked.by == By::Redirect {
        socket.set_mark(MARK)?;
        socket.bind(&SocketAddr::from((CLIENT, 0)).into())?;
    }
    socket.connect_timeout(&to.into(), LIMIT)?;
    socket.set_read_timeout(Some(LIMIT))?;
    Ok(socket.into())
}

/// Reads the head of a response, and not more.
fn head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    Ok(String::from_utf8_lossy(&head).to_ascii_lowercase())
}

fn status(head: &str) -> Option<u16> {
    head.split(' ').nth(1)?.parse().ok()
}

/// The address in a body of a known length: Envoy waits a second before it closes.
fn body(stream: &mut TcpStream, head: &str) -> Option<IpAddr> {
    let (_, rest) = head.split_once("content-length:")?;
    let length: usize = rest.lines().next()?.trim().parse().ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    String::from_utf8_lossy(&body).trim().parse().ok()
}

/// The observer says whom it sees, before anything else.
fn first_line(stream: &mut TcpStream) -> Option<IpAddr> {
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        if byte == [b'\n'] {
            break;
        }
        line.extend(byte);
    }
    let line = String::from_utf8_lossy(&line).into_owned();
    line.parse::<SocketAddr>().ok().map(|it| it.ip())
}

/// A TLS 1.2 hello (RFC 5246, 7.4.1.2), with a name if there is one (RFC 6066, 3).
fn hello(name: Option<&str>) -> Vec<u8> {
    let sized = |width: usize, bytes: &[u8]| {
        let length = bytes.len().to_be_bytes();
        [&length[length.len() - width..], bytes].concat()
    };
    let mut extensions = Vec::new();
    if let Some(name) = name {
        let entry = [&[0][..], &sized(2, name.as_bytes())].concat();
        extensions.extend([0, 0]);
        extensions.extend(sized(2, &sized(2, &entry)));
    }
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &sized(2, &[0xc0, 0x2f]),
        &sized(1, &[0]),
        &sized(2, &extensions),
    ]
    .concat();
    let message = [&[1][..], &sized(3, &body)].concat();
    [&[22, 3, 1][..], &sized(2, &message)].concat()
}
