//! An nftables ruleset as data: what `sortie-kernel` lowers to netlink and [`text`] prints for people.
//!
//! Only the statements that Sortie's own rules use are here; the field names are nft's.

pub mod key;
pub mod rule;
pub mod set;
pub mod text;

use std::collections::BTreeMap;

use key::Key;
use rule::Rule;
use set::{Data, Set};

/// An address family of nf_tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Frames on bridge ports.
    Bridge,
    /// IPv4 and IPv6.
    Inet,
    /// Frames on one device.
    Netdev,
}

impl Family {
    /// Every family that Sortie has a table in, in the order they are applied.
    pub const ALL: [Self; 3] = [Self::Bridge, Self::Inet, Self::Netdev];
}

/// One table; all are named `sortie`, so the family names it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// Distinguishes rulesets of other versions or parameters: a table with another tag is rebuilt.
    pub tag: String,
    /// By name.
    pub sets: BTreeMap<Name, Set>,
    /// By name.
    pub chains: BTreeMap<Name, Chain>,
    /// Named counters.
    pub counters: Vec<Name>,
}

/// The name of a chain, set, map or counter, at most 127 bytes.
pub type Name = std::borrow::Cow<'static, str>;

/// The elements of one set or map.
pub type Elements = BTreeMap<Key, Data>;

/// One chain. A chain's rules never change under its name: what varies is in sets, and a chain
/// made for a policy carries a digest of its content in its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Where the kernel calls it; none for chains that others jump to.
    pub hook: Option<Hook>,
    /// In order.
    pub rules: Vec<Rule>,
}

/// Where a base chain is called; its policy is always accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// filter or nat.
    pub kind: HookKind,
    /// The hook.
    pub point: HookPoint,
    /// Signed priority; lower runs first.
    pub priority: i32,
    /// The device, for netdev.
    pub device: Option<String>,
}

/// A base chain's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookKind {
    /// `type filter`.
    Filter,
    /// `type route`: a packet whose mark it changes is routed anew.
    Route,
    /// `type nat`: sees the first packet of a flow only.
    Nat,
}

/// A netfilter hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookPoint {
    /// Before routing.
    Prerouting,
    /// What this host sends itself, after its first routing.
    Output,
    /// After routing, on the way out.
    Postrouting,
    /// A device's egress (netdev, kernel 5.16).
    Egress,
}
