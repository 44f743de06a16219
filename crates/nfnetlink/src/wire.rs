//! The netlink wire format: messages, attributes, and nothing of what they mean.

mod reader;
mod writer;

pub use reader::Malformed;
pub(crate) use reader::{Attr, Message, attrs, messages};
pub(crate) use writer::{Mark, Writer};

/// Netlink pads messages and attributes to this many bytes (`NLMSG_ALIGNTO`).
pub(crate) const ALIGN: usize = 4;

/// Rounds a length up to the netlink alignment.
pub(crate) const fn align(len: usize) -> usize {
    len.next_multiple_of(ALIGN)
}

#[cfg(test)]
mod tests;
