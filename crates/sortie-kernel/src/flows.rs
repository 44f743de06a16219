//! Ends tracked flows, so that what comes next is decided anew.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use nfnetlink::Socket;
use nfnetlink::conntrack::{Conntrack, Filter};
use sortie_plan::op::Op;

use crate::error::{Error, netfilter};

/// From so many sources on, one walk through all flows is cheaper than one for each source.
const ONE_WALK: usize = 4;

/// Ends the flows of all [`Op::ForgetFlows`] among these steps.
pub(crate) fn forget(socket: &mut Socket, ops: &[Op]) -> Result<(), Error> {
    let failed = netfilter("end tracked flows");
    let mut filters: BTreeMap<IpAddr, Vec<Filter>> = BTreeMap::new();
    for op in ops {
        if let Op::ForgetFlows { source, keep } = op {
            let mut filter = Filter::original_src(*source);
            if let Some(keep) = keep {
                filter = filter.except_reply_dst(*keep);
            }
            filters.entry(*source).or_default().push(filter);
        }
    }
    let mut ended: Vec<Conntrack> = Vec::new();
    if filters.len() < ONE_WALK {
        for filter in filters.values().flatten() {
            ended.extend(socket.conntracks(filter).map_err(failed)?);
        }
    } else {
        let all = |entry: Conntrack| {
            let of_source = filters.get(&entry.original.src);
            if of_source.is_some_and(|filters| filters.iter().any(|filter| filter.matches(&entry)))
            {
                ended.push(entry);
            }
        };
        socket
            .stream_conntracks(&Filter::all(), all)
            .map_err(failed)?;
    }
    for entry in &ended {
        match socket.delete_conntrack(entry) {
            Ok(()) => {}
            // Ended by itself meanwhile.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}
