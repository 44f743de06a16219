//! The wire format (RFC 1035 §4.1) as far as it is read in place: header, names, where records are.

#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::name::DnsName;

/// The header's length in bytes.
pub(crate) const HEADER: usize = 12;

/// Types of records and questions (IANA, "Domain Name System Parameters").
pub(crate) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const SOA: u16 = 6;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const SVCB: u16 = 64;
    pub(crate) const HTTPS: u16 = 65;
    pub(crate) const IXFR: u16 = 251;
    pub(crate) const AXFR: u16 = 252;
    pub(crate) const ANY: u16 = 255;
}

/// Classes.
pub(crate) mod class {
    pub(crate) const IN: u16 = 1;
    pub(crate) const ANY: u16 = 255;
}

/// Bits of the header's second word.
pub(crate) mod flag {
    pub(crate) const RESPONSE: u16 = 0x8000;
    pub(crate) const OPCODE: u16 = 0x7800;
    pub(crate) const TRUNCATED: u16 = 0x0200;
    pub(crate) const RECURSION_DESIRED: u16 = 0x0100;
    pub(crate) const RECURSION_AVAILABLE: u16 = 0x0080;
    pub(crate) const CHECKING_DISABLED: u16 = 0x0010;
    pub(crate) const RCODE: u16 = 0x000f;
}

/// A message's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: u16,
    pub(crate) flags: u16,
    pub(crate) questions: u16,
    /// Records of the sections answer, authority, additional.
    pub(crate) records: [u16; 3],
}

impl Header {
    pub(crate) fn read(message: &[u8]) -> Option<Self> {
        Some(Self {
            id: be16(message, 0)?,
            flags: be16(message, 2)?,
            questions: be16(message, 4)?,
            records: [be16(message, 6)?, be16(message, 8)?, be16(message, 10)?],
        })
    }

    pub(crate) fn has(self, bits: u16) -> bool {
        self.flags & bits != 0
    }

    /// The lower four bits of the response code.
    pub(crate) fn rcode(self) -> u16 {
        self.flags & flag::RCODE
    }
}

/// A record of which nothing was decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// 0 for answers, 1 for authority, 2 for additional.
    pub(crate) section: usize,
    pub(crate) kind: u16,
    pub(crate) class: u16,
    /// In seconds; in OPT flags of EDNS.
    pub(crate) ttl: u32,
    /// Where the TTL's four bytes are.
    pub(crate) ttl_at: usize,
    pub(crate) rdata: Range<usize>,
}

/// Where all records are; none when the message ends before they do.
pub(crate) fn places(message: &[u8], header: Header, from: usize) -> Option<Vec<Place>> {
    let mut at = from;
    // Each takes eleven bytes or more: a count that lies ends with the message.
    let mut places = Vec::new();
    for (section, count) in header.records.into_iter().enumerate() {
        for _ in 0..count {
            let fixed = skip_name(message, at)?;
            let rdata = fixed.checked_add(10)?;
            let end = rdata.checked_add(be16(message, fixed + 8)?.into())?;
            if end > message.len() {
                return None;
            }
            places.push(Place {
                section,
                kind: be16(message, fixed)?,
                class: be16(message, fixed + 2)?,
                ttl: be32(message, fixed + 4)?,
                ttl_at: fixed + 4,
                rdata: rdata..end,
            });
            at = end;
        }
    }
    Some(places)
}

/// A name without compression, as in a question, and where it ends.
pub(crate) fn plain_name(message: &[u8], from: usize) -> Option<(DnsName, usize)> {
    let mut labels = Vec::new();
    let mut at = from;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        // 255 bytes in all (RFC 1035 §2.3.4), the closing zero included.
        if length > 63 || at + length - from > 255 {
            return None;
        }
        if length == 0 {
            return Some((DnsName::of_labels(&labels), at));
        }
        labels.push(message.get(at..at + length)?);
        at += length;
    }
}

/// Where a name ends that may be compressed.
pub(crate) fn skip_name(message: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let length = *message.get(at)?;
        at += 1;
        match length {
            0 => return Some(at),
            1..=63 => at += usize::from(length),
            // A pointer ends a name; what it points to is not looked at.
            0xc0.. => return (at < message.len()).then_some(at + 1),
            _ => return None,
        }
    }
}

pub(crate) fn be16(message: &[u8], at: usize) -> Option<u16> {
    let bytes = message.get(at..)?.first_chunk()?;
    Some(u16::from_be_bytes(*bytes))
}

pub(crate) fn be32(message: &[u8], at: usize) -> Option<u32> {
    let bytes = message.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}

/// Puts bytes into a message that is long enough for them.
pub(crate) fn put(message: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = message.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}
