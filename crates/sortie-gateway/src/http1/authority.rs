//! Who is asked: `host` or `host:port`, of a `Host` field, an absolute target or a CONNECT.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Refused;

/// The longest name of a host (RFC 1035 §2.3.4), without the root's dot.
const MAX_NAME: usize = 253;

const WRONG_HOST: Refused = Refused::bad("the host is neither a name nor an IP address");
const WRONG_PORT: Refused = Refused::bad("the port is not a number from 1 to 65535");

/// A host as decisions know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host<'a> {
    /// A name in lower case, without the root's dot.
    Name(Cow<'a, str>),
    /// An address.
    Ip(IpAddr),
}

impl<'a> Host<'a> {
    /// Reads a host as it stands in a URL; IPv6 in brackets.
    ///
    /// What ends in a number is an IPv4 address of four decimal numbers or nothing at all:
    /// `0x7f.1` and `2130706433` are loopback to some resolvers.
    ///
    /// # Errors
    /// [`Refused`] when it is neither.
    pub fn parse(text: &'a str) -> Result<Self, Refused> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(WRONG_HOST)?;
            let address: Ipv6Addr = inner.parse().map_err(|_| WRONG_HOST)?;
            return Ok(Self::Ip(address.into()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_label = |label: &str| {
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            (1..=63).contains(&label.len()) && label.bytes().all(is_part)
        };
        if name.len() > MAX_NAME || !name.split('.').all(is_label) {
            return Err(WRONG_HOST);
        }
        let last = name.rsplit('.').next().unwrap_or(name);
        let is_hexadecimal = last
            .strip_prefix("0x")
            .or_else(|| last.strip_prefix("0X"))
            .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if is_hexadecimal || last.bytes().all(|byte| byte.is_ascii_digit()) {
            let address: Ipv4Addr = name.parse().map_err(|_| WRONG_HOST)?;
            return Ok(Self::Ip(address.into()));
        }
        Ok(Self::Name(
            if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                Cow::Owned(name.to_ascii_lowercase())
            } else {
                Cow::Borrowed(name)
            },
        ))
    }
}

/// A host, and a port where one is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority<'a> {
    /// As it was written, for the field that is forwarded.
    pub text: &'a str,
    /// The host.
    pub host: Host<'a>,
    /// The port, if one is written.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Reads `host` or `host:port`. Names of users are refused: nobody but an attacker writes
    /// `http://partner.example@other.example/` to a gateway.
    ///
    /// # Errors
    /// [`Refused`] when a part is wrong.
    pub fn parse(text: &'a str) -> Result<Self, Refused> {
        let bracket = text.rfind(']').unwrap_or(0);
        let (host, port) = match text[bracket..].find(':') {
            Some(colon) => (&text[..bracket + colon], Some(&text[bracket + colon + 1..])),
            None => (text, None),
        };
        let port = match port {
            // `host:` is the scheme's own port (RFC 3986 §3.2.3).
            None | Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                let port = digits.parse().map_err(|_| WRONG_PORT)?;
                (port != 0).then_some(Some(port)).ok_or(WRONG_PORT)?
            }
            Some(_) => return Err(WRONG_PORT),
        };
        Ok(Self {
            text,
            host: Host::parse(host)?,
            port,
        })
    }
}

#[cfg(test)]
mod tests;
