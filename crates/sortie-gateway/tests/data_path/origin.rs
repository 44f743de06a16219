//! An origin: a small HTTP server that tells each caller the address it was seen with, and notes
//! every request with it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use sortie_lab::Netns;

use crate::world::PORT;

/// A request as the origin got it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) source: IpAddr,
    /// Counts connections.
    pub(crate) connection: usize,
    pub(crate) head: String,
    /// Bytes of the body, without chunks.
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: String,
}

impl Seen {
    pub(crate) fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }
}

#[derive(Clone, Default)]
pub(crate) struct Origin(Arc<Mutex<Vec<Seen>>>);

impl Origin {
    pub(crate) fn start(netns: &Netns) -> Self {
        let origin = Self::default();
        let listen = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap();
        let listener = netns.run(listen).unwrap();
        let noted = origin.clone();
        thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let noted = noted.clone();
                // It ends with the connection; how, is the client's test's business.
                thread::spawn(move || {
                    stream.is_ok_and(|stream| noted.serve(stream, connection).is_some())
                });
            }
        });
        origin
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }

    /// The only request so far whose path begins so.
    pub(crate) fn one(&self, path: &str) -> Seen {
        let mut seen = self.seen();
        seen.retain(|seen| seen.path().starts_with(path));
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.remove(0)
    }

    fn serve(&self, stream: TcpStream, connection: usize) -> Option<()> {
        let source = stream.peer_addr().ok()?.ip();
        let mut answer = stream.try_clone().ok()?;
        let mut input = BufReader::new(stream);
        loop {
            let head = lines(&mut input)?;
            let path = head.split(' ').nth(1)?.to_owned();
            let is_second = self.seen().iter().any(|seen| seen.connection == connection);
            let mut seen = Seen {
                source,
                connection,
                head,
                body: Vec::new(),
                trailers: String::new(),
            };
            if seen
                .head
                .to_ascii_lowercase()
                .contains("expect: 100-continue")
            {
                answer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
            }
            body(&mut input, &mut seen)?;
            let length = seen.body.len();
            self.0.lock().unwrap().push(seen);
            let text = match &*path {
                // Ends a connection that was used before, as if it had timed out right now.
                _ if path.ends_with("/flaky") && is_second => return None,
                _ if path.ends_with("/length") => format!("{source} {length}\n"),
                _ => format!("{source}\n"),
            };
            let plain = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            );
            match path.rsplit('/').next()? {
                "chunked" => {
                    let size = text.len();
                    let chunked = format!(
                        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n{size:x};x=\"y\"\r\n{text}\r\n0\r\nX-Sum: 7\r\n\r\n"
                    );
                    // In pieces, so that nothing of it comes at once.
                    for byte in chunked.as_bytes().chunks(3) {
                        answer.write_all(byte).ok()?;
                    }
                }
                "close" => {
                    write!(answer, "HTTP/1.1 200 OK\r\n\r\n{text}").ok()?;
                    return Some(());
                }
                "large" => {
                    let size = 8 << 20;
                    write!(
                        answer,
                        "HTTP/1.1 200 OK\r\nAlt-Svc: h3=\":443\"\r\nContent-Length: {size}\r\n\r\n"
                    )
                    .ok()?;
                    answer.write_all(&vec![b'x'; size]).ok()?;
                }
                "cut" => {
                    write!(
                        answer,
                        "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{text}"
                    )
                    .ok()?;
                    return Some(());
                }
                "smuggle" => {
                    write!(answer, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").ok()?;
                }
                "unasked" => {
                    let more = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong";
                    answer.write_all((plain + more).as_bytes()).ok()?;
                }
                "chat" => {
                    answer.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello ").ok()?;
                    answer.write_all(text.as_bytes()).ok()?;
                    let mut rest = Vec::new();
                    input.read_to_end(&mut rest).ok()?;
                    answer.write_all(&rest).ok()?;
                    return Some(());
                }
                _ => answer.write_all(plain.as_bytes()).ok()?,
            }
        }
    }
}

/// Lines up to an empty one.
fn lines(input: &mut impl BufRead) -> Option<String> {
    let mut text = String::new();
    loop {
        let length = input.read_line(&mut text).ok()?;
        if length == 0 {
            return None;
        }
        if text.ends_with("\r\n\r\n") || text == "\r\n" {
            return Some(text);
        }
    }
}

fn body(input: &mut impl BufRead, seen: &mut Seen) -> Option<()> {
    let head = seen.head.to_ascii_lowercase();
    if head.contains("transfer-encoding: chunked") {
        loop {
            let mut line = String::new();
            input.read_line(&mut line).ok()?;
            let size = usize::from_str_radix(line.trim_end().split(';').next()?, 16).ok()?;
            if size == 0 {
                seen.trailers = lines(input)?;
                return Some(());
            }
            let mut chunk = vec![0; size + 2];
            input.read_exact(&mut chunk).ok()?;
            seen.body.extend(&chunk[..size]);
        }
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    if let Some(length) = length {
        seen.body = vec![0; length.trim().parse().ok()?];
        input.read_exact(&mut seen.body).ok()?;
    }
    Some(())
}
