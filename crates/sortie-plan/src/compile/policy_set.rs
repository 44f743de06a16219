//! A list of policies whose answer depends on the destination, compiled for one family: two
//! interval maps from destination to chain, and chains of at most a few rules about names and ports.
//! All workloads with the same list share it, and its name is a digest of what it says.

mod answer;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use sortie_api::policy::{PortRange, Protocol};

use super::base::drains;
use super::statement::{goto_drop, is, lookup, on, plain};
use super::steering::steer;
use crate::mark::Mark;
use crate::nft::key::Key;
use crate::nft::rule::Statement::{
    Compare, Range as PortsBetween, Snat, SourceIsLocal, VerdictMap,
};
use crate::nft::rule::Verdict::{Accept, Goto, Jump, Return};
use crate::nft::rule::{Field, Rule, Statement, Value};
use crate::nft::set::{Data, DataType, KeyType, Set};
use crate::nft::{Chain, Name};
use crate::precedence::{Candidate, Target};
use crate::ranges::Range;
use crate::reason::Reason;
use crate::resolve::{Addresses, Exit};

use answer::{Answer, SNIFFED_PORTS, When, class, forbidding};
use names::Patterns;
pub use names::{Meant, is_of_names};

/// What one list of policies says about one family's destinations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySet {
    v6: bool,
    /// Ascending and apart; the number is an index into `classes`.
    ranges: Vec<(IpAddr, IpAddr, usize)>,
    classes: Vec<Vec<Answer>>,
    patterns: Patterns,
    /// The addresses whose uplink takes a mark.
    marks: BTreeMap<IpAddr, Mark>,
    /// Of all the above.
    digest: u64,
}

/// An egress address that a set leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leads {
    /// The address.
    pub address: IpAddr,
    /// Whether old flows may go on with another one.
    pub drains: bool,
}

/// A chain and set family that exists for each of these: to choose the uplink, where that is not
/// the host's routes' business, to translate a flow, and to check each packet.
#[derive(Clone, Copy)]
enum Side {
    Route,
    Translate,
    Check,
}

impl Hash for PolicySet {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

/// No name leads there.
struct Forbidden;

impl PolicySet {
    /// Compiles ranges of the same candidates.
    pub fn new(
        candidates: &[Candidate<'_>],
        ranges: &[Range],
        v6: bool,
        addresses: &impl Addresses,
    ) -> Self {
        let mut set = Self {
            v6,
            ranges: Vec::new(),
            classes: Vec::new(),
            patterns: Patterns::default(),
            marks: BTreeMap::new(),
            digest: 0,
        };
        let mut known = BTreeMap::new();
        for range in ranges {
            let asked = range.candidates.iter().map(|index| &candidates[*index]);
            let class = class(asked, &mut set.patterns, v6, addresses);
            let number = *known.entry(class).or_insert_with_key(|class| {
                set.classes.push(class.clone());
                set.classes.len() - 1
            });
            set.ranges.push((range.first, range.last, number));
        }
        let egress = set.egress_addresses().into_iter();
        set.marks = egress
            .filter_map(|address| Some((address, addresses.mark(address)?)))
            .collect();
        let mut hasher = DefaultHasher::new();
        (&set.ranges, &set.classes, &set.patterns, &set.marks).hash(&mut hasher);
        set.digest = hasher.finish();
        set
    }

    /// The exit, when every address and port has the same.
    pub fn only_exit(&self) -> Option<Exit> {
        let [(first, last, _)] = self.ranges.as_slice() else {
            return None;
        };
        let [class] = self.classes.as_slice() else {
            return None;
        };
        // A condition has another answer beside it, for where it does not hold.
        let [Answer { ports, exit, .. }] = class.as_slice() else {
            return None;
        };
        let whole = match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => first.is_unspecified() && last.is_broadcast(),
            (first, last) => first.is_unspecified() && *last == IpAddr::from([u8::MAX; 16]),
        };
        (whole && ports.is_empty()).then_some(*exit)
    }

    /// Whether both answer each destination with the same, by whatever uplink.
    pub fn answers_the_same(&self, other: &Self) -> bool {
        (self.v6, &self.patterns) == (other.v6, &other.patterns)
            && (&self.ranges, &self.classes) == (&other.ranges, &other.classes)
    }

    /// Every address that packets may leave with.
    pub fn egress_addresses(&self) -> BTreeSet<IpAddr> {
        self.leads().iter().map(|leads| leads.address).collect()
    }

    /// The same, with and without old flows.
    pub fn leads(&self) -> BTreeSet<Leads> {
        let answers = self.classes.iter().flatten();
        answers.filter_map(Answer::leads).collect()
    }

    /// What a flow to this destination leaves with; none where no address is decided. `meant` is what
    /// the workload was told the address for, none where it was not told.
    pub fn egress(&self, target: Target<'_>, meant: Option<&Meant>) -> Option<Leads> {
        self.answer(target, meant).ok()??.leads()
    }

    /// Whether a flow to this destination leaves as without Sortie.
    pub fn leaves_alone(&self, target: Target<'_>, meant: Option<&Meant>) -> bool {
        let alone = |answer: &Answer| matches!(answer.exit, Exit::Bypass | Exit::NodeAddress);
        self.answer(target, meant)
            .is_ok_and(|answer| answer.is_none_or(alone))
    }

    /// The answer for a destination, none where no candidate covers it.
    ///
    /// # Errors
    /// When the address is forbidden, whatever its name.
    fn answer(
        &self,
        target: Target<'_>,
        meant: Option<&Meant>,
    ) -> Result<Option<&Answer>, Forbidden> {
        let behind = self
            .ranges
            .partition_point(|(first, ..)| *first <= target.ip);
        let range = behind.checked_sub(1).and_then(|at| self.ranges.get(at));
        let Some((_, _, class)) = range.filter(|(_, last, _)| *last >= target.ip) else {
            return Ok(None);
        };
        let Some(class) = self.classes.get(*class) else {
            return Ok(None);
        };
        let covers = |answer: &&Answer| answer.covers(target.port);
        let forbids = forbidding(class).into_iter().find(covers);
        if forbids.is_some_and(|answer| answer.forbids) {
            return Err(Forbidden);
        }
        let holds = |answer: &&Answer| Self::holds(answer.when, meant) && covers(answer);
        Ok(class.iter().find(holds))
    }

    /// The chain that chooses the uplink, if any address needs that.
    pub fn route_chain(&self) -> Option<Name> {
        (!self.marks.is_empty()).then(|| self.name(Side::Route))
    }

    /// The chain that translates a flow's first packet.
    pub fn translate_chain(&self) -> Name {
        self.name(Side::Translate)
    }

    /// The chain that checks each packet.
    pub fn check_chain(&self) -> Name {
        self.name(Side::Check)
    }

    fn sides(&self) -> impl Iterator<Item = Side> + use<> {
        let route = (!self.marks.is_empty()).then_some(Side::Route);
        route.into_iter().chain([Side::Translate, Side::Check])
    }

    /// The maps, with their elements; each has the name of the chain that asks it. And the sets of
    /// addresses that have names, empty.
    pub fn sets(&self) -> Vec<(Name, Set)> {
        let maps = self.sides().map(|side| (self.name(side), self.map(side)));
        maps.chain(self.name_sets()).collect()
    }

    /// All chains: an entry for each map, and one for each class in it. Those that check say of
    /// everything what becomes of it: who comes to their end came while they were being made.
    pub fn chains(&self) -> Vec<(Name, Chain)> {
        let mut chains = Vec::new();
        for side in self.sides() {
            let ask = vec![VerdictMap {
                fields: vec![self.daddr()],
                map: self.name(side),
            }];
            let end = matches!(side, Side::Check).then(|| vec![Accept.into()]);
            chains.push((
                self.name(side),
                plain([ask].into_iter().chain(end.clone()).collect()),
            ));
            for (number, class) in self.classes.iter().enumerate() {
                let mut rules = Vec::new();
                let forbids = forbidding(class);
                if matches!(side, Side::Check) && !forbids.is_empty() {
                    let first = self.forbidding_name(number);
                    rules.push(vec![Jump(first.clone()).into()]);
                    let forbidding = forbids.into_iter().flat_map(forbidding_rules);
                    chains.push((first, plain(forbidding.collect())));
                }
                rules.extend(class.iter().flat_map(|answer| self.rules(answer, side)));
                if !class.iter().any(Answer::ends_all) {
                    rules.extend(end.clone());
                }
                chains.push((self.class_name(side, number), plain(rules)));
            }
        }
        chains
    }

    fn map(&self, side: Side) -> Set {
        let ip = if self.v6 {
            KeyType::Ipv6Addr
        } else {
            KeyType::Ipv4Addr
        };
        let mut set = Set::of(&[ip]).to(DataType::Verdict).ranges();
        set.elements = self
            .ranges
            .iter()
            .map(|(first, last, class)| {
                let verdict = Goto(self.class_name(side, *class));
                (
                    Key::from(*first),
                    Data::ThroughVerdict(Box::new((Key::from(*last), verdict))),
                )
            })
            .collect();
        set
    }

    /// The first answer whose condition holds and whose ports fit ends the chain. How that is routed
    /// and translated which the check drops anyway for want of a name, makes no difference.
    fn rules(&self, answer: &Answer, side: Side) -> Vec<Rule> {
        if answer.when == When::Unlearned && !matches!(side, Side::Check) {
            return Vec::new();
        }
        let end = match side {
            Side::Route => self.route(answer.exit),
            Side::Translate => translate(answer.exit),
            Side::Check => check(answer),
        };
        let condition = self.condition(answer.when);
        if answer.when == When::Unlearned && !answer.ports.is_empty() {
            let sniffed = vec![Jump(SNIFFED.into()).into()];
            return vec![condition.into_iter().chain(sniffed).collect()];
        }
        let end = condition.into_iter().chain(end).collect();
        for_ports(&answer.ports, &end)
    }

    fn route(&self, exit: Exit) -> Rule {
        let mark = match exit {
            Exit::Egress(address) => self.marks.get(&address),
            Exit::Bypass | Exit::NodeAddress | Exit::Drop(_) => None,
        };
        vec![mark.map_or(Accept, |mark| Goto(steer(*mark))).into()]
    }

    fn daddr(&self) -> Field {
        if self.v6 {
            Field::Ip6Daddr
        } else {
            Field::IpDaddr
        }
    }

    fn forbidding_name(&self, class: usize) -> Name {
        format!("forbid{}-{:016x}-{class}", self.digit(), self.digest).into()
    }

    fn digit(&self) -> char {
        if self.v6 { '6' } else { '4' }
    }

    fn class_name(&self, side: Side, number: usize) -> Name {
        format!("{}-{number}", self.name(side)).into()
    }

    fn name(&self, side: Side) -> Name {
        let side = match side {
            Side::Route => "route",
            Side::Translate => "translate",
            Side::Check => "check",
        };
        format!("{side}{}-{:016x}", self.digit(), self.digest).into()
    }
}

/// The chain that accepts one egress address on its uplink, its name, for `check`.
pub fn leaves_as(leads: Leads) -> (Name, Chain) {
    let address = leads.address;
    let (saddr, usable) = if address.is_ipv6() {
        (Field::Ip6Saddr, "usable6")
    } else {
        (Field::IpSaddr, "usable4")
    };
    let ours = || is(saddr, Value::Address(address));
    let on_its_uplink = || [ours(), lookup(&[saddr, Field::Oif], usable)];
    let right = on_its_uplink()
        .into_iter()
        .chain([SourceIsLocal, Accept.into()]);
    let mut rules = vec![right.collect()];
    rules.extend(leads.drains.then(|| drains(address.is_ipv6())));
    rules.extend([
        on_its_uplink()
            .into_iter()
            .chain(goto_drop(Reason::AddressLost))
            .collect(),
        on(ours(), goto_drop(Reason::WrongUplink)),
        goto_drop(Reason::WrongSource),
    ]);
    (leaves_as_name(leads), plain(rules))
}

/// Colons are nothing that `nft` takes in a name.
fn leaves_as_name(leads: Leads) -> Name {
    let address = leads.address.to_string().replace(':', "_");
    let before = if leads.drains { "-or-as-before" } else { "" };
    format!("leaves-as-{address}{before}").into()
}

fn translate(exit: Exit) -> Rule {
    match exit {
        Exit::Egress(address) => vec![Snat(address)],
        Exit::Bypass | Exit::NodeAddress | Exit::Drop(_) => vec![Accept.into()],
    }
}

fn check(answer: &Answer) -> Rule {
    match answer.exit {
        Exit::Egress(address) => {
            let drains = answer.drains;
            vec![Goto(leaves_as_name(Leads { address, drains })).into()]
        }
        Exit::Bypass | Exit::NodeAddress => vec![Accept.into()],
        Exit::Drop(refusal) => goto_drop(refusal.into()),
    }
}

/// The chain for destinations without a name.
const SNIFFED: &str = "sniffed";

/// What the gateway must see goes by it only: the chain, and its name.
pub fn sniffed() -> (Name, Chain) {
    let rules = for_ports(&SNIFFED_PORTS, &goto_drop(Reason::ByGateway));
    (SNIFFED.into(), plain(rules))
}

/// Drops what no name may lead to; what comes first by its ports is not forbidden.
fn forbidding_rules(answer: &Answer) -> Vec<Rule> {
    let end = if answer.forbids {
        check(answer)
    } else {
        vec![Return.into()]
    };
    for_ports(&answer.ports, &end)
}

/// One rule for each range of ports; one for all protocols where there is none.
fn for_ports(ranges: &[PortRange], end: &Rule) -> Vec<Rule> {
    if ranges.is_empty() {
        return vec![end.clone()];
    }
    let ranges = ranges.iter();
    ranges
        .map(|range| ports(*range).into_iter().chain(end.clone()).collect())
        .collect()
}

fn ports(range: PortRange) -> [Statement; 2] {
    let protocol = match range.protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    };
    let between = if range.first == range.last {
        Compare {
            field: Field::ThDport,
            not: false,
            value: Value::Short(range.first),
        }
    } else {
        PortsBetween {
            field: Field::ThDport,
            first: Value::Short(range.first),
            last: Value::Short(range.last),
        }
    };
    [is(Field::L4Proto, Value::Byte(protocol)), between]
}
