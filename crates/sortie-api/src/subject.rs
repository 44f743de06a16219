//! The subject of a certificate as text (RFC 4514), in the one spelling that policies and the gateway
//! compare: byte by byte, so two spellings of one subject would be two.

#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use crate::problem::{Fault, quoted};

/// The attributes that have names (RFC 4514 §3), by their object identifiers. All others are written
/// by these.
pub const ATTRIBUTES: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// What has a backslash in front of it (RFC 4514 §2.4), wherever it is.
const SPECIAL: [char; 7] = ['"', '+', ',', ';', '<', '>', '\\'];

/// A value as it is written in a subject.
pub fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        let is_edge = (at == 0 && matches!(c, ' ' | '#')) || (at == last && c == ' ');
        if c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\{byte:02X}");
            }
            continue;
        }
        if is_edge || SPECIAL.contains(&c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Whether a policy may name it: one that is written otherwise could never be a certificate's.
pub(crate) fn check(text: &str) -> Result<(), Fault> {
    if parts(text).iter().all(|part| is_part(part)) {
        return Ok(());
    }
    let message = format!(
        "{} is no certificate's subject, or not in its one spelling",
        quoted(text)
    );
    let help = "write it as `openssl x509 -noout -subject -nameopt RFC2253,-esc_msb` prints it, such as `CN=runner` or `CN=runner,O=Example`";
    Err(Fault::new(message, help))
}

/// At each `,` and `+` without a backslash.
fn parts(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut is_escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            ',' | '+' => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn is_part(part: &str) -> bool {
    let Some((key, value)) = part.split_once('=') else {
        return false;
    };
    let is_named = ATTRIBUTES.iter().any(|(_, name)| *name == key);
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|it| it.is_ascii_digit());
    if let Some(hex) = value.strip_prefix('#') {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_known = is_named || key.contains('.') && key.split('.').all(is_number);
        return is_known && !hex.is_empty() && hex.len() % 2 == 0 && hex.bytes().all(is_hex);
    }
    is_named && !value.is_empty() && unescaped(value).is_some_and(|plain| escaped(&plain) == value)
}

fn unescaped(value: &str) -> Option<String> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let next = rest.next()?;
        out.push(match digit(next) {
            None => next,
            Some(high) => u8::try_from(high * 16 + digit(rest.next()?)?).ok()?,
        });
    }
    String::from_utf8(out).ok()
}
