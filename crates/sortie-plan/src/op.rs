//! The steps from one state of the host to another.

use std::net::IpAddr;

use crate::nft::key::Key;
use crate::nft::set::{Data, Set};
use crate::nft::{Chain, Family, Name};
use crate::state::{ProxyNeighbour, Route, RoutingRule, Sysctl};

/// One step. Doing it twice does no harm, and each has an inverse. Neighbouring [`Op::Nft`] steps
/// are one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A change of our nftables tables.
    Nft(Family, NftOp),
    /// Ends the tracked flows that a source started, so that what comes next is decided anew.
    ForgetFlows {
        /// The workload's own address.
        source: IpAddr,
        /// Flows already translated to this address stay.
        keep: Option<IpAddr>,
    },
    /// Adds or replaces.
    AddRoute(Route),
    /// Removes, if it is there.
    DeleteRoute(Route),
    /// Adds.
    AddRule(RoutingRule),
    /// Removes, if it is there.
    DeleteRule(RoutingRule),
    /// Adds.
    AddNeighbour(ProxyNeighbour),
    /// Removes, if it is there.
    DeleteNeighbour(ProxyNeighbour),
    /// Sets, keeping the value that was there before us.
    SetSysctl(Sysctl, String),
    /// Puts back the value that was there before us.
    RestoreSysctl(Sysctl),
    /// Lets an interface's packets through other programs' forward chains.
    AddForwarded(String),
    /// Takes that back.
    DeleteForwarded(String),
}

/// A change in one table named `sortie`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NftOp {
    /// Makes the table with this tag as its comment.
    AddTable(String),
    /// Removes the table with all that is in it.
    DeleteTable,
    /// Makes a named counter.
    AddCounter(Name),
    /// Makes a set without elements (those in it are ignored).
    AddSet(Name, Set),
    /// Removes a set with its elements.
    DeleteSet(Name),
    /// Makes a chain without rules, so that others can name it.
    AddChain(Name, Chain),
    /// Fills a chain that was made in the same transaction.
    AddRules(Name, Chain),
    /// Empties a chain, so that what its rules name can go.
    FlushChain(Name),
    /// Removes an empty chain.
    DeleteChain(Name),
    /// Adds elements; those that are there already must be equal.
    AddElements(Name, Vec<(Key, Data)>),
    /// Removes elements.
    DeleteElements(Name, Vec<(Key, Data)>),
}
