//! `DEST[:PORT[/PROTO]]`, as `explain` takes it.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// An address, and perhaps a port and its protocol. A bare IPv6 address has no port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) address: IpAddr,
    pub(crate) port: Option<u16>,
    /// `tcp` or `udp`, where it is said.
    pub(crate) protocol: Option<String>,
}

impl FromStr for Destination {
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
            let address = address.parse().map_err(|_| no_address(address))?;
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
            address: address.to_canonical(),
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

fn no_address(text: &str) -> String {
    if text.contains(|c: char| c.is_ascii_alphabetic()) && !text.contains(':') {
        format!(
            "`{text}` is no IP address: names are not resolved, because the answer may differ for the workload; write an address"
        )
    } else {
        format!("`{text}` is no IP address")
    }
}

#[cfg(test)]
mod tests;
