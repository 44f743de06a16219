//! `http://NAME[:PORT]/PATH` and `https://…`, as `explain` takes them.

use std::net::{IpAddr, Ipv6Addr};

use super::{Address, Destination, name, port};

/// A request without its method: what is behind the path is no policy's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) encrypted: bool,
    pub(crate) name: String,
    pub(crate) port: u16,
    /// Begins with `/`.
    pub(crate) path: String,
}

/// An address in a URL is no name: requests to it are decided by address.
pub(super) fn url(scheme: &str, rest: &str) -> Result<Destination, String> {
    let (encrypted, default) = match scheme.to_ascii_lowercase().as_str() {
        "http" => (false, 80),
        "https" => (true, 443),
        _ => return Err(format!("`{scheme}` is no scheme here; write http or https")),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        return Err("leave the user and the password out of the URL".to_owned());
    }
    let (host, written) = split(authority)?;
    let port = match written {
        None | Some("") => default,
        Some(text) => port(text)?,
    };
    if let Some(address) = address(host)? {
        return Ok(Destination::Address(Address {
            ip: address,
            port: Some(port),
            protocol: None,
        }));
    }
    let name = name(host)?.text;
    let path = path.split(['?', '#']).next().unwrap_or_default();
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("its path has characters that must be percent-encoded".to_owned());
    }
    let path = if path.is_empty() { "/" } else { path };
    Ok(Destination::Url(Url {
        encrypted,
        name,
        port,
        path: path.to_owned(),
    }))
}

/// Host and port; an IPv6 address has brackets (RFC 3986, 3.2.2).
fn split(authority: &str) -> Result<(&str, Option<&str>), String> {
    let bracket = authority.rfind(']').map_or(0, |at| at + 1);
    let (front, back) = authority.split_at(bracket);
    match back.split_once(':') {
        None if front.is_empty() => Ok((back, None)),
        None if back.is_empty() => Ok((front, None)),
        Some((host, port)) if front.is_empty() => Ok((host, Some(port))),
        Some(("", port)) => Ok((front, Some(port))),
        _ => Err(format!("`{back}` cannot follow the bracket")),
    }
}

fn address(host: &str) -> Result<Option<IpAddr>, String> {
    let Some(inner) = host.strip_prefix('[') else {
        return Ok(host.parse().ok());
    };
    let inner = inner.strip_suffix(']').unwrap_or(inner);
    let v6: Result<Ipv6Addr, _> = inner.parse();
    v6.map(|v6| Some(IpAddr::V6(v6).to_canonical()))
        .map_err(|_| format!("`{inner}` is no IPv6 address"))
}
