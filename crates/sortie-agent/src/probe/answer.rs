//! The address in an observer's answer: bytes in, an address or what is wrong out.

use std::net::{IpAddr, SocketAddr};

/// Fields of JSON answers that hold the caller's address.
const FIELDS: [&str; 3] = ["address", "ip", "origin"];
/// Longest part of an answer that an error repeats, in characters.
const QUOTED: usize = 60;

/// In `ADDRESS`, `ADDRESS PORT`, `ADDRESS:PORT`, or a JSON object that names it.
pub(super) fn address(bytes: &[u8]) -> Result<IpAddr, String> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim();
    if text.is_empty() {
        return Err("the answer is empty".to_owned());
    }
    let found = match serde_json::from_str::<serde_json::Value>(text) {
        Ok(serde_json::Value::Object(object)) => FIELDS
            .iter()
            .find_map(|field| object.get(*field)?.as_str())
            .and_then(one),
        Ok(serde_json::Value::String(string)) => one(&string),
        _ => one(text),
    };
    found.ok_or_else(|| quoted(text))
}

/// The first word, where it is an address. A list (as behind proxies) names others than the
/// caller too.
fn one(text: &str) -> Option<IpAddr> {
    let word = text.split_whitespace().next()?;
    let address = word.parse::<IpAddr>().ok();
    let with_port = || word.parse::<SocketAddr>().ok().map(|a| a.ip());
    address.or_else(with_port).map(|a| a.to_canonical())
}

/// The address in the body of an answer of success.
pub(super) fn of_http(bytes: &[u8]) -> Result<IpAddr, String> {
    let Some((head, body)) = split(bytes) else {
        return Err("that is no HTTP answer".to_owned());
    };
    let head = String::from_utf8_lossy(head);
    let status = head.lines().next().unwrap_or_default();
    if !status.starts_with("HTTP/1.") {
        return Err("that is no HTTP answer".to_owned());
    }
    if status.split(' ').nth(1) != Some("200") {
        return Err(quoted(status));
    }
    address(body)
}

/// Whether as many bytes are there as the head says; without that, the connection's end decides.
pub(super) fn http_is_whole(bytes: &[u8]) -> bool {
    let Some((head, body)) = split(bytes) else {
        return false;
    };
    String::from_utf8_lossy(head)
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok())
        .is_some_and(|length| body.len() >= length)
}

/// Head and body.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(4).position(|end| end == b"\r\n\r\n")?;
    Some((&bytes[..end], &bytes[end + 4..]))
}

fn quoted(text: &str) -> String {
    let visible = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let shown: String = text.chars().take(QUOTED).map(visible).collect();
    let more = if text.chars().nth(QUOTED).is_some() {
        "…"
    } else {
        ""
    };
    format!("`{shown}{more}`")
}
