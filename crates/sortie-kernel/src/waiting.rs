//! Packets that are neither here nor gone: those that wait for the link address of their next hop,
//! behind every hook, and those that the rules are being asked about.

#[cfg(test)]
mod tests;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};

use crate::error::Error;
use crate::facts;
use crate::network::{FAMILIES, list, unless};
use crate::rtnl::{Rtnetlink, Task};

/// Drops what waits at an interface, if it is there; its senders get what they get when nobody
/// answers (`neigh_invalidate` in net/core/neighbour.c). The next packet asks for the next hop anew.
pub(crate) fn drop(rtnl: &mut Rtnetlink, device: &str) -> Result<(), Error> {
    let Some(link) = facts::link_by_name(rtnl, device)? else {
        return Ok(());
    };
    for family in FAMILIES {
        let mut request = NeighbourMessage::default();
        request.header.family = family;
        request.attributes = vec![NeighbourAttribute::IfIndex(link.index.0)];
        let request = RouteNetlinkMessage::GetNeighbour(request);
        let task = Task::new("list", format!("neighbours dev {device}"));
        for answer in list(rtnl, &task, &request)? {
            let RouteNetlinkMessage::NewNeighbour(found) = answer else {
                continue;
            };
            // In any other state packets leave at once, or not at all.
            let waits = found.header.state == NeighbourState::Incomplete;
            if !waits || found.header.ifindex != link.index.0 {
                continue;
            }
            let mut message = NeighbourMessage::default();
            message.header.family = family;
            message.header.ifindex = link.index.0;
            let is_address =
                |it: &NeighbourAttribute| matches!(it, NeighbourAttribute::Destination(_));
            message.attributes = found.attributes.into_iter().filter(is_address).collect();
            let task = Task::new("drop what waits for a neighbour", format!("dev {device}"));
            let message = RouteNetlinkMessage::DelNeighbour(message);
            unless(libc::ENOENT, rtnl.change(&task, message, 0))?;
        }
    }
    Ok(())
}

/// Waits until whatever is done with a packet now has been done: hooks run within one RCU read-side
/// section (`nf_hook` in include/linux/netfilter.h), and the kernel waits for those that have begun
/// (`MEMBARRIER_CMD_GLOBAL` in membarrier(2)). Some ten milliseconds.
pub(crate) fn let_pass() {
    const GLOBAL: libc::c_int = 1;
    // SAFETY: takes two numbers, and no memory of ours.
    let done = unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0) };
    // Kernels with full dynticks cannot, and seccomp may forbid it: what was done since the last
    // transaction has taken longer than a packet does.
    if done != 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, "packets on their way are not waited for");
    }
}
