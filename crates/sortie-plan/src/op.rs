//! The steps from one state of the host to another.

use std::fmt;
use std::net::IpAddr;

use crate::compile::base;
use crate::flow::{Keep, Source};
use crate::nft::key::Key;
use crate::nft::set::{Data, Set};
use crate::nft::{Chain, Family, Name, text};
use crate::redirect::Redirect;
use crate::state::{OwnAddress, ProxyNeighbour, Route, RoutingRule, Sysctl};

/// One step. Doing it twice does no harm, and each has an inverse. Neighbouring [`Op::Nft`] steps
/// are one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A change of our nftables tables.
    Nft(Family, NftOp),
    /// Ends the tracked flows that a source started, so that what comes next is decided anew.
    ForgetFlows {
        /// Whose flows.
        source: Source,
        /// Only those translated to this address.
        translated: Option<IpAddr>,
        /// Of these, those that stay.
        keep: Keep,
    },
    /// Drops what waits for the link address of a next hop on this interface: it has passed the
    /// rules as they were before.
    DropWaiting(String),
    /// Waits until every packet that was on its way has been decided.
    LetPass,
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
    /// Gives a workload an address of its own, and its default routes that source.
    AddOwn(OwnAddress),
    /// Takes it back, if its namespace is still there.
    DeleteOwn(OwnAddress),
    /// Leads the lookups and connections of the workload with this process to the resolver and the
    /// gateway, instead of whatever led them before.
    AddRedirect(u32, Redirect),
    /// Takes that back, if its namespace is still there.
    DeleteRedirect(u32),
    /// Changes what is not led to the gateway in the namespace of this process.
    ChangeDirect {
        /// The process.
        pid: u32,
        /// Addresses that are not led there any more.
        come: Vec<IpAddr>,
        /// Addresses that are again.
        gone: Vec<IpAddr>,
    },
    /// Tells the neighbours of an interface that it answers for an address.
    Announce(ProxyNeighbour),
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

/// The steps as people would write them; the rules of a chain are left to its name.
pub fn describe(ops: &[Op]) -> Vec<String> {
    ops.iter()
        .filter(|op| !matches!(op, Op::Nft(_, NftOp::AddRules(..) | NftOp::FlushChain(_))))
        .map(ToString::to_string)
        .collect()
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nft(family, op) => nft(f, *family, op),
            Self::ForgetFlows {
                source,
                translated,
                keep,
            } => {
                write!(f, "conntrack -D {source}")?;
                if let Some(translated) = translated {
                    write!(f, " -q {translated}")?;
                }
                keep.fmt(f)
            }
            Self::DropWaiting(device) => write!(f, "ip neigh flush dev {device} nud incomplete"),
            Self::LetPass => f.write_str("wait until packets on their way have been decided"),
            Self::AddRoute(route) => write!(f, "ip route replace {route}"),
            Self::DeleteRoute(route) => write!(f, "ip route del {route}"),
            Self::AddRule(rule) => write!(f, "ip rule add {rule}"),
            Self::DeleteRule(rule) => write!(f, "ip rule del {rule}"),
            Self::AddNeighbour(entry) => write!(
                f,
                "ip neigh add proxy {} dev {}",
                entry.address, entry.device
            ),
            Self::DeleteNeighbour(entry) => write!(
                f,
                "ip neigh del proxy {} dev {}",
                entry.address, entry.device
            ),
            Self::SetSysctl(sysctl, value) => write!(f, "sysctl {}={value}", sysctl.0),
            Self::RestoreSysctl(sysctl) => {
                write!(f, "sysctl {}: back to its former value", sysctl.0)
            }
            Self::AddForwarded(interface) => write!(
                f,
                "let {interface} through chains that drop what is forwarded"
            ),
            Self::DeleteForwarded(interface) => {
                write!(f, "take back what lets {interface} through")
            }
            Self::AddOwn(own) => write!(f, "ip addr add {own}, as source of its default routes"),
            Self::DeleteOwn(own) => write!(f, "ip addr del {own}"),
            Self::AddRedirect(pid, redirect) => {
                write!(f, "in the namespace of process {pid}: {redirect}")
            }
            Self::ChangeDirect { pid, come, gone } => {
                write!(f, "in the namespace of process {pid}: not to the gateway")?;
                for address in come {
                    write!(f, " {address}")?;
                }
                if !gone.is_empty() {
                    f.write_str("; again")?;
                }
                for address in gone {
                    write!(f, " {address}")?;
                }
                Ok(())
            }
            Self::DeleteRedirect(pid) => write!(
                f,
                "in the namespace of process {pid}: nft delete table inet sortie"
            ),
            Self::Announce(entry) => write!(f, "announce {} dev {}", entry.address, entry.device),
        }
    }
}

fn nft(f: &mut fmt::Formatter<'_>, family: Family, op: &NftOp) -> fmt::Result {
    match op {
        NftOp::AddTable(_) => write!(f, "nft add table {family} sortie"),
        NftOp::DeleteTable => write!(f, "nft delete table {family} sortie"),
        NftOp::AddCounter(name) => write!(f, "nft add counter {family} sortie {name}"),
        NftOp::AddSet(name, _) => write!(f, "nft add set {family} sortie {name}"),
        NftOp::DeleteSet(name) => write!(f, "nft delete set {family} sortie {name}"),
        NftOp::AddChain(name, _) | NftOp::AddRules(name, _) => {
            write!(f, "nft add chain {family} sortie {name}")
        }
        NftOp::FlushChain(name) => write!(f, "nft flush chain {family} sortie {name}"),
        NftOp::DeleteChain(name) => write!(f, "nft delete chain {family} sortie {name}"),
        NftOp::AddElements(set, elements) => {
            write!(
                f,
                "nft add element {family} sortie {set} {}",
                elements_text(set, elements)
            )
        }
        NftOp::DeleteElements(set, elements) => {
            write!(
                f,
                "nft delete element {family} sortie {set} {}",
                elements_text(set, elements)
            )
        }
    }
}

/// A few in full, many as a number.
fn elements_text(set: &Name, elements: &[(Key, Data)]) -> String {
    const SHOWN: usize = 4;
    if elements.len() > SHOWN {
        return format!("({} elements)", elements.len());
    }
    let shown: Vec<_> = elements
        .iter()
        .map(|(key, data)| text::element(&base::set_shape(set), key, data))
        .collect();
    format!("{{ {} }}", shown.join(", "))
}
