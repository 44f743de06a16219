//! Answers of our own, without records, and what they say beside the code (RFC 8914).

#[cfg(test)]
mod tests;

use crate::question::Query;
use crate::wire::{Header, flag, kind};

/// What the client can send us in one datagram, in bytes (DNS flag day 2020).
const OUR_SIZE: u16 = 1232;
/// The EDNS option "extended error".
const EXTENDED_ERROR: u16 = 15;
/// Longest text beside a code, in bytes: an answer without records stays below 512.
const TEXT_MAX: usize = 160;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// No policy of the workload names this host, and it may ask for no other: REFUSED.
    NotOneOfThese,
    /// The addresses could not be put into the kernel: SERVFAIL.
    NotLearned,
    /// The server's answer cannot be read, so its addresses cannot be learned: SERVFAIL.
    BadAnswer,
    /// The server cannot be reached: SERVFAIL, so that the client goes on to its next server at once.
    Unreachable,
}

impl Code {
    /// The response code, and the extended one.
    fn numbers(self) -> (u16, u16) {
        const SERVFAIL: u16 = 2;
        const REFUSED: u16 = 5;
        match self {
            Self::NotOneOfThese => (REFUSED, 15), // blocked
            Self::NotLearned => (SERVFAIL, 0),    // other
            Self::BadAnswer => (SERVFAIL, 24),    // invalid data
            Self::Unreachable => (SERVFAIL, 23),  // network error
        }
    }
}

/// An answer without records. The text goes to clients that use EDNS.
pub(crate) fn of(query: &Query, code: Code, why: Option<&str>) -> Vec<u8> {
    let (rcode, extended) = code.numbers();
    let flags = echoed(query.flags) | rcode;
    let additional = u16::from(query.edns.is_some());
    let mut message = Vec::with_capacity(512);
    for word in [query.id, flags, 1, 0, 0, additional] {
        message.extend(word.to_be_bytes());
    }
    message.extend(&*query.question);
    if let Some(edns) = query.edns {
        let text = cut(why.unwrap_or_default()).as_bytes();
        // At most TEXT_MAX.
        let length = u16::try_from(text.len()).unwrap_or_default() + 2;
        message.push(0);
        message.extend(kind::OPT.to_be_bytes());
        message.extend(OUR_SIZE.to_be_bytes());
        message.extend((u32::from(edns.dnssec) << 15).to_be_bytes());
        for word in [length + 4, EXTENDED_ERROR, length, extended] {
            message.extend(word.to_be_bytes());
        }
        message.extend(text);
    }
    message
}

/// FORMERR, without the question that could not be read.
pub(crate) fn malformed(header: Header) -> Vec<u8> {
    const FORMERR: u16 = 1;
    let flags = echoed(header.flags) | FORMERR;
    let words = [header.id, flags, 0, 0, 0, 0];
    words.into_iter().flat_map(u16::to_be_bytes).collect()
}

/// What an answer repeats of a query's flags.
fn echoed(flags: u16) -> u16 {
    flag::RESPONSE
        | flag::RECURSION_AVAILABLE
        | flags & (flag::OPCODE | flag::RECURSION_DESIRED | flag::CHECKING_DISABLED)
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
