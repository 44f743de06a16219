//! Egress addresses as `run` and `attach` take them, and an address with its port as it is shown.

use std::net::{IpAddr, SocketAddr};

/// `--address A[,A6]` and `--via UPLINK`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Egress {
    /// The address to leave with; one of IPv4, one of IPv6, or both
    #[arg(
        short,
        long = "address",
        value_name = "A[,A6]",
        required = true,
        value_parser = parse
    )]
    addresses: Addresses,
    /// The interface to leave through; without it, the default route's
    #[arg(long, value_name = "UPLINK")]
    pub(super) via: Option<String>,
}

/// At least one, at most one of an IP family.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Addresses(Vec<IpAddr>);

impl Egress {
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        self.addresses.0.clone()
    }
}

fn parse(text: &str) -> Result<Addresses, String> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for part in text.split(',') {
        let address: IpAddr = part.parse().map_err(|_| match part.split_once('/') {
            Some((address, _)) if address.parse::<IpAddr>().is_ok() => {
                format!("`{part}` has a prefix length; write {address}")
            }
            _ => format!("`{part}` is no IP address; write one such as 203.0.113.11"),
        })?;
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        if addresses.iter().any(|a| a.is_ipv4() == address.is_ipv4()) {
            return Err(format!(
                "`{address}` is a second {family} address; keep one"
            ));
        }
        addresses.push(address);
    }
    Ok(Addresses(addresses))
}

/// `ADDRESS`, `ADDRESS:PORT` or `[ADDRESS]:PORT`.
pub(super) fn with_port(address: IpAddr, port: Option<u16>) -> String {
    match port {
        Some(port) => SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    }
}
