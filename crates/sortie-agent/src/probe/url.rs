//! `http://ADDRESS[:PORT]/…`, `tcp://ADDRESS:PORT`, `udp://ADDRESS:PORT`: where an observer is.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::ProbeError;

const FORMS: &str = "write http://ADDRESS[:PORT]/, tcp://ADDRESS:PORT or udp://ADDRESS:PORT";

/// An observer, by IP address: the workload's own names would be resolved elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObserverUrl {
    /// Where it listens.
    pub address: SocketAddr,
    pub(super) scheme: Scheme,
    text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scheme {
    Http {
        /// With its query; begins with `/`.
        path: String,
    },
    Tcp,
    Udp,
}

impl ObserverUrl {
    /// `tcp` or `udp`: what the packets carry.
    pub fn protocol(&self) -> &'static str {
        match self.scheme {
            Scheme::Http { .. } | Scheme::Tcp => "tcp",
            Scheme::Udp => "udp",
        }
    }
}

impl fmt::Display for ObserverUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for ObserverUrl {
    type Err = ProbeError;

    fn from_str(text: &str) -> Result<Self, ProbeError> {
        let wrong = |detail: String| ProbeError::Url {
            url: text.to_owned(),
            detail,
        };
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(wrong(FORMS.to_owned()));
        };
        let split = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(split);
        let (scheme, default_port) = match scheme {
            "http" => (http(path).map_err(wrong)?, Some(80)),
            "tcp" | "udp" if !["", "/"].contains(&path) => {
                return Err(wrong(format!("{scheme} has no path; {FORMS}")));
            }
            "tcp" => (Scheme::Tcp, None),
            "udp" => (Scheme::Udp, None),
            "https" => {
                return Err(wrong("TLS is not spoken here; write http://".to_owned()));
            }
            _ => return Err(wrong(FORMS.to_owned())),
        };
        let address = authority_address(authority, default_port).map_err(wrong)?;
        Ok(Self {
            address,
            scheme,
            text: text.to_owned(),
        })
    }
}

/// Nothing in the path may end the request's line.
fn http(path: &str) -> Result<Scheme, String> {
    if path.contains(|c: char| !c.is_ascii_graphic() || c == '#') {
        return Err("its path has characters that must be percent-encoded".to_owned());
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok(Scheme::Http {
        path: format!("{slash}{path}"),
    })
}

fn authority_address(text: &str, default_port: Option<u16>) -> Result<SocketAddr, String> {
    let address = match (text.parse::<SocketAddr>(), default_port) {
        (Ok(address), _) => address,
        (Err(_), port) => {
            let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
            let ip: Option<IpAddr> = match inner {
                Some(v6) => v6.parse().ok().filter(IpAddr::is_ipv6),
                None => text.parse().ok().filter(IpAddr::is_ipv4),
            };
            match (ip, port) {
                (Some(ip), Some(port)) => SocketAddr::new(ip, port),
                (Some(_), None) => return Err("it has no port; write ADDRESS:PORT".to_owned()),
                (None, _) => return Err(no_address(text)),
            }
        }
    };
    if address.port() == 0 {
        return Err("port 0 cannot be connected to".to_owned());
    }
    Ok(address)
}

fn no_address(text: &str) -> String {
    if text.parse::<IpAddr>().is_ok() {
        return format!("an IPv6 address has brackets here; write [{text}]");
    }
    "it needs an IP address, IPv6 in brackets: names are not resolved".to_owned()
}
