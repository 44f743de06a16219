//! Answers to lookups that the resolver has no part in, since no policy of the workload speaks of
//! names yet: overheard on their way in, so that a policy that comes later applies to what the
//! workload already knows.
//!
//! Only what comes by UDP is overheard, and of Docker's own resolver only what it asks from inside the
//! container: an upstream on the host's loopback answers the host.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use etherparse::{EtherType, NetSlice, SlicedPacket, TransportSlice};
use nfnetlink::Notice;
use nfnetlink::log;
use sortie_dns::{Answer, Wanted};
use sortie_plan::reason::ANSWERS_GROUP;

use crate::Error;
use crate::api::Learned;
use crate::core::{Core, Event, Handle};
use crate::proof::{PATIENCE, read};

/// Bytes of an answer that are read: more than a name's addresses take.
const SNAPLEN: u32 = 4_096;
/// A server's worth of lookups in one container is not worth a core of the host: beyond so many in a
/// second the others are passed over.
const MOST: u32 = 2_000;

/// Somebody was told the addresses of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overheard {
    /// Who was told.
    client: IpAddr,
    /// In small letters and without a dot at its end.
    name: String,
    addresses: Vec<IpAddr>,
}

/// Starts the reader, in the calling thread's network namespace; it ends with the core.
pub(crate) fn listen(handle: &Handle) -> Result<(), Error> {
    let config = log::Config {
        snaplen: SNAPLEN,
        ..log::Config::new(ANSWERS_GROUP)
    };
    let mut answers = log::listen(&config).map_err(|source| Error::Listen {
        what: "NFLOG",
        source,
    })?;
    let mut second = (Instant::now(), 0);
    let next = move || {
        let until = Instant::now() + PATIENCE;
        loop {
            let Some(notice) = answers.next(until.saturating_duration_since(Instant::now()))?
            else {
                return Ok(None);
            };
            // What was lost would have been passed over.
            let Notice::Event(packet) = notice else {
                continue;
            };
            if second.0.elapsed() > Duration::from_secs(1) {
                second = (Instant::now(), 0);
            }
            second.1 += 1;
            let ethertype = packet.hook.map_or(0, |hook| hook.protocol);
            if second.1 <= MOST
                && let Some(heard) = overheard(ethertype, &packet.payload)
            {
                return Ok(Some(heard));
            }
        }
    };
    read("answers", handle, next, |handle, heard| {
        handle.tell(Event::Overheard(heard))
    })
}

/// None where it is no answer, or tells no address.
fn overheard(ethertype: u16, packet: &[u8]) -> Option<Overheard> {
    let sliced = SlicedPacket::from_ether_type(EtherType(ethertype), packet).ok()?;
    let client = match sliced.net? {
        NetSlice::Ipv4(ip) => IpAddr::V4(ip.header().destination_addr()),
        NetSlice::Ipv6(ip) => IpAddr::V6(ip.header().destination_addr()),
        NetSlice::Arp(_) => return None,
    };
    let Some(TransportSlice::Udp(udp)) = sliced.transport else {
        return None;
    };
    let answer = Answer::read(udp.payload()).ok()?;
    let addresses = answer.addresses(Wanted::NOTHING);
    (!addresses.is_empty()).then(|| Overheard {
        client,
        name: answer.name().as_str().to_owned(),
        addresses,
    })
}

impl Core {
    /// The plan remembers it, as long as the workload lives. Where the resolver is asked, the answer is
    /// on its way there.
    pub(crate) fn overhear(&mut self, heard: Overheard) {
        let Some(tracked) = self.planner().holder(heard.client) else {
            return;
        };
        let workload = tracked.workload.id.clone();
        if self.planner().asks_names(&workload) {
            return;
        }
        self.remember_name(&Learned {
            workload,
            name: heard.name,
            addresses: heard.addresses,
        });
    }
}

#[cfg(test)]
mod tests;
