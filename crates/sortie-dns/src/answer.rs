//! A server's answer: the addresses it tells of the asked name, and the answer as the client gets it.

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::svcb::SVCB;
use hickory_proto::rr::rdata::{A, AAAA, HTTPS};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use crate::learn::Answered;
use crate::name::DnsName;
use crate::names::{Learning, Wanted};
use crate::svcb::{hints, shown, told};

/// Longest chain of aliases that is followed. Resolvers stop at 8 to 16.
const CHAIN_MAX: usize = 16;
/// Most addresses of one answer; the others are left out.
const ADDRESSES_MAX: usize = 128;
/// Longest that a client may keep a set of records that we changed, in seconds: it may be right to
/// change it otherwise, or not at all, soon.
const CHANGED_TTL: u32 = 60;

/// The types that are changed.
const TREATED: [RecordType; 4] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::HTTPS,
    RecordType::SVCB,
];

/// A server's answer that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server's answer cannot be read: {0}")]
pub struct Unreadable(String);

/// A server's answer, decoded.
#[derive(Debug, Clone)]
pub struct Answer {
    message: Message,
    /// The asked name, and where its aliases lead.
    owners: Vec<Name>,
}

/// The answer as the client gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// As the server wrote it: its very bytes.
    Unchanged,
    /// This.
    Changed(Vec<u8>),
}

impl Answer {
    /// Decodes the answer to a query.
    pub fn read(message: &[u8]) -> Result<Self, Unreadable> {
        let message = Message::from_vec(message).map_err(|error| Unreadable(error.to_string()))?;
        let asked = match message.queries.as_slice() {
            [question] => question.name().clone(),
            // An error that leaves the question out tells nothing.
            _ => Name::root(),
        };
        let mut owners = vec![asked.clone()];
        if let Some(host) = without_https_port(&asked) {
            owners.push(host);
        }
        let end = end_of_chain(asked, &message.answers);
        if !owners.contains(&end) {
            owners.push(end);
        }
        Ok(Self { message, owners })
    }

    /// The host that was asked for.
    pub fn name(&self) -> DnsName {
        let asked = self.owners.first().into_iter();
        let labels: Vec<&[u8]> = asked.flat_map(Name::iter).collect();
        DnsName::of_labels(&labels).without_https_port()
    }

    /// The addresses that it tells of the asked name, each once: those of address records at the
    /// end of its aliases, and the hints of its SVCB and HTTPS records, in the families that are
    /// wanted.
    pub fn addresses(&self, wanted: Wanted) -> Vec<IpAddr> {
        let mut addresses = Vec::new();
        let sections = [&self.message.answers, &self.message.additionals];
        for record in sections.into_iter().flatten() {
            if !self.is_about(record) {
                continue;
            }
            let told = match &record.data {
                RData::A(A(address)) => vec![IpAddr::V4(*address)],
                RData::AAAA(AAAA(address)) => vec![IpAddr::V6(*address)],
                RData::HTTPS(HTTPS(svcb)) | RData::SVCB(svcb)
                    if self.is_here(record, svcb) || wanted.learning == Learning::Unneeded =>
                {
                    hints(svcb)
                }
                _ => Vec::new(),
            };
            for address in told {
                if wanted.families.has(address.is_ipv6()) && !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        addresses.truncate(ADDRESSES_MAX);
        addresses
    }

    /// How long all of it may be kept: none where it has no records.
    pub(crate) fn lasts(&self) -> Duration {
        let times = self.message.answers.iter().map(|record| record.ttl);
        Duration::from_secs(times.min().unwrap_or_default().into())
    }

    /// The answer with each address as it is told, in this order:
    ///
    /// 1. Addresses of the asked name are kept, replaced or left out; those in the answer section
    ///    that belong to other names go. Glue beside the answer stays.
    /// 2. SVCB and HTTPS records are treated likewise. Those that lead to another name go: the
    ///    client would ask for that name's addresses, which no policy names, while its TLS names
    ///    this host. Without them it asks for this name's.
    /// 3. Nothing has changed: the server's bytes.
    /// 4. A changed set of records loses its signature, the answer its AD bit (RFC 4035 §3.2.3),
    ///    and clients keep it no longer than a minute.
    ///
    /// SOA and aliases stay, so what is left of an answer without addresses is an ordinary NODATA.
    pub fn told(
        mut self,
        wanted: Wanted,
        fate: &dyn Fn(IpAddr) -> Answered,
    ) -> Result<Told, Unreadable> {
        let fate = |address: IpAddr| {
            if wanted.families.has(address.is_ipv6()) {
                fate(address)
            } else {
                Answered::LeftOut
            }
        };
        let before = (
            self.message.answers.clone(),
            self.message.additionals.clone(),
        );
        let answers = std::mem::take(&mut self.message.answers);
        let additionals = std::mem::take(&mut self.message.additionals);
        let mut answers: Vec<Record> = answers
            .into_iter()
            .filter(|record| self.is_about(record) || !is_address(record))
            .filter_map(|record| self.record(record, wanted, &fate))
            .collect();
        let mut additionals: Vec<Record> = additionals
            .into_iter()
            .filter_map(|record| self.record(record, wanted, &fate))
            .collect();
        if before.0 == answers && before.1 == additionals {
            return Ok(Told::Unchanged);
        }
        for (before, after) in [(&before.0, &mut answers), (&before.1, &mut additionals)] {
            for kind in TREATED {
                if !of(kind, before).eq(of(kind, after)) {
                    after.retain(|record| signed(record) != Some(kind));
                    for record in after
                        .iter_mut()
                        .filter(|record| record.record_type() == kind)
                    {
                        record.ttl = record.ttl.min(CHANGED_TTL);
                    }
                }
            }
        }
        self.message.answers = answers;
        self.message.additionals = additionals;
        self.message.metadata.authentic_data = false;
        let written = self.message.to_vec();
        written
            .map(Told::Changed)
            .map_err(|error| Unreadable(error.to_string()))
    }

    fn record(
        &self,
        mut record: Record,
        wanted: Wanted,
        fate: &dyn Fn(IpAddr) -> Answered,
    ) -> Option<Record> {
        if !self.is_about(&record) {
            return Some(record);
        }
        record.data = match record.data {
            RData::A(A(address)) => data_of(shown(address.into(), fate)?),
            RData::AAAA(AAAA(address)) => data_of(shown(address.into(), fate)?),
            RData::HTTPS(HTTPS(ref svcb)) => {
                RData::HTTPS(HTTPS(self.svcb(&record, svcb, wanted, fate)?))
            }
            RData::SVCB(ref svcb) => RData::SVCB(self.svcb(&record, svcb, wanted, fate)?),
            other => other,
        };
        Some(record)
    }

    fn svcb(
        &self,
        record: &Record,
        svcb: &SVCB,
        wanted: Wanted,
        fate: &dyn Fn(IpAddr) -> Answered,
    ) -> Option<SVCB> {
        if !self.is_here(record, svcb) && wanted.learning != Learning::Unneeded {
            return None;
        }
        told(svcb, wanted.sees_name, fate)
    }

    /// Whether a record belongs to the asked name.
    fn is_about(&self, record: &Record) -> bool {
        self.owners.contains(&record.name)
    }

    /// Whether a service is the asked name's own, not an alias and not another host's (RFC 9460 §2.4).
    fn is_here(&self, record: &Record, svcb: &SVCB) -> bool {
        let target = &svcb.target_name;
        svcb.svc_priority > 0
            && (target.is_root() || *target == record.name || self.owners.contains(target))
    }
}

/// Where the aliases of a name lead within an answer (RFC 1034 §3.6.2, RFC 6672). A chain that is a
/// circle or too long leads nowhere that has addresses.
fn end_of_chain(asked: Name, answers: &[Record]) -> Name {
    let mut name = asked;
    for _ in 0..CHAIN_MAX {
        let next = answers.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if record.name == name => Some(target.0.clone()),
            _ => None,
        });
        // Servers write the alias too that follows from a DNAME; one that does not is understood.
        match next.or_else(|| answers.iter().find_map(|record| below(record, &name))) {
            Some(next) => name = next,
            None => break,
        }
    }
    name
}

/// Where a DNAME record leads a name.
fn below(record: &Record, name: &Name) -> Option<Name> {
    if record.record_type() != RecordType::DNAME
        || record.name == *name
        || !record.name.zone_of(name)
    {
        return None;
    }
    let RData::Unknown { rdata, .. } = &record.data else {
        return None;
    };
    let target = Name::read(&mut BinDecoder::new(&rdata.anything)).ok()?;
    let kept = name.num_labels().saturating_sub(record.name.num_labels());
    let labels = name.iter().take(kept.into());
    Name::from_labels(labels).ok()?.append_domain(&target).ok()
}

/// As [`DnsName`](crate::DnsName) does it.
fn without_https_port(name: &Name) -> Option<Name> {
    let mut labels = name.iter();
    let port = labels.next()?.strip_prefix(b"_")?;
    std::str::from_utf8(port).ok()?.parse::<u16>().ok()?;
    if !labels.next()?.eq_ignore_ascii_case(b"_https") {
        return None;
    }
    Some(name.trim_to(labels.count()))
}

fn is_address(record: &Record) -> bool {
    matches!(record.record_type(), RecordType::A | RecordType::AAAA)
}

fn data_of(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

fn of(kind: RecordType, records: &[Record]) -> impl Iterator<Item = &Record> {
    records
        .iter()
        .filter(move |record| record.record_type() == kind)
}

/// The type that a record is the signature of.
fn signed(record: &Record) -> Option<RecordType> {
    match &record.data {
        RData::Unknown { code, rdata } if *code == RecordType::RRSIG => {
            let covered = rdata.anything.first_chunk()?;
            Some(RecordType::from(u16::from_be_bytes(*covered)))
        }
        _ => None,
    }
}

/// Makes an answer fit into a datagram of the client's size: what does not fit is asked for again
/// over TCP (RFC 2181 §9).
pub fn fit(message: Vec<u8>, limit: usize) -> Vec<u8> {
    if message.len() <= limit {
        return message;
    }
    let truncated = Message::from_vec(&message).ok();
    let truncated = truncated.and_then(|message| message.truncate().to_vec().ok());
    match truncated {
        Some(truncated) if truncated.len() <= limit => truncated,
        // Only a server that sent more than it was asked for.
        _ => message,
    }
}
