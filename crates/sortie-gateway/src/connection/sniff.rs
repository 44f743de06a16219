//! What a client speaks, by its first bytes.

use crate::tls::client_hello::{self, ClientHello, Sniffed};

/// What is spoken on a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP/1, or what some origin could take for it.
    Http,
    /// HTTP/2 (RFC 9113 §3.3), without asking whether the server speaks it.
    Http2,
    /// TLS.
    Tls(ClientHello),
    /// Anything else.
    Other,
}

/// Methods that stand for HTTP even where no space follows.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];

/// How HTTP/2 begins (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The longest method that is waited for.
const MAX_METHOD: usize = 32;

/// What is spoken: `None` while more bytes must come, `Some(None)` for what is no TLS hello though
/// it begins like one.
///
/// When in doubt it is HTTP, whose codec refuses what is not quite HTTP: taken for something else it
/// would be decided by address, and a policy for the name or the path would be passed by.
///
/// 1. A TLS record with a handshake's beginning is TLS, and the whole preface of HTTP/2 is HTTP/2.
/// 2. Empty lines and spaces are left out: some origins do the same.
/// 3. A token with a space behind it is HTTP; one of the known methods is, whatever is behind it.
#[expect(
    clippy::option_option,
    reason = "not known yet, or known to be nothing"
)]
pub(super) fn protocol(input: &[u8]) -> Option<Option<Protocol>> {
    match client_hello::sniff(input) {
        Sniffed::Found(hello) => return Some(Some(Protocol::Tls(hello))),
        Sniffed::Incomplete => return None,
        Sniffed::Malformed => return Some(None),
        Sniffed::NotTls => {}
    }
    if input.starts_with(PREFACE) {
        return Some(Some(Protocol::Http2));
    }
    if !input.is_empty() && PREFACE.starts_with(input) {
        return None;
    }
    let input = input.trim_ascii_start();
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-' || *byte == b'_';
    let length = input.iter().take_while(|byte| is_token(byte)).count();
    let (token, rest) = input.split_at(length);
    let is_known = METHODS
        .iter()
        .any(|method| token.eq_ignore_ascii_case(method.as_bytes()));
    match rest.first() {
        None if length <= MAX_METHOD => None,
        Some(b' ') if length > 0 && length <= MAX_METHOD => Some(Some(Protocol::Http)),
        Some(_) if is_known => Some(Some(Protocol::Http)),
        _ => Some(Some(Protocol::Other)),
    }
}

#[cfg(test)]
mod tests;
