//! What tests of the gateway share: its beginning, a container's requests, and what it counts.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use sortie_lab::{Container, ContainerSpec, Place, Process, Result, eventually};

use crate::stage::{LIMIT, Stage};

/// The internet's name server.
const SERVER: &str = "198.51.100.53";
/// Where the gateway is scraped, with `--metrics`.
pub(crate) const METRICS: &str = "127.0.0.1:9470";
/// How long a connection may take to begin, where nothing says otherwise.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A destination that has these names for so many seconds, the gateway, and a container that may look
/// them up.
pub(crate) fn begin(
    stage: &Stage,
    arguments: &[&str],
    names: &[&str],
    ttl: u32,
) -> Result<(IpAddr, Process, Container)> {
    let destination = stage.lab.destination()?.v4;
    for name in names {
        let table = stage.lab.internet().observer().names();
        table.set(name, &[destination], ttl);
    }
    let gateway = stage.spawn("gateway", arguments)?;
    let spec = ContainerSpec::new("web")
        .network("shop")
        .name_server(SERVER);
    Ok((destination, gateway, stage.managed(&spec)?))
}

/// A connection from a place, whose answers come in time.
pub(crate) fn connected(
    from: &dyn Place,
    to: SocketAddr,
    within: Duration,
) -> io::Result<TcpStream> {
    let connect = || TcpStream::connect_timeout(&to, within);
    let place = from.place().map_err(io::Error::other)?;
    let stream = place.run(connect).map_err(io::Error::other)??;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection that stays.
pub(crate) struct Client {
    pub(crate) reader: BufReader<TcpStream>,
}

impl Client {
    /// The status of one answer.
    pub(crate) fn ask(&mut self, request: &str) -> io::Result<u16> {
        self.reader.get_mut().write_all(request.as_bytes())?;
        self.answer()
    }

    /// The status of the next answer.
    pub(crate) fn answer(&mut self) -> io::Result<u16> {
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if status == 0 {
                let code = line.split(' ').nth(1).and_then(|code| code.parse().ok());
                status = code.ok_or_else(|| io::Error::other(line.clone()))?;
            } else if let Some((name, value)) = line.split_once(':') {
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse().map_err(io::Error::other)?;
                }
            } else {
                break;
            }
        }
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body)?;
        Ok(status)
    }
}

/// What a scrape gets, head and body, from an address of the host's.
pub(crate) fn scrape(stage: &Stage, at: &str) -> io::Result<String> {
    let get = || {
        let mut stream = TcpStream::connect(at)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: host\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    stage.host.netns().run(get).map_err(io::Error::other)?
}

/// Waits until a scrape has these lines.
pub(crate) fn comes_to_count(stage: &Stage, at: &str, lines: &[impl AsRef<str>]) -> Result<()> {
    eventually(LIMIT, "the scrape has it", || {
        let text = scrape(stage, at).map_err(|error| error.to_string())?;
        let missing: Vec<_> = lines
            .iter()
            .map(AsRef::as_ref)
            .filter(|line| !text.lines().any(|found| found == *line))
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("{missing:?} of {text}"))
        }
    })
}

/// A TLS client's first message, with the name that it asks for (RFC 8446, 4.1.2; RFC 6066, 3).
pub(crate) fn hello(name: &str) -> Vec<u8> {
    let short = |bytes: Vec<u8>| {
        let length = u16::try_from(bytes.len()).expect("a short message");
        [&length.to_be_bytes()[..], &bytes].concat()
    };
    let name = [&[0][..], &short(name.as_bytes().to_vec())].concat();
    let extension = [&[0, 0][..], &short(short(name))].concat();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    // No session, one cipher suite, no compression.
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend(short(extension));
    let handshake = [&[1, 0][..], &short(body)].concat();
    [&[22, 3, 1][..], &short(handshake)].concat()
}
