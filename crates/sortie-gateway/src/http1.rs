//! A strict HTTP/1 codec (RFC 9110, RFC 9112) over `httparse`: bytes in, an answer out. Pure.
//!
//! - [`request`]: the head of a request, what it asks for, and the head that is forwarded.
//! - [`response`]: the head of a response.
//! - [`chunked`]: where a chunked body ends.
//! - [`path`]: the one spelling of a path that policies see and the origin gets.
//!
//! Whatever two programs could read in two ways is refused, never repaired: the gateway decides by
//! what it reads, so the origin must read the same. What is forwarded are the very bytes that came,
//! in their order, without the fields that are for one connection only.

use std::fmt;

pub mod authority;
pub mod chunked;
mod field;
pub mod path;
pub mod request;
pub mod response;
mod scan;

pub use field::FieldSpace;
pub(crate) use field::{is_hop_by_hop, tokens};

/// The most field lines a head may have.
pub const MAX_FIELDS: usize = 100;

/// What the bytes so far are.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<T> {
    /// The head has not ended yet; nothing in it is wrong so far.
    Incomplete,
    /// A head.
    Head(T),
    /// It will not be forwarded.
    Refused(Refused),
}

/// Why a message is not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The status for the client, when it was the client's message.
    pub status: u16,
    /// What is wrong, for a person.
    pub reason: &'static str,
}

impl Refused {
    /// A message that cannot be read in one way only.
    pub(crate) const fn bad(reason: &'static str) -> Self {
        Self {
            status: 400,
            reason,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason)
    }
}

impl std::error::Error for Refused {}

/// How the end of a message's body is known (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks, and perhaps trailers.
    Chunked,
    /// All until the connection ends. Responses only.
    UntilClose,
}

/// The version of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// A head's reader gives up at this size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head, the empty line at its end included.
    pub head: usize,
}

impl Default for Limits {
    /// 32 KiB.
    fn default() -> Self {
        Self { head: 32 * 1024 }
    }
}
