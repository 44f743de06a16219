//! What a class of destinations is answered: a row of conditions, each with an exit.

use sortie_api::policy::{PortRange, Protocol, Unlearned};

use super::Leads;
use super::names::Patterns;
use crate::precedence::{Candidate, Scope};
use crate::resolve::{Addresses, Exit, Refusal};

/// One answer of a class: under a condition and for these ports (empty: every protocol and port),
/// this exit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Answer {
    pub(super) when: When,
    pub(super) ports: Vec<PortRange>,
    pub(super) exit: Exit,
    /// Whether old flows may go on with another address than the exit's.
    pub(super) drains: bool,
    /// A Deny by prefix, which no name undoes.
    pub(super) forbids: bool,
}

/// What must be known of the destination's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum When {
    /// Nothing.
    Always,
    /// The workload was told it for a name that is meant: an index into the set's patterns.
    Named(usize),
    /// The workload was told it for no name at all.
    Unlearned,
}

/// Ports on which a destination without a name is the gateway's, which can see the name itself; the
/// others here have names in them that nobody can see (DNS over TLS and QUIC, HTTP/3).
pub(super) const SNIFFED_PORTS: [PortRange; 5] = [
    port(Protocol::Tcp, 80),
    port(Protocol::Tcp, 443),
    port(Protocol::Tcp, 853),
    port(Protocol::Udp, 443),
    port(Protocol::Udp, 853),
];
/// HTTP/3, which could not be read where HTTP is to be.
const QUIC: PortRange = port(Protocol::Udp, 443);

const fn port(protocol: Protocol, port: u16) -> PortRange {
    PortRange {
        protocol,
        first: port,
        last: port,
    }
}

/// The answers for destinations for which these candidates are asked, in order. In front of the first
/// that is about a name, and lets addresses without one be looked into, comes what the gateway must see.
pub(super) fn class<'a>(
    candidates: impl Iterator<Item = &'a Candidate<'a>>,
    patterns: &mut Patterns,
    v6: bool,
    addresses: &impl Addresses,
) -> Vec<Answer> {
    let mut class: Vec<Answer> = Vec::new();
    for candidate in candidates {
        let when = match candidate.scope {
            Scope::Everything | Scope::Prefix(_) => When::Always,
            Scope::Unlearned => When::Unlearned,
            Scope::Host(host) | Scope::Request { host, .. } => {
                let sniffed = Answer::sniffed();
                if candidate.policy.unlearned == Unlearned::Sniff && !class.contains(&sniffed) {
                    class.push(sniffed);
                }
                When::Named(patterns.number(host))
            }
        };
        let answer = Answer::new(candidate, when, v6, addresses);
        // Several paths of one host.
        if !class.contains(&answer) {
            class.push(answer);
        }
    }
    class
}

impl Answer {
    fn new(candidate: &Candidate<'_>, when: When, v6: bool, addresses: &impl Addresses) -> Self {
        if let Scope::Request { .. } = candidate.scope {
            let quic = candidate.takes_port(Some((Protocol::Tcp, 443)));
            let ports = candidate.ports().iter().copied();
            return Self {
                ports: ports.chain(quic.then_some(QUIC)).collect(),
                when,
                ..Self::sniffed()
            };
        }
        let exit = candidate.exit(v6, addresses);
        let drain = candidate.policy.on_change.drain();
        Self {
            when,
            ports: candidate.ports().to_vec(),
            exit,
            drains: matches!(exit, Exit::Egress(_)) && drain.is_some(),
            forbids: candidate.denies_prefix(),
        }
    }

    fn sniffed() -> Self {
        Self {
            when: When::Unlearned,
            ports: SNIFFED_PORTS.to_vec(),
            exit: Exit::Drop(Refusal::ByGateway),
            drains: false,
            forbids: false,
        }
    }

    /// Whether it is about such a port.
    pub(super) fn covers(&self, port: Option<(Protocol, u16)>) -> bool {
        let mut ports = self.ports.iter();
        self.ports.is_empty() || port.is_some_and(|port| ports.any(|range| range.contains(port)))
    }

    /// Whether nothing comes behind it.
    pub(super) fn ends_all(&self) -> bool {
        self.when == When::Always && self.ports.is_empty()
    }

    pub(super) fn leads(&self) -> Option<Leads> {
        match self.exit {
            Exit::Egress(address) => Some(Leads {
                address,
                drains: self.drains,
            }),
            Exit::Bypass | Exit::NodeAddress | Exit::Drop(_) => None,
        }
    }
}

/// What is asked before any name: of the answers that presume nothing, those up to the last that
/// forbids; empty where no name stands before one.
pub(super) fn forbidding(class: &[Answer]) -> Vec<&Answer> {
    let about_a_name = |answer: &Answer| answer.when != When::Always;
    let Some(first) = class.iter().position(about_a_name) else {
        return Vec::new();
    };
    let Some(last) = class.iter().rposition(|answer| answer.forbids) else {
        return Vec::new();
    };
    if last < first {
        return Vec::new();
    }
    let asked = class[..=last].iter();
    asked.filter(|answer| !about_a_name(answer)).collect()
}
