//! Reads netlink messages and attributes out of untrusted bytes, without ever panicking.

use super::align;
use crate::uapi::nl::{GENMSG_LEN, HEADER_LEN, NLA_TYPE_MASK};

/// Bytes that are not what the format says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub(crate) &'static str);

/// One netlink message: its header's fields and what follows the header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) seq: u32,
    /// Whom it answers; in a notification, the port id of the socket that made the change.
    pub(crate) port: u32,
    pub(crate) payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The `nfgenmsg` family and resource id, and the attributes behind it.
    pub(crate) fn body(&self) -> Result<(u8, u16, &'a [u8]), Malformed> {
        match self.payload {
            [family, _version, hi, lo, rest @ ..] => {
                Ok((*family, u16::from_be_bytes([*hi, *lo]), rest))
            }
            _ => Err(Malformed("a message shorter than its nfgenmsg")),
        }
    }

    /// Bytes before the attributes, counted from the start of the message.
    pub(crate) const ATTRS_AT: usize = HEADER_LEN + GENMSG_LEN;
}

/// One attribute: its type without flags, and its payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attr<'a> {
    pub(crate) kind: u16,
    pub(crate) data: &'a [u8],
}

impl<'a> Attr<'a> {
    pub(crate) fn u8(&self) -> Result<u8, Malformed> {
        self.data
            .first()
            .copied()
            .ok_or(Malformed("an 8-bit attribute without a byte"))
    }

    pub(crate) fn be16(&self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn be32(&self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn be64(&self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// A host-endian 32-bit number (the extended ack's fields).
    pub(crate) fn ne32(&self) -> Result<u32, Malformed> {
        self.array().map(u32::from_ne_bytes)
    }

    /// A string up to its first NUL; bytes that are not UTF-8 become U+FFFD.
    pub(crate) fn string(&self) -> String {
        let end = self.data.iter().position(|&byte| byte == 0);
        String::from_utf8_lossy(
            self.data
                .get(..end.unwrap_or(self.data.len()))
                .unwrap_or(&[]),
        )
        .into_owned()
    }

    pub(crate) fn array<const N: usize>(&self) -> Result<[u8; N], Malformed> {
        self.data
            .first_chunk::<N>()
            .copied()
            .ok_or(Malformed("an attribute shorter than its number"))
    }

    pub(crate) fn nested(&self) -> Attrs<'a> {
        attrs(self.data)
    }
}

/// Walks the messages of one datagram.
pub(crate) fn messages(datagram: &[u8]) -> Messages<'_> {
    Messages { rest: datagram }
}

#[derive(Debug, Clone)]
pub(crate) struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let whole = std::mem::take(&mut self.rest);
        let Some(header) = whole.first_chunk::<HEADER_LEN>() else {
            return Some(Err(Malformed("a message shorter than its header")));
        };
        let word = |at: usize| {
            u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let len = word(0) as usize;
        let Some(payload) = whole.get(HEADER_LEN..len) else {
            return Some(Err(Malformed("a message longer than its datagram")));
        };
        self.rest = whole.get(align(len)..).unwrap_or(&[]);
        Some(Ok(Message {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            seq: word(8),
            port: word(12),
            payload,
        }))
    }
}

/// Walks a run of attributes.
pub(crate) fn attrs(bytes: &[u8]) -> Attrs<'_> {
    Attrs { rest: bytes, at: 0 }
}

#[derive(Debug, Clone)]
pub(crate) struct Attrs<'a> {
    rest: &'a [u8],
    at: usize,
}

impl Attrs<'_> {
    /// Offset of the next attribute from the start of the run.
    pub(crate) fn offset(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = Result<Attr<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let whole = std::mem::take(&mut self.rest);
        let Some(&[l0, l1, k0, k1]) = whole.first_chunk::<4>() else {
            return Some(Err(Malformed("an attribute shorter than its header")));
        };
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let Some(data) = whole.get(4..len) else {
            return Some(Err(Malformed("an attribute longer than its message")));
        };
        self.rest = whole.get(align(len)..).unwrap_or(&[]);
        self.at += align(len);
        Some(Ok(Attr {
            kind: u16::from_ne_bytes([k0, k1]) & NLA_TYPE_MASK,
            data,
        }))
    }
}
