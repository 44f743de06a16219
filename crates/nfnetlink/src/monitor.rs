//! Changes of the ruleset, as they are committed.

use crate::chain::Chain;
use crate::elem::{Element, ElementList};
use crate::generation::Generation;
use crate::listen::Listener;
use crate::obj::NamedCounter;
use crate::rule::Rule;
use crate::set::Set;
use crate::socket::Reply;
use crate::table::Table;
use crate::uapi::nft::{
    NFT_MSG_DELCHAIN, NFT_MSG_DELOBJ, NFT_MSG_DELRULE, NFT_MSG_DELSET, NFT_MSG_DELSETELEM,
    NFT_MSG_DELTABLE, NFT_MSG_NEWCHAIN, NFT_MSG_NEWGEN, NFT_MSG_NEWOBJ, NFT_MSG_NEWRULE,
    NFT_MSG_NEWSET, NFT_MSG_NEWSETELEM, NFT_MSG_NEWTABLE, NFTA_TABLE_NAME,
};
use crate::uapi::nl::{NFNL_SUBSYS_NFTABLES, NFNLGRP_NFTABLES};
use crate::wire::{Malformed, Message, attrs};
use crate::{Error, Family};

/// A change of the ruleset, anybody's. A transaction's changes come in order and end with
/// [`Event::Generation`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A table was added or changed.
    NewTable(Table),
    /// A table was deleted.
    DelTable(Table),
    /// A chain was added or changed.
    NewChain(Chain),
    /// A chain was deleted.
    DelChain(Chain),
    /// A rule was added.
    NewRule(Rule),
    /// A rule was deleted.
    DelRule(Rule),
    /// A set was added.
    NewSet(Box<Set>),
    /// A set was deleted.
    DelSet(Box<Set>),
    /// Elements were added.
    NewElements(Elements),
    /// Elements were deleted, or expired.
    DelElements(Elements),
    /// A named counter was added.
    NewCounter(NamedCounter),
    /// A named counter was deleted.
    DelCounter(NamedCounter),
    /// The end of a transaction: the new generation, and who made it.
    Generation(Generation),
    /// Something else, by its message type within `nf_tables`.
    Other(u16),
}

/// Elements of one set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elements {
    /// The table's family.
    pub family: Family,
    /// The table.
    pub table: String,
    /// The set.
    pub set: String,
    /// The elements.
    pub elements: Vec<Element>,
}

impl Elements {
    fn decode(reply: Reply<'_>) -> Result<Self, Malformed> {
        let list = ElementList::decode(reply)?;
        Ok(Self {
            family: reply.family,
            table: list.table,
            set: list.set,
            elements: list.elements,
        })
    }
}

/// Listens for changes of the calling thread's namespace's ruleset.
pub fn listen() -> Result<Listener<Event>, Error> {
    Listener::new("a ruleset event", &[NFNLGRP_NFTABLES], decode)
}

/// That a transaction changed a table, without what: cheap where many elements come and go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// The netlink port id of the socket whose transaction it is.
    pub port: u32,
    /// Once for each thing changed in it; none at the end of the transaction.
    pub table: Option<(Family, String)>,
}

/// Listens for who changes which tables of the calling thread's namespace.
pub fn listen_to_touches() -> Result<Listener<Touch>, Error> {
    Listener::new("a ruleset event", &[NFNLGRP_NFTABLES], touch)
}

fn touch(message: &Message<'_>) -> Result<Option<Touch>, Malformed> {
    if message.kind >> 8 != NFNL_SUBSYS_NFTABLES {
        return Ok(None);
    }
    let port = message.port;
    if message.kind & 0xff == NFT_MSG_NEWGEN {
        return Ok(Some(Touch { port, table: None }));
    }
    let reply = Reply::from_message(message)?;
    for attr in attrs(reply.attrs) {
        let attr = attr?;
        // Every object names its table in its first attribute: NFTA_CHAIN_TABLE and so on.
        if attr.kind == NFTA_TABLE_NAME {
            let table = Some((reply.family, attr.string()));
            return Ok(Some(Touch { port, table }));
        }
    }
    Ok(None)
}

pub(crate) fn decode(message: &Message<'_>) -> Result<Option<Event>, Malformed> {
    if message.kind >> 8 != NFNL_SUBSYS_NFTABLES {
        return Ok(None);
    }
    let reply = Reply::from_message(message)?;
    Ok(Some(match message.kind & 0xff {
        NFT_MSG_NEWTABLE => Event::NewTable(Table::decode(reply)?),
        NFT_MSG_DELTABLE => Event::DelTable(Table::decode(reply)?),
        NFT_MSG_NEWCHAIN => Event::NewChain(Chain::decode(reply)?),
        NFT_MSG_DELCHAIN => Event::DelChain(Chain::decode(reply)?),
        NFT_MSG_NEWRULE => Event::NewRule(Rule::decode(reply)?),
        NFT_MSG_DELRULE => Event::DelRule(Rule::decode(reply)?),
        NFT_MSG_NEWSET => Event::NewSet(Box::new(Set::decode(reply)?)),
        NFT_MSG_DELSET => Event::DelSet(Box::new(Set::decode(reply)?)),
        NFT_MSG_NEWSETELEM => Event::NewElements(Elements::decode(reply)?),
        NFT_MSG_DELSETELEM => Event::DelElements(Elements::decode(reply)?),
        kind @ (NFT_MSG_NEWOBJ | NFT_MSG_DELOBJ) => match NamedCounter::decode(reply)? {
            None => Event::Other(kind),
            Some(counter) if kind == NFT_MSG_NEWOBJ => Event::NewCounter(counter),
            Some(counter) => Event::DelCounter(counter),
        },
        NFT_MSG_NEWGEN => Event::Generation(Generation::decode(reply)?),
        other => Event::Other(other),
    }))
}
