//! Ends tracked flows, so that what comes next is decided anew.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use nfnetlink::Socket;
use nfnetlink::conntrack::{Conntrack, Filter, Ports, Status};
use sortie_api::policy::Protocol;
use sortie_plan::flow::{Flow, Keep};
use sortie_plan::op::Op;
use sortie_plan::precedence::Target;

use crate::error::{Error, netfilter};

/// From so many sources on, one walk through all flows is cheaper than one for each source.
const ONE_WALK: usize = 4;

/// Ends the flows of all [`Op::ForgetFlows`] among these steps.
pub(crate) fn forget(socket: &mut Socket, ops: &[Op]) -> Result<(), Error> {
    let failed = netfilter("end tracked flows");
    let mut wanted: BTreeMap<IpAddr, Vec<(Filter, &Keep)>> = BTreeMap::new();
    for op in ops {
        if let Op::ForgetFlows {
            source,
            translated,
            keep,
        } = op
        {
            let mut filter = Filter::original_src(*source);
            if let Some(translated) = translated {
                filter = filter.reply_dst(*translated);
            }
            wanted.entry(*source).or_default().push((filter, keep));
        }
    }
    let mut ended: Vec<Conntrack> = Vec::new();
    if wanted.len() < ONE_WALK {
        for (filter, keep) in wanted.values().flatten() {
            let found = socket.conntracks(filter).map_err(failed)?;
            ended.extend(found.into_iter().filter(|entry| !keep.keeps(&flow(entry))));
        }
    } else {
        let all = |entry: Conntrack| {
            let of_source = wanted.get(&entry.original.src).into_iter().flatten();
            let ends = |(filter, keep): &(Filter, &Keep)| {
                filter.matches(&entry) && !keep.keeps(&flow(&entry))
            };
            if of_source.into_iter().any(ends) {
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

/// A tracked flow as policies see it: its destination is the one behind translation, where the
/// answers come from.
pub fn flow(entry: &Conntrack) -> Flow {
    let port = match entry.reply.ports {
        Ports::Ports { src, .. } => Some(src),
        _ => None,
    };
    let protocol = match entry.original.protocol {
        6 => Some(Protocol::Tcp),
        17 => Some(Protocol::Udp),
        _ => None,
    };
    Flow {
        target: Target {
            ip: entry.reply.src,
            port: protocol.zip(port),
        },
        source: entry.reply.dst,
        answered: entry.status.contains(Status::SEEN_REPLY),
    }
}
