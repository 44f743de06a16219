//! Whether an uplink's cable and its router are there: what no route tells.

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;

use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::error::Error;
use crate::facts;
use crate::rtnl::{Rtnetlink, Task};

/// Why nothing arrives behind an uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Somebody has set it down.
    Down,
    /// Its cable has no other end, or that is down.
    NoCarrier,
    /// The router does not say where it is (ARP, neighbour discovery).
    Silent(IpAddr),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down => f.write_str("it is down"),
            Self::NoCarrier => f.write_str("it has no carrier"),
            Self::Silent(gateway @ IpAddr::V4(_)) => {
                write!(f, "its gateway {gateway} does not answer (ARP)")
            }
            Self::Silent(gateway @ IpAddr::V6(_)) => {
                write!(
                    f,
                    "its gateway {gateway} does not answer (neighbour discovery)"
                )
            }
        }
    }
}

/// What is wrong with an uplink, and with its way to this gateway. The kernel knows of a silent
/// gateway only while something is sent by it, and for a while after.
pub fn trouble(
    rtnl: &mut Rtnetlink,
    device: &str,
    gateway: Option<IpAddr>,
) -> Result<Option<Trouble>, Error> {
    let Some(link) = facts::link_by_name(rtnl, device)? else {
        return Ok(Some(Trouble::Down));
    };
    if !link.up {
        return Ok(Some(Trouble::Down));
    }
    if !link.carrier {
        return Ok(Some(Trouble::NoCarrier));
    }
    let Some(gateway) = gateway else {
        return Ok(None);
    };
    let mut request = NeighbourMessage::default();
    request.header.family = match gateway {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    request.header.ifindex = link.index.0;
    request.attributes = vec![NeighbourAttribute::Destination(gateway.into())];
    let task = Task::new("look up the neighbour", format!("{gateway} dev {device}"));
    match rtnl.get(&task, RouteNetlinkMessage::GetNeighbour(request)) {
        Ok(Some(RouteNetlinkMessage::NewNeighbour(found))) => {
            let silent = matches!(
                found.header.state,
                NeighbourState::Incomplete | NeighbourState::Failed
            );
            Ok(silent.then_some(Trouble::Silent(gateway)))
        }
        Ok(_) => Ok(None),
        // Nobody has asked for it yet.
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}
