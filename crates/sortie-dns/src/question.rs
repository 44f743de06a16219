//! A client's message: what is looked at, what is passed on unread, what is refused.

#[cfg(test)]
mod tests;

use crate::name::DnsName;
use crate::refusal::{self, Code};
use crate::wire::{self, HEADER, Header, class, flag, kind};

/// Largest answer over UDP for a client that says nothing else (RFC 1035 §4.2.1), in bytes.
const PLAIN_LIMIT: u16 = 512;

/// What becomes of a client's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// One question, to be decided by its name.
    Query(Query),
    /// No lookup of an address: an update, a notification, a class that is not the internet's. Goes
    /// to the server as it is, and so does its answer.
    Opaque,
    /// A zone's transfer: many messages answer it. Over TCP the connection is from then on passed
    /// through.
    Transfer,
    /// Cannot be read. This answers it: FORMERR, as every server would.
    Malformed(Vec<u8>),
    /// No question at all. Nothing answers it.
    Ignored,
}

/// A lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The client's number for it.
    pub id: u16,
    /// The name as it was asked: after the client's search list, before any alias.
    pub name: DnsName,
    /// The type asked for.
    pub kind: u16,
    /// The class: the internet's, or any.
    pub(crate) class: u16,
    /// The header's second word.
    pub(crate) flags: u16,
    /// The question's bytes, as the client wrote them: some tell answers by the letters' case.
    pub(crate) question: Box<[u8]>,
    /// What the client says by EDNS (RFC 6891), where it uses it.
    pub(crate) edns: Option<Edns>,
}

/// What a client says by EDNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Edns {
    /// Largest answer that it takes over UDP, in bytes.
    pub(crate) size: u16,
    /// It wants signatures.
    pub(crate) dnssec: bool,
    /// It says more than that: the answer may be for this client alone.
    pub(crate) options: bool,
}

/// Judges a message, in this order:
///
/// 1. Shorter than a header, or an answer: ignored.
/// 2. Another operation than a query, or no question (RFC 7873 §5.4): opaque.
/// 3. Several questions (RFC 9619), a name or records that cannot be read, EDNS twice: malformed.
/// 4. Another class: opaque. A transfer of a zone: transfer.
/// 5. Else a query. Bytes behind its records are left to the server.
pub fn judge(message: &[u8]) -> Judged {
    let Some(header) = Header::read(message) else {
        return Judged::Ignored;
    };
    if header.has(flag::RESPONSE) {
        return Judged::Ignored;
    }
    if header.has(flag::OPCODE) || header.questions == 0 {
        return Judged::Opaque;
    }
    let Some(query) = read(message, header) else {
        return Judged::Malformed(refusal::malformed(header));
    };
    if !matches!(query.class, class::IN | class::ANY) {
        return Judged::Opaque;
    }
    match query.kind {
        kind::AXFR | kind::IXFR => Judged::Transfer,
        _ => Judged::Query(query),
    }
}

fn read(message: &[u8], header: Header) -> Option<Query> {
    if header.questions != 1 {
        return None;
    }
    let (name, at) = wire::plain_name(message, HEADER)?;
    let (kind, class) = (wire::be16(message, at)?, wire::be16(message, at + 2)?);
    let question = message.get(HEADER..at + 4)?;
    let mut edns = None;
    for place in wire::places(message, header, at + 4)? {
        if place.kind == kind::OPT {
            let read = Edns {
                size: place.class,
                dnssec: place.ttl & 0x8000 != 0,
                options: !place.rdata.is_empty(),
            };
            if edns.replace(read).is_some() {
                return None;
            }
        }
    }
    Some(Query {
        id: header.id,
        name,
        kind,
        class,
        flags: header.flags,
        question: question.into(),
        edns,
    })
}

impl Query {
    /// The name that policies are asked about: the host's, also when records of one of its ports
    /// are looked up.
    pub fn host(&self) -> DnsName {
        match self.kind {
            kind::HTTPS => self.name.without_https_port(),
            _ => self.name.clone(),
        }
    }

    /// Whether the answer may tell addresses that the client will then call. Glue beside other
    /// answers is for servers.
    pub fn asks_addresses(&self) -> bool {
        matches!(
            self.kind,
            kind::A | kind::AAAA | kind::SVCB | kind::HTTPS | kind::ANY
        )
    }

    /// The largest answer that the client takes over UDP, in bytes (RFC 6891 §6.2.5).
    pub fn udp_limit(&self) -> usize {
        self.edns
            .map_or(PLAIN_LIMIT, |edns| edns.size.max(PLAIN_LIMIT))
            .into()
    }

    /// Whether a message from the server is this query's answer: number, question, and that it is
    /// an answer. Servers that cannot read a query may leave the question out of their error.
    pub fn is_answered_by(&self, id: u16, message: &[u8]) -> bool {
        let Some(header) = Header::read(message) else {
            return false;
        };
        let same = match header.questions {
            0 => header.rcode() != 0,
            1 => wire::plain_name(message, HEADER).is_some_and(|(name, at)| {
                name == self.name
                    && wire::be16(message, at) == Some(self.kind)
                    && wire::be16(message, at + 2) == Some(self.class)
            }),
            _ => false,
        };
        same && header.id == id && header.has(flag::RESPONSE) && !header.has(flag::OPCODE)
    }

    /// An answer without records.
    pub fn refuse(&self, code: Code, why: Option<&str>) -> Vec<u8> {
        refusal::of(self, code, why)
    }
}
