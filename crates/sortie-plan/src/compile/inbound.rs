//! Egress addresses that nobody may begin a connection to from outside: with `inbound: Drop`, and,
//! unless `inbound` allows it, those that containers on an engine's bridge were given by us.
//!
//! In front of every engine's own prerouting, so that listeners of the host and published ports are
//! behind it alike. The chain is only there where such an address is.

use sortie_api::config::Inbound;

use super::base::{IPPROTO_ICMPV6, NEVER_FORWARDED, REPLY};
use super::shared::Topology;
use super::statement::{goto_drop, is, lookup, on, plain};
use super::workload::named;
use crate::environment::Environment;
use crate::nft::key::Key;
use crate::nft::rule::Field::{CtDirection, Iif, Ip6Daddr, Ip6Hoplimit, IpDaddr, L4Proto};
use crate::nft::rule::Value::{Byte, Interface};
use crate::nft::rule::Verdict::{Accept, Goto};
use crate::nft::set::Data;
use crate::nft::{Chain, Hook, HookKind, HookPoint, Name};
use crate::reason::Reason;

/// `LOOPBACK_IFINDEX` (include/net/net_namespace.h).
const LOOPBACK: u32 = 1;

/// The addresses.
pub(super) fn closed<'a>(
    environment: &'a Environment,
    topology: &'a Topology,
) -> impl Iterator<Item = (Name, Key, Data)> + 'a {
    let inbound = &environment.config.inbound;
    let said = inbound.iter();
    let said = said.filter(|(_, inbound)| **inbound == Inbound::Drop);
    let given = topology.direct.iter();
    let given = given.filter(|direct| direct.beside.is_some());
    let given = given.map(|direct| &direct.address);
    let given = given.filter(|address| !inbound.contains_key(*address));
    let closed = said.map(|(address, _)| address).chain(given);
    closed.map(|address| (named!("closed", address), Key::from(*address), Data::None))
}

/// What asks for them.
pub(super) fn chains(environment: &Environment, topology: &Topology) -> Vec<(Name, Chain)> {
    if closed(environment, topology).next().is_none() {
        return Vec::new();
    }
    let to_closed = || [Goto("closed".into()).into()];
    let inbound = Chain {
        hook: Some(Hook {
            kind: HookKind::Filter,
            point: HookPoint::Prerouting,
            priority: environment.priorities.inbound,
            device: None,
        }),
        rules: vec![
            on(lookup(&[IpDaddr], "closed4"), to_closed()),
            on(lookup(&[Ip6Daddr], "closed6"), to_closed()),
        ],
    };
    let closed = plain(vec![
        // Answers, and errors about what was sent.
        on(is(CtDirection, Byte(REPLY)), [Accept.into()]),
        // The host and its containers are not outside.
        on(is(Iif, Interface(LOOPBACK)), [Accept.into()]),
        on(lookup(&[Iif], "inside"), [Accept.into()]),
        // Neighbours ask whether the address is still there.
        vec![
            is(L4Proto, Byte(IPPROTO_ICMPV6)),
            is(Ip6Hoplimit, Byte(NEVER_FORWARDED)),
            Accept.into(),
        ],
        goto_drop(Reason::Inbound),
    ]);
    vec![("inbound".into(), inbound), ("closed".into(), closed)]
}
