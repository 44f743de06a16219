//! Writes netlink messages and attributes into one growing buffer.

use super::align;
use crate::uapi::nl::{GENMSG_LEN, HEADER_LEN, NFNETLINK_V0, NLA_F_NESTED};

/// Where a message or a nested attribute starts, to be closed later.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark(usize);

/// A buffer of netlink messages.
///
/// Lengths that do not fit their field are remembered in [`Writer::overflow`] instead
/// of failing each call: the sender checks once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Writer {
    buf: Vec<u8>,
    overflow: bool,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self {
            buf: Vec::with_capacity(bytes),
            overflow: false,
        }
    }

    /// Appends whole messages.
    pub(crate) fn append(&mut self, other: &Self) {
        self.buf.extend_from_slice(&other.buf);
        self.overflow |= other.overflow;
    }

    /// Sets the sequence number of the message that starts at `at`.
    pub(crate) fn set_sequence(&mut self, at: usize, seq: u32) {
        self.patch(at + 8, &seq.to_ne_bytes());
    }

    /// Adds flags to the message that starts at `at`.
    pub(crate) fn add_flags(&mut self, at: usize, flags: u16) {
        let old = self
            .buf
            .get(at + 6..)
            .and_then(|rest| rest.first_chunk::<2>());
        if let Some(old) = old {
            let new = u16::from_ne_bytes(*old) | flags;
            self.patch(at + 6, &new.to_ne_bytes());
        }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.buf
    }

    pub(crate) fn len(&self) -> usize {
        self.buf.len()
    }

    /// Whether some attribute outgrew its 16-bit length.
    pub(crate) fn overflow(&self) -> bool {
        self.overflow
    }

    /// Opens a message with its `nlmsghdr` and `nfgenmsg`.
    pub(crate) fn begin_message(
        &mut self,
        kind: u16,
        flags: u16,
        seq: u32,
        family: u8,
        res_id: u16,
    ) -> Mark {
        let mark = Mark(self.buf.len());
        self.buf.extend_from_slice(&0_u32.to_ne_bytes());
        self.buf.extend_from_slice(&kind.to_ne_bytes());
        self.buf.extend_from_slice(&flags.to_ne_bytes());
        self.buf.extend_from_slice(&seq.to_ne_bytes());
        self.buf.extend_from_slice(&0_u32.to_ne_bytes());
        self.buf.push(family);
        self.buf.push(NFNETLINK_V0);
        self.buf.extend_from_slice(&res_id.to_be_bytes());
        debug_assert_eq!(self.buf.len() - mark.0, HEADER_LEN + GENMSG_LEN);
        mark
    }

    /// Closes a message: fills in its length.
    pub(crate) fn end_message(&mut self, mark: Mark) {
        match u32::try_from(self.buf.len() - mark.0) {
            Ok(len) => self.patch(mark.0, &len.to_ne_bytes()),
            Err(_) => self.overflow = true,
        }
    }

    /// Opens a nested attribute.
    pub(crate) fn begin_nest(&mut self, kind: u16) -> Mark {
        let mark = Mark(self.buf.len());
        self.buf.extend_from_slice(&0_u16.to_ne_bytes());
        self.buf
            .extend_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
        mark
    }

    /// Closes a nested attribute: fills in its length.
    pub(crate) fn end_nest(&mut self, mark: Mark) {
        match u16::try_from(self.buf.len() - mark.0) {
            Ok(len) => self.patch(mark.0, &len.to_ne_bytes()),
            Err(_) => self.overflow = true,
        }
    }

    /// Bytes written since `mark`.
    pub(crate) fn since(&self, mark: Mark) -> usize {
        self.buf.len() - mark.0
    }

    /// Writes a nested attribute whose content `fill` writes.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let mark = self.begin_nest(kind);
        fill(self);
        self.end_nest(mark);
    }

    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let Ok(len) = u16::try_from(value.len() + 4) else {
            self.overflow = true;
            return;
        };
        self.buf.extend_from_slice(&len.to_ne_bytes());
        self.buf.extend_from_slice(&kind.to_ne_bytes());
        self.buf.extend_from_slice(value);
        self.buf.resize(align(self.buf.len()), 0);
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    pub(crate) fn be16(&mut self, kind: u16, value: u16) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(crate) fn be64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A string with its terminating NUL, as `nf_tables` wants it.
    pub(crate) fn str(&mut self, kind: u16, value: &str) {
        let Ok(len) = u16::try_from(value.len() + 5) else {
            self.overflow = true;
            return;
        };
        self.buf.extend_from_slice(&len.to_ne_bytes());
        self.buf.extend_from_slice(&kind.to_ne_bytes());
        self.buf.extend_from_slice(value.as_bytes());
        self.buf.push(0);
        self.buf.resize(align(self.buf.len()), 0);
    }

    fn patch(&mut self, at: usize, value: &[u8]) {
        if let Some(place) = self.buf.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    }
}
