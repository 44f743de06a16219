//! Ends tracked flows, so that what comes next is decided anew.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use nfnetlink::conntrack::{Conntrack, Filter, Ports, Status, Tuple};
use nfnetlink::{Family, Socket};
use sortie_api::policy::Protocol;
use sortie_api::workload::CgroupId;
use sortie_plan::flow::{Flow, Keep, Source};
use sortie_plan::op::Op;
use sortie_plan::precedence::Target;

use crate::error::{Error, netfilter};

/// One walk that reports every flow is as cheap as one more walk that reports those of one source,
/// up to so many flows: a report costs about 2 µs, a walk through the kernel's hash table 10 ms.
const FLOWS_FOR_A_WALK: usize = 5_000;

/// What one [`Op::ForgetFlows`] says: at a start there are ten thousands.
struct Wanted<'o> {
    source: Source,
    translated: Option<IpAddr>,
    keep: &'o Keep,
}

impl Wanted<'_> {
    /// What the kernel is asked for; of a cgroup's flows it knows the family only.
    fn filter(&self) -> Filter {
        let filter = match self.source {
            Source::Address(address) => Filter::original_src(address),
            Source::Cgroup { v6, .. } => {
                let family = if v6 { Family::Ip6 } else { Family::Ip };
                Filter {
                    family: Some(family),
                    ..Filter::all()
                }
            }
        };
        match self.translated {
            Some(translated) => filter.reply_dst(translated),
            None => filter,
        }
    }

    /// Whether it ends this flow, which is of its source.
    fn ends(&self, entry: &Conntrack) -> bool {
        self.filter().matches(entry) && !self.keep.keeps(&flow(entry))
    }
}

/// Ends the flows of all [`Op::ForgetFlows`] among these steps.
pub(crate) fn forget(socket: &mut Socket, ops: &[Op]) -> Result<(), Error> {
    let failed = netfilter("end tracked flows");
    let wanted = |op| match op {
        &Op::ForgetFlows {
            source,
            translated,
            ref keep,
        } => Some(Wanted {
            source,
            translated,
            keep,
        }),
        _ => None,
    };
    let mut wanted: Vec<Wanted> = ops.iter().filter_map(wanted).collect();
    wanted.sort_by_key(|wanted| wanted.source);
    let mut ended: Vec<Conntrack> = Vec::new();
    if tracked() > wanted.len().saturating_sub(1) * FLOWS_FOR_A_WALK {
        for wanted in &wanted {
            let found = socket.conntracks(&wanted.filter()).map_err(failed)?;
            let of_source = found
                .into_iter()
                .filter(|it| sources(it).contains(&Some(wanted.source)));
            ended.extend(of_source.filter(|entry| wanted.ends(entry)));
        }
    } else {
        let ends = |source: Source, entry: &Conntrack| {
            let from = wanted.partition_point(|wanted| wanted.source < source);
            let wanted = wanted.get(from..).into_iter().flatten();
            let mut of_source = wanted.take_while(|wanted| wanted.source == source);
            of_source.any(|wanted| wanted.ends(entry))
        };
        let all = |entry: Conntrack| {
            let mut sources = sources(&entry).into_iter().flatten();
            if sources.any(|source| ends(source, &entry)) {
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

/// Ends the flow that began with this tuple, unless it is noted to be a cgroup's: it is one of
/// before.
pub(crate) fn forget_earlier(socket: &mut Socket, original: &Tuple) -> Result<(), Error> {
    let failed = netfilter("end an earlier flow");
    let found = socket.conntrack(original).map_err(failed)?;
    let earlier = found.filter(|entry| CgroupId::of_label(entry.labels).is_none());
    match earlier.map(|entry| socket.delete_conntrack(&entry)) {
        Some(Err(error)) if !error.is_not_found() => Err(failed(error)),
        _ => Ok(()),
    }
}

/// Whose flow it is.
fn sources(entry: &Conntrack) -> [Option<Source>; 2] {
    let v6 = entry.original.src.is_ipv6();
    let cgroup = CgroupId::of_label(entry.labels);
    [
        Some(Source::Address(entry.original.src)),
        cgroup.map(|id| Source::Cgroup { id, v6 }),
    ]
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
        target: Target::address(entry.reply.src, protocol.zip(port)),
        asked: entry.original.dst,
        source: entry.reply.dst,
        answered: entry.status.contains(Status::SEEN_REPLY),
    }
}
