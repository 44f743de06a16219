//! Which of several policies decides: an order over (policy, destination entry, prefix).

use std::cmp::Reverse;
use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use sortie_api::policy::{Destination, EgressPolicy, Enforcement, PortRange, Protocol};

/// One way in which a policy can cover a packet: one prefix of one entry of its destinations.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The policy.
    pub policy: &'a EgressPolicy,
    /// The entry; none where the policy has no destinations and covers everything.
    pub destination: Option<&'a Destination>,
    /// The prefix; none where every address is meant.
    pub prefix: Option<IpNet>,
}

/// Where a packet wants to go. A port without a protocol makes no sense, so they come together;
/// none for protocols without ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The destination's address.
    pub ip: IpAddr,
    /// Protocol and destination port.
    pub port: Option<(Protocol, u16)>,
}

impl<'a> Candidate<'a> {
    /// All candidates of these policies, the one that decides first.
    pub fn ordered(policies: impl IntoIterator<Item = &'a EgressPolicy>) -> Vec<Self> {
        let mut candidates: Vec<Self> = policies.into_iter().flat_map(Self::of).collect();
        candidates.sort_by_key(Self::rank);
        candidates
    }

    fn of(policy: &'a EgressPolicy) -> Vec<Self> {
        if policy.destinations.is_empty() {
            return vec![Self {
                policy,
                destination: None,
                prefix: None,
            }];
        }
        let mut all = Vec::new();
        for destination in &policy.destinations {
            let entry = Self {
                policy,
                destination: Some(destination),
                prefix: None,
            };
            if destination.cidrs.is_empty() {
                all.push(entry);
            }
            let mut seen = HashSet::new();
            for cidr in destination.cidrs.iter().filter(|cidr| seen.insert(**cidr)) {
                all.push(Self {
                    prefix: Some(*cidr),
                    ..entry
                });
            }
        }
        all
    }

    /// The order, first to last: higher priority; longer prefix, then ports over none, everything
    /// last; more specific owner; name.
    fn rank(&self) -> impl Ord + use<'a> {
        (
            Reverse(self.policy.priority),
            Reverse(self.prefix.map(|prefix| prefix.prefix_len())),
            Reverse(!self.ports().is_empty()),
            self.policy.owner,
            &self.policy.name,
        )
    }

    /// Whether all but the name puts the two on one step: then names decide, and different
    /// outcomes are a conflict.
    pub fn ties_with(&self, other: &Self) -> bool {
        let step = |c: &Self| {
            (
                c.policy.priority,
                c.prefix.map(|p| p.prefix_len()),
                c.ports().is_empty(),
                c.policy.owner,
            )
        };
        step(self) == step(other)
    }

    /// Whether it only tells what it would change.
    pub fn audits(&self) -> bool {
        self.policy.enforcement == Enforcement::Audit
    }

    /// Empty: every protocol and port.
    pub fn ports(&self) -> &'a [PortRange] {
        self.destination
            .map_or(&[], |destination| &destination.ports)
    }

    /// Parts of the prefix that are not meant.
    pub fn except(&self) -> &'a [IpNet] {
        self.destination
            .map_or(&[], |destination| &destination.except)
    }

    /// Whether this candidate has a say over such a packet.
    pub fn covers(&self, target: Target) -> bool {
        self.prefix.is_none_or(|prefix| prefix.contains(&target.ip))
            && !self
                .except()
                .iter()
                .any(|except| except.contains(&target.ip))
            && (self.ports().is_empty()
                || target
                    .port
                    .is_some_and(|port| self.ports().iter().any(|r| r.contains(port))))
    }
}
