//! HTTP/1.1 for tests: each request is remembered with the address that it came from.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest head of a request, in bytes.
const LONGEST: usize = 16 << 10;

/// One request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requested {
    /// When it was read here.
    pub at: SystemTime,
    /// Whom it called.
    pub destination: IpAddr,
    /// The caller's address, as seen from outside.
    pub source: IpAddr,
    /// The field `Host`, empty where there is none.
    pub host: String,
    /// The request's target, as it came.
    pub path: String,
    /// The whole head.
    pub head: String,
}

#[derive(Clone, Default)]
pub(super) struct Requests(Arc<Mutex<Vec<Requested>>>);

impl Requests {
    pub(super) fn all(&self) -> Vec<Requested> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn take(&self) -> Vec<Requested> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, requested: Requested) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(requested);
    }
}

/// Answers requests until the caller goes, or wants no more. A request is remembered with its head,
/// and answered when its body (`Content-Length`) has come.
pub(super) async fn answer(
    mut stream: TcpStream,
    source: SocketAddr,
    requests: &Requests,
) -> io::Result<()> {
    let destination = stream.local_addr()?.ip();
    let mut buffer = Vec::new();
    loop {
        let end = buffer.windows(4).position(|end| end == b"\r\n\r\n");
        let Some(end) = end else {
            if buffer.len() > LONGEST || stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let rest = buffer.split_off(end + 4);
        let head = String::from_utf8_lossy(&buffer).into_owned();
        buffer = rest;
        let field = |name: &str| {
            let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
            let mut named = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
            named.next().map(|(_, value)| value.trim().to_owned())
        };
        requests.add(Requested {
            at: SystemTime::now(),
            destination,
            source: source.ip(),
            host: field("host").unwrap_or_default(),
            path: head.split(' ').nth(1).unwrap_or_default().to_owned(),
            head: head.clone(),
        });
        let length = field("content-length").and_then(|length| length.parse().ok());
        let body: usize = length.unwrap_or_default();
        while buffer.len() < body {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        buffer.drain(..body);
        let closes = field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
            || !head
                .lines()
                .next()
                .unwrap_or_default()
                .ends_with("HTTP/1.1");
        let connection = if closes { "close" } else { "keep-alive" };
        let body = format!("{}\n", source.ip());
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: {connection}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(answer.as_bytes()).await?;
        if closes {
            return stream.shutdown().await;
        }
    }
}
