//! Connections that begin, change and end.

use super::Conntrack;
use crate::Error;
use crate::listen::Listener;
use crate::uapi::bit_flags;
use crate::uapi::ct::{IPCTNL_MSG_CT_DELETE, IPCTNL_MSG_CT_NEW};
use crate::uapi::nl::{NFNL_SUBSYS_CTNETLINK, NLM_F_CREATE};
use crate::wire::{Malformed, Message};

bit_flags! {
    /// Which events (`NFNLGRP_CONNTRACK_*`).
    pub Groups: u32 {
        /// Connections that begin.
        NEW = 1;
        /// Connections that change.
        UPDATE = 2;
        /// Connections that end.
        DESTROY = 4;
    }
}

/// Something that happened to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It began: its first packet has left, translated.
    New(Conntrack),
    /// It changed: status, mark, state.
    Update(Conntrack),
    /// It ended. Counters are complete, where they are on.
    Destroy(Conntrack),
}

/// Listens for events of the calling thread's namespace. Connections that exist already
/// make none: list them after subscribing.
pub fn listen(groups: Groups) -> Result<Listener<Event>, Error> {
    let all = [(Groups::NEW, 1), (Groups::UPDATE, 2), (Groups::DESTROY, 3)];
    let wanted: Vec<u32> = all
        .into_iter()
        .filter_map(|(group, number)| groups.contains(group).then_some(number))
        .collect();
    Listener::new("a conntrack event", &wanted, decode)
}

pub(crate) fn decode(message: &Message<'_>) -> Result<Option<Event>, Malformed> {
    if message.kind >> 8 != NFNL_SUBSYS_CTNETLINK {
        return Ok(None);
    }
    let (_, _, attributes) = message.body()?;
    let entry = || Conntrack::decode(attributes);
    Ok(match message.kind & 0xff {
        IPCTNL_MSG_CT_NEW if message.flags & NLM_F_CREATE != 0 => Some(Event::New(entry()?)),
        IPCTNL_MSG_CT_NEW => Some(Event::Update(entry()?)),
        IPCTNL_MSG_CT_DELETE => Some(Event::Destroy(entry()?)),
        _ => None,
    })
}
