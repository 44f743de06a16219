//! Which tracked flows of a workload go on after a change of its policies.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use sortie_api::workload::CgroupId;

use crate::compile::policy_set::{Meant, PolicySet};
use crate::compile::treatment::Treatment;
use crate::precedence::Target;

/// Whose flows: what tells them apart among all tracked ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Those that began with this address.
    Address(IpAddr),
    /// Those that are noted to be of a cgroup, of one family.
    Cgroup {
        /// Which.
        id: CgroupId,
        /// IPv6 instead of IPv4.
        v6: bool,
    },
}

impl fmt::Display for Source {
    /// As `conntrack` would select them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "-s {address}"),
            Self::Cgroup { id, v6 } => {
                let family = if *v6 { "ipv6" } else { "ipv4" };
                write!(f, "-f {family} -l cgroup {}", id.0)
            }
        }
    }
}

/// A tracked flow, as the policies see it.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    /// Where to, behind every translation of destinations.
    pub target: Target<'static>,
    /// The destination before every translation.
    pub asked: IpAddr,
    /// The source that the other side sees.
    pub source: IpAddr,
    /// Whether the other side has answered.
    pub answered: bool,
}

/// The flows that stay when the others of a source end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keep {
    /// Those that are what a new one would be.
    pub right: Right,
    /// Those that were answered, with these sources, where the policies drain.
    pub draining: BTreeSet<IpAddr>,
}

/// What a flow that begins now leaves with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Right {
    /// Nothing that is known: no flow stays.
    #[default]
    Nothing,
    /// One address, whatever the destination.
    Address(IpAddr),
    /// It depends on the destination, and on what the workload was told the address for.
    Set(Arc<PolicySet>, BTreeMap<IpAddr, Meant>),
}

impl Keep {
    /// Those with one address.
    pub fn address(address: IpAddr) -> Self {
        Self {
            right: Right::Address(address),
            draining: BTreeSet::new(),
        }
    }

    /// Those that a treatment would translate just so; `told` says what the workload was told which
    /// address for.
    pub fn treated(treatment: &Treatment, told: impl FnOnce() -> BTreeMap<IpAddr, Meant>) -> Self {
        let right = match treatment {
            Treatment::Translate { address, .. } | Treatment::Own { address, .. } => {
                Right::Address(*address)
            }
            Treatment::Set(set) => Right::Set(Arc::clone(set), told()),
            Treatment::Unmanaged | Treatment::Blocked(_) | Treatment::Direct { .. } => {
                Right::Nothing
            }
        };
        Self {
            right,
            draining: BTreeSet::new(),
        }
    }

    /// Whether this flow stays.
    pub fn keeps(&self, flow: &Flow) -> bool {
        let drains = flow.answered && self.draining.contains(&flow.source);
        match &self.right {
            Right::Nothing => false,
            Right::Address(address) => flow.source == *address || drains,
            Right::Set(set, told) => set
                .egress(flow.target, told.get(&flow.asked))
                .is_some_and(|egress| egress.address == flow.source || (egress.drains && drains)),
        }
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.right {
            Right::Nothing => return Ok(()),
            Right::Address(address) => write!(f, ", but for those translated to {address}")?,
            Right::Set(..) => f.write_str(", but for those translated as the policies say")?,
        }
        for address in &self.draining {
            write!(f, ", and for answered ones translated to {address}")?;
        }
        Ok(())
    }
}
