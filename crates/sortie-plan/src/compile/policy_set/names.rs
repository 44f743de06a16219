//! Names in a policy set: which patterns it asks for, and the kernel's sets of addresses that workloads
//! were told for them.
//!
//! A pattern's set has elements (own address, told address): what one workload was told is nothing to
//! another. Rules ask for the destination before any translation, which is the address that was told.

use std::collections::BTreeSet;
use std::net::IpAddr;

use sortie_api::policy::{HostPattern, Protocol};

use super::PolicySet;
use super::answer::When;
use crate::compile::workload::Element;
use crate::nft::key::Key;
use crate::nft::rule::Field;
use crate::nft::rule::Statement::{self, Lookup};
use crate::nft::set::{Data, KeyType, Set};
use crate::nft::{Family, Name};
use crate::resolve::{Exit, Refusal};

/// The patterns that a set asks for, each once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Patterns(Vec<HostPattern>);

/// What a workload's policies say of an address that it was told: the patterns that are meant, by
/// number, of all names that it was told the address for. Empty where none is.
pub type Meant = BTreeSet<usize>;

impl Patterns {
    pub(super) fn number(&mut self, pattern: &HostPattern) -> usize {
        if let Some(number) = self.0.iter().position(|known| known == pattern) {
            return number;
        }
        self.0.push(pattern.clone());
        self.0.len() - 1
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn numbers(&self) -> std::ops::Range<usize> {
        0..self.0.len()
    }
}

/// Whether a set of the kernel's has the addresses that names were told for.
pub fn is_of_names(set: &str) -> bool {
    set.starts_with("named") || set.starts_with("learned")
}

impl PolicySet {
    /// Whether it depends on the destination's name.
    pub fn asks_names(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// The patterns that mean a name.
    pub fn meant(&self, name: &str) -> Meant {
        let patterns = self.patterns.0.iter().enumerate();
        patterns
            .filter(|(_, pattern)| pattern.matches(name))
            .map(|(number, _)| number)
            .collect()
    }

    /// Whether the gateway sends what goes to an address with such names, where it is about requests.
    pub fn by_gateway(&self, meant: &Meant) -> bool {
        let answers = self.classes.iter().flatten();
        let mut named = answers.filter(|answer| answer.exit == Exit::Drop(Refusal::ByGateway));
        named.any(|answer| match answer.when {
            When::Named(number) => meant.contains(&number),
            When::Always | When::Unlearned => false,
        })
    }

    /// The TCP ports of all that the gateway must see, first and last.
    pub fn gateway_ports(&self) -> BTreeSet<(u16, u16)> {
        let answers = self.classes.iter().flatten();
        let by_gateway = answers.filter(|answer| answer.exit == Exit::Drop(Refusal::ByGateway));
        let ports = by_gateway.flat_map(|answer| &answer.ports);
        let tcp = ports.filter(|range| range.protocol == Protocol::Tcp);
        tcp.map(|range| (range.first, range.last)).collect()
    }

    /// The elements of an address that a workload with the address `own` was told.
    pub fn told(&self, own: IpAddr, address: IpAddr, meant: &Meant) -> Vec<Element> {
        let key = Key::new().ip(own).ip(address);
        let named = meant.iter().map(|number| self.named(*number));
        let sets = named.chain([self.learned()]);
        sets.map(|set| (Family::Inet, set, key, Data::None))
            .collect()
    }

    /// The sets, empty.
    pub(super) fn name_sets(&self) -> impl Iterator<Item = (Name, Set)> {
        let ip = if self.v6 {
            KeyType::Ipv6Addr
        } else {
            KeyType::Ipv4Addr
        };
        let named = self.patterns.numbers().map(|number| self.named(number));
        let learned = self.asks_names().then(|| self.learned());
        named
            .chain(learned)
            .map(move |name| (name, Set::of(&[ip, ip])))
    }

    /// The condition as a rule asks for it.
    pub(super) fn condition(&self, when: When) -> Option<Statement> {
        let (set, not) = match when {
            When::Always => return None,
            When::Named(number) => (self.named(number), false),
            When::Unlearned => (self.learned(), true),
        };
        let fields = if self.v6 {
            vec![Field::CtOriginalIp6Saddr, Field::CtOriginalIp6Daddr]
        } else {
            vec![Field::CtOriginalIpSaddr, Field::CtOriginalIpDaddr]
        };
        Some(Lookup { fields, set, not })
    }

    /// Whether a condition holds for an address that a workload was told for what is meant; none
    /// where it was never told.
    pub(super) fn holds(when: When, meant: Option<&Meant>) -> bool {
        match when {
            When::Always => true,
            When::Named(number) => meant.is_some_and(|meant| meant.contains(&number)),
            When::Unlearned => meant.is_none(),
        }
    }

    fn named(&self, number: usize) -> Name {
        format!("named{}-{:016x}-{number}", self.digit(), self.digest).into()
    }

    fn learned(&self) -> Name {
        format!("learned{}-{:016x}", self.digit(), self.digest).into()
    }
}
