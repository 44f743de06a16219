//! What `explain` is asked about: `DEST[:PORT[/PROTO]]` with an address or a name, or a URL.

mod url;

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use sortie_api::policy::HostPattern;

pub(crate) use url::Url;

/// Where something wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    Address(Address),
    Name(Name),
    Url(Url),
}

/// An address, and perhaps a port and its protocol. A bare IPv6 address has no port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) ip: IpAddr,
    pub(crate) port: Option<u16>,
    /// `tcp` or `udp`, where it is said.
    pub(crate) protocol: Option<String>,
}

/// A name, and perhaps a port and its protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    /// In small letters, without a dot at its end.
    pub(crate) text: String,
    pub(crate) port: Option<u16>,
    /// `tcp` or `udp`, where it is said.
    pub(crate) protocol: Option<String>,
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((scheme, rest)) = text.split_once("://") {
            return url::url(scheme, rest);
        }
        if is_name(text) {
            return named(text).map(Self::Name);
        }
        text.parse().map(Self::Address)
    }
}

/// Whether a name is meant: no address has letters and no second colon.
fn is_name(text: &str) -> bool {
    let host = text.split(['/', ':']).next().unwrap_or_default();
    let front = text.split('/').next().unwrap_or_default();
    front.matches(':').count() < 2
        && !host.starts_with('[')
        && host.contains(|c: char| c.is_ascii_alphabetic() || !c.is_ascii())
}

/// A name with its port and protocol.
fn named(text: &str) -> Result<Name, String> {
    let (rest, protocol) = match text.split_once('/') {
        Some((rest, word)) => match self::protocol(word) {
            Ok(protocol) => (rest, Some(protocol)),
            Err(_) => {
                return Err(format!(
                    "`/{word}` is no protocol; for a request write a URL, http://{text} or https://{text}"
                ));
            }
        },
        None => (text, None),
    };
    let (host, port) = match rest.split_once(':') {
        Some((host, port)) => (host, Some(self::port(port)?)),
        None => (rest, None),
    };
    if let (None, Some(protocol)) = (port, &protocol) {
        return Err(format!(
            "a port is missing before /{protocol}; write it as in {host}:443/{protocol}"
        ));
    }
    Ok(Name {
        port,
        protocol,
        ..name(host)?
    })
}

/// As policies compare it.
fn name(text: &str) -> Result<Name, String> {
    match HostPattern::try_from(text.to_owned())? {
        HostPattern::Exact(text) => Ok(Name {
            text,
            port: None,
            protocol: None,
        }),
        HostPattern::Any | HostPattern::Below(_) => {
            Err(format!("`{text}` means many names; write one of them"))
        }
    }
}

impl FromStr for Address {
    type Err = String;

    /// Steps: the protocol behind `/`; brackets; a bare address; address and port.
    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, protocol) = match text.split_once('/') {
            Some((rest, protocol)) => (rest, Some(self::protocol(protocol)?)),
            None => (text, None),
        };
        let (address, port) = if let Some(inner) = rest.strip_prefix('[') {
            let (inner, port) = inner
                .split_once(']')
                .ok_or_else(|| format!("`{rest}` has no closing bracket"))?;
            let address: Ipv6Addr = inner
                .parse()
                .map_err(|_| format!("`{inner}` is no IPv6 address"))?;
            let port = match port {
                "" => None,
                port => Some(port.strip_prefix(':').ok_or_else(|| {
                    format!("`{port}` cannot follow the bracket; write [ADDRESS]:PORT")
                })?),
            };
            (IpAddr::V6(address), port)
        } else if let Ok(address) = rest.parse() {
            (address, None)
        } else {
            let (address, port) = match rest.rsplit_once(':') {
                Some((address, port)) => (address, Some(port)),
                None => (rest, None),
            };
            let address = address
                .parse()
                .map_err(|_| format!("`{address}` is no IP address"))?;
            if matches!(address, IpAddr::V6(_)) {
                return Err(format!(
                    "write [{address}]:PORT for an IPv6 address and a port"
                ));
            }
            (address, port)
        };
        let port = port.map(self::port).transpose()?;
        if let (None, Some(protocol)) = (port, &protocol) {
            let example = match address {
                IpAddr::V4(v4) => format!("{v4}:443/{protocol}"),
                IpAddr::V6(v6) => format!("[{v6}]:443/{protocol}"),
            };
            return Err(format!(
                "a port is missing before /{protocol}; write it as in {example}"
            ));
        }
        Ok(Self {
            ip: address.to_canonical(),
            port,
            protocol,
        })
    }
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) | Err(_) if text.is_empty() => Err("a port is missing behind the colon".to_owned()),
        Ok(0) | Err(_) => Err(format!("`{text}` is no port; write 1 to 65535")),
        Ok(port) => Ok(port),
    }
}

fn protocol(text: &str) -> Result<String, String> {
    match text.to_ascii_lowercase().as_str() {
        protocol @ ("tcp" | "udp") => Ok(protocol.to_owned()),
        _ if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => Err(format!(
            "`/{text}` is no protocol: explain asks for one address, without a prefix length"
        )),
        _ => Err(format!(
            "`{text}` is no protocol with ports; write tcp or udp"
        )),
    }
}

#[cfg(test)]
mod tests;
