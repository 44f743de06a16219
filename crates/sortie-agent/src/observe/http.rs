//! Just enough of HTTP/1.1 (RFC 9112) to answer one request: bytes in, a decision out.

use std::net::SocketAddr;

use serde_json::json;

/// Longest head of a request, in bytes.
const LONGEST: usize = 8 << 10;
/// Longest method that is taken for one, in bytes.
const METHOD: usize = 16;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum First {
    /// The beginning of a request.
    Incomplete,
    /// Anything else.
    Unknown,
    /// A request.
    Request(Request),
}

/// The part of a request that decides the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    /// Without its query.
    pub(super) path: String,
    /// Whether it asks for JSON by `Accept`.
    pub(super) json: bool,
}

/// Steps: a method and a space first; then lines up to an empty one; then the fields.
pub(super) fn read(bytes: &[u8]) -> First {
    let method = bytes.iter().take_while(|b| b.is_ascii_uppercase()).count();
    let is_method = match bytes.get(method) {
        Some(next) => *next == b' ' && method > 0,
        None => true,
    };
    if method > METHOD || !is_method {
        return First::Unknown;
    }
    let Some(end) = head_end(bytes) else {
        return if bytes.len() < LONGEST {
            First::Incomplete
        } else {
            First::Unknown
        };
    };
    let Ok(head) = std::str::from_utf8(&bytes[..end]) else {
        return First::Unknown;
    };
    request(head).map_or(First::Unknown, First::Request)
}

/// Where the empty line begins; a lone LF ends a line too (RFC 9112, 2.2).
fn head_end(bytes: &[u8]) -> Option<usize> {
    (0..bytes.len()).find(|at| {
        let rest = &bytes[*at..];
        rest.starts_with(b"\n\r\n") || rest.starts_with(b"\n\n")
    })
}

fn request(head: &str) -> Option<Request> {
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if !version.starts_with("HTTP/1.") || words.next().is_some() {
        return None;
    }
    let json = lines
        .filter_map(|line| line.split_once(':'))
        .any(|(name, value)| {
            name.eq_ignore_ascii_case("accept")
                && value.to_ascii_lowercase().contains("application/json")
        });
    Some(Request {
        method: method.to_owned(),
        path: target.split('?').next()?.to_owned(),
        json,
    })
}

/// The whole answer, for a connection that is closed behind it.
pub(super) fn answer(request: &Request, peer: SocketAddr) -> String {
    let address = peer.ip().to_canonical();
    let as_json = || json!({"address": address, "port": peer.port()}).to_string() + "\n";
    let (status, kind, body) = match request.path.as_str() {
        "/json" => ("200 OK", "application/json", as_json()),
        "/" if request.json => ("200 OK", "application/json", as_json()),
        "/" => ("200 OK", "text/plain", format!("{address}\n")),
        _ => (
            "404 Not Found",
            "text/plain",
            "ask for / or /json\n".to_owned(),
        ),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nCache-Control: no-store\r\nVary: Accept\r\nConnection: close\r\n\r\n"
    );
    if request.method == "HEAD" {
        head
    } else {
        head + &body
    }
}
