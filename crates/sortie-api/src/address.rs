//! Egress addresses and CIDRs as people write them.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::policy::Egress;
use crate::problem::{Fault, quoted};

/// An address that packets can leave with.
pub(crate) fn egress_address(text: &str) -> Result<IpAddr, Fault> {
    let address = address(text)?;
    let what = match address {
        IpAddr::V4(v4) if v4.is_unspecified() => "the unspecified address",
        IpAddr::V4(v4) if v4.octets()[0] == 0 => "in 0.0.0.0/8, which means “this network”",
        IpAddr::V4(v4) if v4.is_loopback() => "a loopback address",
        IpAddr::V4(v4) if v4.is_link_local() => "a link-local address",
        IpAddr::V4(v4) if v4.is_multicast() => "a multicast address",
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address",
        IpAddr::V6(v6) if v6.is_unspecified() => "the unspecified address",
        IpAddr::V6(v6) if v6.is_loopback() => "a loopback address",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "a link-local address",
        IpAddr::V6(v6) if v6.is_multicast() => "a multicast address",
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => {
                return Err(Fault::new(
                    format!("{} is an IPv4 address in IPv6 form", quoted(text)),
                    format!("write `{v4}`"),
                ));
            }
            None => return Ok(address),
        },
        IpAddr::V4(_) => return Ok(address),
    };
    Err(Fault::new(
        format!("{} is {what}: no packet can leave with it", quoted(text)),
        "write an address of this host that the outside can answer to",
    ))
}

/// Any address, without a prefix length.
pub(crate) fn address(text: &str) -> Result<IpAddr, Fault> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let no_address = format!("{} is no IP address", quoted(text));
    let inner = text.trim();
    let inner = inner.split_once('/').map_or(inner, |(address, _)| address);
    let inner = inner
        .strip_prefix('[')
        .and_then(|t| t.strip_suffix(']'))
        .unwrap_or(inner);
    let help = match inner.parse::<IpAddr>() {
        Ok(address) => format!("write `{address}`"),
        Err(_) => {
            "write an IPv4 or IPv6 address, such as `203.0.113.11` or `2001:db8::11`".to_owned()
        }
    };
    Err(Fault::new(no_address, help))
}

/// Puts a further address where its family belongs.
pub(crate) fn add_egress(egress: &mut Egress, address: IpAddr) -> Result<(), Fault> {
    let (family, before) = match address {
        IpAddr::V4(v4) => ("IPv4", egress.v4.replace(v4).map(IpAddr::V4)),
        IpAddr::V6(v6) => ("IPv6", egress.v6.replace(v6).map(IpAddr::V6)),
    };
    match before {
        None => Ok(()),
        Some(before) if before == address => Err(Fault::new(
            format!("`{address}` is written twice"),
            "remove one of them",
        )),
        Some(before) => Err(Fault::new(
            format!("a second {family} egress address: `{before}` is the first"),
            "keep one of them: this version of Sortie takes at most one IPv4 and one IPv6 address",
        )),
    }
}

/// A network: an address without host bits, and a prefix length.
pub(crate) fn cidr(text: &str) -> Result<IpNet, Fault> {
    let Ok(net) = text.parse::<IpNet>() else {
        return Err(no_cidr(text));
    };
    if let IpNet::V6(v6) = net
        && let Some(v4) = v6.addr().to_ipv4_mapped()
    {
        let prefix = v6.prefix_len().saturating_sub(96);
        let help = match Ipv4Net::new(v4, prefix) {
            Ok(v4) if v6.prefix_len() >= 96 => format!("write `{}`", v4.trunc()),
            _ => "write the IPv4 network".to_owned(),
        };
        let message = format!("{} is an IPv4 network in IPv6 form", quoted(text));
        return Err(Fault::new(message, help));
    }
    if net.trunc() != net {
        return Err(Fault::new(
            format!("{} has bits set behind its prefix", quoted(text)),
            format!(
                "write `{}`, or `{}/{}` for the one address",
                net.trunc(),
                net.addr(),
                net.max_prefix_len()
            ),
        ));
    }
    Ok(net)
}

fn no_cidr(text: &str) -> Fault {
    let generic = Fault::new(
        format!("{} is no CIDR", quoted(text)),
        "write an address and a prefix length, such as `203.0.113.0/24` or `2001:db8::/32`",
    );
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return generic;
    };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    match prefix {
        None => Fault::new(
            format!("{} has no prefix length", quoted(text)),
            format!("write `{address}/{longest}` for the one address"),
        ),
        Some(prefix) if prefix.parse::<u32>().is_ok_and(|p| p > longest) => Fault::new(
            format!(
                "the prefix of {} is longer than {longest} bits",
                quoted(text)
            ),
            format!("write a prefix length from 0 to {longest}"),
        ),
        Some(_) => generic,
    }
}

/// An address that a router can have: unicast, link-local ones included.
pub(crate) fn gateway(text: &str) -> Result<IpAddr, Fault> {
    let address = address(text)?;
    let unicast = match address {
        IpAddr::V4(v4) => {
            v4.octets()[0] != 0 && !v4.is_loopback() && !v4.is_multicast() && !v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            v6 != Ipv6Addr::UNSPECIFIED
                && !v6.is_loopback()
                && !v6.is_multicast()
                && v6.to_ipv4_mapped().is_none()
        }
    };
    if unicast {
        return Ok(address);
    }
    Err(Fault::new(
        format!("{} cannot be a gateway", quoted(text)),
        "write the next hop's address on this uplink",
    ))
}
