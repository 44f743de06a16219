//! Decodes whole datagrams of any kind, such as an `nlmon` device captures.

use crate::socket::Ack;
use crate::uapi::nl::{NFNL_SUBSYS_CTNETLINK, NFNL_SUBSYS_NFTABLES, NFNL_SUBSYS_ULOG, NLMSG_ERROR};
use crate::wire::{Malformed, Message, messages};
use crate::{conntrack, log, monitor};

/// A message that the kernel sends.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decoded {
    /// Of `nf_tables`.
    Ruleset(monitor::Event),
    /// Of connection tracking.
    Conntrack(conntrack::Event),
    /// A logged packet.
    Packet(Box<log::Packet>),
    /// An acknowledgement: 0, or the error number of a refusal, and what is said of it.
    Ack(i32, Option<String>),
    /// Something else, by its message type.
    Other(u16),
}

/// Decodes a datagram's messages. After an error the rest of the datagram is given up
/// where its messages cannot be told apart.
pub fn decode(datagram: &[u8]) -> impl Iterator<Item = Result<Decoded, Malformed>> {
    messages(datagram).map(|message| one(&message?))
}

fn one(message: &Message<'_>) -> Result<Decoded, Malformed> {
    let known = match message.kind >> 8 {
        NFNL_SUBSYS_NFTABLES => monitor::decode(message)?.map(Decoded::Ruleset),
        NFNL_SUBSYS_CTNETLINK => conntrack::decode(message)?.map(Decoded::Conntrack),
        NFNL_SUBSYS_ULOG => log::decode(message)?.map(|packet| Decoded::Packet(Box::new(packet))),
        _ if message.kind == NLMSG_ERROR => {
            let ack = Ack::decode(message, false)?;
            Some(Decoded::Ack(ack.errno, ack.text))
        }
        _ => None,
    };
    Ok(known.unwrap_or(Decoded::Other(message.kind)))
}

#[cfg(test)]
mod tests;
