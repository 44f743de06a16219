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

/// One walk that reports every flow is as cheap as one more walk that reports those of one source,
/// up to so many flows: a report costs about 2 µs, a walk through the kernel's hash table 10 ms.
const FLOWS_FOR_A_WALK: usize = 5_000;

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
    if tracked() > wanted.len().saturating_sub(1) * FLOWS_FOR_A_WALK {
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

/// How many flows are tracked in the calling thread's namespace: many, where that cannot be read.
fn tracked() -> usize {
    let count = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count");
    count
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(usize::MAX)
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
