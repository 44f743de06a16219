//! Sets, maps and verdict maps.

use std::time::Duration;

use super::key::Key;
use super::rule::Verdict;
use super::{Elements, Name};

/// The most elements of a set that counts: the kernel makes room for all at once, 16 bytes each.
pub const COUNTED: u32 = 1 << 15;

/// A set (`data` is [`DataType::None`]), map or verdict map, with its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// The parts of a key, in order.
    pub key: Vec<KeyType>,
    /// What an element yields.
    pub data: DataType,
    /// Elements are ranges (`flags interval`); keys then have one part.
    pub interval: bool,
    /// Rules put elements in, each with a counter (`flags dynamic`), and nobody else but to take
    /// them out: none is ever wanted.
    pub counts: bool,
    /// Elements stay for a time of their own (`flags timeout`).
    pub expiring: bool,
    /// By first key.
    pub elements: Elements,
}

/// The type of one part of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// `ifindex`, 4 bytes.
    Interface,
    /// `ifname`, 16 bytes.
    InterfaceName,
    /// `ether_addr`, 6 bytes.
    EtherAddr,
    /// `ipv4_addr`, 4 bytes.
    Ipv4Addr,
    /// `ipv6_addr`, 16 bytes.
    Ipv6Addr,
    /// `cgroupsv2`, 8 bytes.
    Cgroup,
}

/// What a map's elements yield.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataType {
    /// A set: nothing.
    None,
    /// `ipv4_addr`.
    Ipv4Addr,
    /// `ipv6_addr`.
    Ipv6Addr,
    /// A verdict map.
    Verdict,
}

/// What one element yields, and how far it reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// In a set of single values.
    None,
    /// In a set of ranges: the last key, included.
    Through(Key),
    /// In a set of single values that stay for a time: how long still.
    For(Duration),
    /// In a map: an address.
    Value(Key),
    /// In a verdict map.
    Verdict(Verdict),
    /// In a verdict map of ranges: the last key, included, and the verdict. Boxed: such elements are
    /// few, and every other one would be as large.
    ThroughVerdict(Box<(Key, Verdict)>),
}

impl Set {
    /// An empty set of single values.
    pub fn of(key: &[KeyType]) -> Self {
        Self {
            key: key.to_vec(),
            data: DataType::None,
            interval: false,
            counts: false,
            expiring: false,
            elements: Elements::new(),
        }
    }

    /// The same with counting elements that rules put in.
    #[must_use]
    pub fn counting(mut self) -> Self {
        self.counts = true;
        self
    }

    /// The same with elements that are ranges.
    #[must_use]
    pub fn ranges(mut self) -> Self {
        self.interval = true;
        self
    }

    /// The same with elements that the kernel itself takes out after a time.
    #[must_use]
    pub fn expiring(mut self) -> Self {
        self.expiring = true;
        self
    }

    /// A map instead, to this data.
    #[must_use]
    pub fn to(mut self, data: DataType) -> Self {
        self.data = data;
        self
    }
}

impl Data {
    /// The chain that this element leads to, if any.
    pub fn chain(&self) -> Option<&Name> {
        match self {
            Self::Verdict(verdict) => verdict.chain(),
            Self::ThroughVerdict(through) => through.1.chain(),
            Self::None | Self::Through(_) | Self::For(_) | Self::Value(_) => None,
        }
    }

    /// Whether the kernel would hold the same: how much time is left makes no difference.
    pub fn is_like(&self, other: &Self) -> bool {
        self == other || matches!((self, other), (Self::For(_), Self::For(_)))
    }
}
