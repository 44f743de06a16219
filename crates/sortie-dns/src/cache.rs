//! Servers' answers for names of policies, for as long as they may be kept.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sortie_api::workload::WorkloadId;

use crate::name::DnsName;
use crate::question::Query;
use crate::wire::{self, HEADER, Header, flag, kind};

/// Longest that an answer is kept: who changes an address is noticed after that, whatever the
/// former TTL was.
const LONGEST: Duration = Duration::from_mins(5);
/// Largest answer that is kept, in bytes.
const SIZE_MAX: usize = 4096;
/// Response codes that are kept (RFC 2308): there are such records, or no such name.
const KEPT_CODES: [u16; 2] = [0, 3];

/// Answers as servers wrote them, by who asked whom for what. What clients are told is decided each
/// time anew.
///
/// Memory: at most `capacity` answers of 4 KiB, and 300 bytes beside each; most have 200.
#[derive(Debug)]
pub(crate) struct Cache {
    capacity: usize,
    answers: HashMap<Key, Kept>,
    /// By when they end, and a number that tells two apart.
    ends: BTreeMap<(Instant, u64), Key>,
    turn: u64,
}

/// What makes two lookups have one answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    workload: WorkloadId,
    server: SocketAddr,
    name: DnsName,
    kind: u16,
    class: u16,
    /// The bits RD and CD.
    flags: u16,
    /// Whether EDNS is used, and then the bit DO.
    edns: Option<bool>,
}

#[derive(Debug)]
struct Kept {
    message: Vec<u8>,
    since: Instant,
    end: (Instant, u64),
}

impl Cache {
    /// An empty one, for this many answers.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            answers: HashMap::new(),
            ends: BTreeMap::new(),
            turn: 0,
        }
    }

    /// The answer to a query, where it is still good: with the query's number and question, and
    /// what is left of the TTLs.
    pub(crate) fn get(
        &self,
        workload: &WorkloadId,
        server: SocketAddr,
        query: &Query,
        now: Instant,
    ) -> Option<Vec<u8>> {
        let kept = self.answers.get(&key(workload, server, query)?)?;
        if kept.end.0 <= now {
            return None;
        }
        let age = now.saturating_duration_since(kept.since).as_secs();
        let age = u32::try_from(age).unwrap_or(u32::MAX);
        let mut message = kept.message.clone();
        let header = Header::read(&message)?;
        for place in wire::places(&message, header, HEADER + query.question.len())? {
            if place.kind != kind::OPT {
                let left = place.ttl.saturating_sub(age).to_be_bytes();
                wire::put(&mut message, place.ttl_at, &left);
            }
        }
        wire::put(&mut message, 0, &query.id.to_be_bytes());
        wire::put(&mut message, HEADER, &query.question);
        Some(message)
    }

    /// Keeps an answer, unless it is one of these:
    ///
    /// 1. for this client alone, because it says more by EDNS than which answers it takes;
    /// 2. from the host itself: local servers cost nothing, and what they say of containers is old
    ///    when a container has been made anew, whatever the TTL;
    /// 3. truncated, large, another code than success and no such name, or without a TTL.
    pub(crate) fn keep(
        &mut self,
        workload: &WorkloadId,
        server: SocketAddr,
        query: &Query,
        message: &[u8],
        now: Instant,
    ) {
        let Some(key) = key(workload, server, query) else {
            return;
        };
        let Some(time) = time_to_live(query, message) else {
            return;
        };
        self.turn += 1;
        let end = (now + time.min(LONGEST), self.turn);
        let kept = Kept {
            message: message.to_vec(),
            since: now,
            end,
        };
        self.ends.insert(end, key.clone());
        if let Some(before) = self.answers.insert(key, kept) {
            self.ends.remove(&before.end);
        }
        // Whatever ends first makes room: what has ended anyway, in most cases.
        while self.answers.len() > self.capacity {
            let Some((_, first)) = self.ends.pop_first() else {
                break;
            };
            self.answers.remove(&first);
        }
    }

    /// A workload has ended, or begins anew: its servers may be others under the same address.
    pub(crate) fn forget(&mut self, workload: &WorkloadId) {
        let ends = &mut self.ends;
        self.answers.retain(|key, kept| {
            let stays = key.workload != *workload;
            if !stays {
                ends.remove(&kept.end);
            }
            stays
        });
    }
}

fn key(workload: &WorkloadId, server: SocketAddr, query: &Query) -> Option<Key> {
    let alone = query.edns.is_some_and(|edns| edns.options);
    (!alone && !server.ip().is_loopback()).then(|| Key {
        workload: workload.clone(),
        server,
        name: query.name.clone(),
        kind: query.kind,
        class: query.class,
        flags: query.flags & (flag::RECURSION_DESIRED | flag::CHECKING_DISABLED),
        edns: query.edns.map(|edns| edns.dnssec),
    })
}

/// How long an answer may be kept: the shortest TTL of its answers; for none at all what the SOA
/// says (RFC 2308 §5).
fn time_to_live(query: &Query, message: &[u8]) -> Option<Duration> {
    let header = Header::read(message)?;
    if header.has(flag::TRUNCATED)
        || header.questions != 1
        || !KEPT_CODES.contains(&header.rcode())
        || message.len() > SIZE_MAX
    {
        return None;
    }
    let places = wire::places(message, header, HEADER + query.question.len())?;
    let asked = |found| found == query.kind || query.kind == kind::ANY;
    let positive = places
        .iter()
        .any(|place| place.section == 0 && asked(place.kind));
    let answers = places
        .iter()
        .filter(|place| place.section == 0)
        .map(|place| place.ttl);
    let negative = places.iter().find_map(|place| {
        let minimum = place.rdata.end.checked_sub(4)?;
        (place.section == 1 && place.kind == kind::SOA)
            .then(|| Some(wire::be32(message, minimum)?.min(place.ttl)))?
    });
    let seconds = if positive {
        answers.min()?
    } else {
        answers.min().unwrap_or(u32::MAX).min(negative?)
    };
    // RFC 2181 §8: a TTL with the highest bit set is none.
    (1..1 << 31)
        .contains(&seconds)
        .then(|| Duration::from_secs(seconds.into()))
}
