//! The one question: which address does this workload have towards that destination?

use std::net::IpAddr;

use ipnet::IpNet;
use sortie_api::policy::{Action, EgressPolicy, OnUnavailable, PolicyName};
use sortie_api::workload::IfIndex;

use crate::mark::Mark;
use crate::precedence::{Candidate, Scope, Target};

/// The policies' answer for one workload and one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Never a policy's business: within one of these ranges.
    Local(IpNet),
    /// No policy has a say: as without Sortie.
    NoPolicy,
    /// A policy decides.
    Decided {
        /// Its name.
        policy: PolicyName,
        /// What it says.
        exit: Exit,
    },
}

/// How a packet leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exit {
    /// With this source.
    Egress(IpAddr),
    /// As without Sortie, because the policy says Bypass.
    Bypass,
    /// As without Sortie, because the address is not there and the policy allows it.
    NodeAddress,
    /// Not at all.
    Drop(Refusal),
}

/// Why a packet may not leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// The policy says Deny.
    Denied,
    /// The policy has no address of this family.
    NoAddressOfFamily,
    /// The workload shall have the address itself, and cannot.
    NotDirect,
    /// The gateway sends it in the workload's stead.
    ByGateway,
    /// It has no name, and the policy wants one.
    Unlearned,
}

/// What `resolve` must know of egress addresses.
pub trait Addresses {
    /// Whether the address is on the host and has an uplink.
    fn usable(&self, address: IpAddr) -> bool;
    /// The uplink that packets with this source must leave through; none when there is no way out.
    fn uplink(&self, address: IpAddr) -> Option<IfIndex>;
    /// What leads packets to that uplink; none where the host's routes do.
    fn mark(&self, address: IpAddr) -> Option<Mark>;
}

/// Every address is there, and the host's routes lead its packets out.
pub(crate) struct AllUsable;

impl Addresses for AllUsable {
    fn usable(&self, _: IpAddr) -> bool {
        true
    }
    fn uplink(&self, _: IpAddr) -> Option<IfIndex> {
        None
    }
    fn mark(&self, _: IpAddr) -> Option<Mark> {
        None
    }
}

/// Steps, in order:
/// 1. A destination in a local range is no policy's business.
/// 2. Of the candidates, ordered, the first that covers the destination decides.
/// 3. Where that one goes by name, the address is asked too, as if nobody knew the name: where a
///    CIDR with Deny decides then, it decides now. So a name, whatever its priority, never undoes
///    what the address alone is denied by a CIDR; a Deny for everything, or for ports alone, it may.
/// 4. Its action, with the address of the destination's family.
pub fn resolve(
    candidates: &[Candidate<'_>],
    target: Target<'_>,
    local: &[IpNet],
    addresses: &impl Addresses,
) -> Decision {
    if let Some(range) = local.iter().find(|range| range.contains(&target.ip)) {
        return Decision::Local(*range);
    }
    let Some(decides) = deciding(candidates, target) else {
        return Decision::NoPolicy;
    };
    Decision::Decided {
        policy: decides.policy.name.clone(),
        exit: decides.exit(target.ip.is_ipv6(), addresses),
    }
}

/// Steps 2 and 3 of [`resolve`].
pub fn deciding<'c, 'p>(
    candidates: &'c [Candidate<'p>],
    target: Target<'_>,
) -> Option<&'c Candidate<'p>> {
    among(candidates.iter(), target)
}

/// [`deciding`], of some of them, in their order.
pub fn among<'c, 'p: 'c>(
    candidates: impl Iterator<Item = &'c Candidate<'p>> + Clone,
    target: Target<'_>,
) -> Option<&'c Candidate<'p>> {
    let first = candidates
        .clone()
        .find(|candidate| candidate.covers(target))?;
    if first.host().is_none() {
        return Some(first);
    }
    // That it has a name is known: it is not unlearned.
    let mut by_address = candidates.filter(|candidate| candidate.host().is_none());
    let address = by_address.find(|candidate| candidate.covers(target));
    Some(
        address
            .filter(|candidate| candidate.denies_prefix())
            .unwrap_or(first),
    )
}

impl Candidate<'_> {
    /// What it says for packets of one family.
    pub fn exit(&self, v6: bool, addresses: &impl Addresses) -> Exit {
        match self.scope {
            Scope::Unlearned => Exit::Drop(Refusal::Unlearned),
            _ => exit(self.policy, v6, addresses),
        }
    }

    /// Whether it denies addresses by a CIDR: no name undoes that.
    pub fn denies_prefix(&self) -> bool {
        matches!(self.scope, Scope::Prefix(_)) && self.policy.action == Action::Deny
    }
}

/// What a policy says for packets of one family.
pub fn exit(policy: &EgressPolicy, v6: bool, addresses: &impl Addresses) -> Exit {
    match &policy.action {
        Action::Bypass => Exit::Bypass,
        Action::Deny => Exit::Drop(Refusal::Denied),
        Action::Egress(egress) => match egress.of_family(v6) {
            None => Exit::Drop(Refusal::NoAddressOfFamily),
            Some(address) => match policy.on_unavailable {
                OnUnavailable::NodeAddress if !addresses.usable(address) => Exit::NodeAddress,
                OnUnavailable::NodeAddress | OnUnavailable::Drop => Exit::Egress(address),
            },
        },
    }
}

#[cfg(test)]
mod tests;
