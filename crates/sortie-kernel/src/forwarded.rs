//! Accept rules of ours in the forward chains of other programs that drop what they do not know.
//!
//! Docker sets the policy of FORWARD to drop, which also drops packets of interfaces that are none
//! of its own. The rules are such that iptables-nft can still list its tables.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use nfnetlink::chain::{ChainType, HookPoint, Policy};
use nfnetlink::expr::{Cmp, Expr, Exprs, Immediate, Meta, MetaKey, Selector, selectors};
use nfnetlink::{Batch, Chain, Datum, Family, Rule, Socket, Verdict};

use crate::error::{Error, netfilter};
use crate::lower::TABLE;

/// The comment that tells our rules apart.
const TAG: &str = "sortie";
/// Where Docker leaves room for others' rules, before its own.
const DOCKER_USER: &str = "DOCKER-USER";
/// The tables of iptables-legacy in the calling thread's namespace.
const LEGACY_TABLES: &str = "/proc/thread-self/net/ip_tables_names";

/// A chain that our rules go into.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    table: String,
    chain: String,
}

/// One rule of ours: this direction of this interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Direction {
    In,
    Out,
}

impl Direction {
    const BOTH: [Self; 2] = [Self::In, Self::Out];

    fn selector(self) -> Selector {
        match self {
            Self::In => selectors::META_IIFNAME,
            Self::Out => selectors::META_OIFNAME,
        }
    }
}

/// Ours, as found: where, for which interface and direction, and the handles.
struct Found {
    family: Family,
    place: Place,
    interface: String,
    direction: Direction,
    handle: u64,
}

/// Which chains drop, and what of ours is in their tables.
struct Survey {
    /// By family; a chain twice would get the rules twice.
    places: BTreeSet<(u8, Place)>,
    families: BTreeMap<u8, Family>,
    ours: Vec<Found>,
}

/// Lets an interface's packets through wherever they would be dropped; adds what is missing.
pub(crate) fn add(socket: &mut Socket, interface: &str) -> Result<(), Error> {
    let survey = survey(socket)?;
    let mut batch = Batch::new();
    for (family, place) in &survey.places {
        let Some(family) = survey.families.get(family) else {
            continue;
        };
        for direction in Direction::BOTH {
            if !survey.has(*family, place, interface, direction) {
                let exprs = Exprs::new(*family)
                    .eq(direction.selector(), interface)
                    .counter()
                    .accept();
                batch.insert_rule(
                    &Rule::new(*family, &*place.table, &*place.chain, exprs).comment(TAG),
                );
            }
        }
    }
    socket
        .commit(&batch)
        .map_err(netfilter("add accept rules to forward chains that drop"))?;
    if legacy_in_use() {
        return Err(Error::LegacyFirewall {
            interface: interface.to_owned(),
        });
    }
    Ok(())
}

/// Takes an interface's rules away, wherever they are.
pub(crate) fn delete(socket: &mut Socket, interface: &str) -> Result<(), Error> {
    let survey = survey(socket)?;
    remove(socket, &survey, |found| found.interface == interface)
}

/// Removes what is incomplete, as a crash leaves it: nobody would ask for its removal.
pub(crate) fn tidy(socket: &mut Socket) -> Result<(), Error> {
    let survey = survey(socket)?;
    let whole = survey.complete(&BTreeSet::new());
    remove(socket, &survey, |found| !whole.contains(&found.interface))
}

/// The interfaces that are let through everywhere: those that have rules of ours, and those asked
/// for, which need none where nothing drops.
pub(crate) fn complete(
    socket: &mut Socket,
    asked: &BTreeSet<String>,
) -> Result<BTreeSet<String>, Error> {
    Ok(survey(socket)?.complete(asked))
}

fn remove(
    socket: &mut Socket,
    survey: &Survey,
    unwanted: impl Fn(&Found) -> bool,
) -> Result<(), Error> {
    let mut batch = Batch::new();
    for found in survey.ours.iter().filter(|found| unwanted(found)) {
        let Place { table, chain } = &found.place;
        batch.delete_rule(found.family, table, chain, found.handle);
    }
    socket
        .commit(&batch)
        .map_err(netfilter("remove accept rules from forward chains"))
}

impl Survey {
    fn has(&self, family: Family, place: &Place, interface: &str, direction: Direction) -> bool {
        self.ours.iter().any(|found| {
            found.family == family
                && found.place == *place
                && found.interface == interface
                && found.direction == direction
        })
    }

    fn complete(&self, asked: &BTreeSet<String>) -> BTreeSet<String> {
        let tagged = self.ours.iter().map(|found| &found.interface);
        tagged
            .chain(asked)
            .filter(|interface| {
                self.places.iter().all(|(family, place)| {
                    self.families.get(family).is_none_or(|family| {
                        Direction::BOTH
                            .iter()
                            .all(|direction| self.has(*family, place, interface, *direction))
                    })
                })
            })
            .cloned()
            .collect()
    }
}

fn survey(socket: &mut Socket) -> Result<Survey, Error> {
    let failed = netfilter("look for forward chains that drop");
    let mut survey = Survey {
        places: BTreeSet::new(),
        families: BTreeMap::new(),
        ours: Vec::new(),
    };
    for family in [Family::Ip, Family::Ip6, Family::Inet] {
        survey.families.insert(family.number(), family);
        let chains = socket.chains(family).map_err(failed)?;
        let forward: Vec<&Chain> = chains.iter().filter(|chain| forwards(chain)).collect();
        let tables: BTreeSet<&str> = forward.iter().map(|chain| chain.table.as_str()).collect();
        for table in tables {
            let rules = socket.rules(family, table, None).map_err(failed)?;
            survey.ours.extend(rules.iter().filter_map(ours));
            for chain in forward.iter().filter(|chain| chain.table == table) {
                if drops(chain) {
                    survey.places.insert((
                        family.number(),
                        Place {
                            table: table.to_owned(),
                            chain: entrance(&chain.name, &rules).to_owned(),
                        },
                    ));
                }
            }
        }
    }
    Ok(survey)
}

fn forwards(chain: &Chain) -> bool {
    chain.table != TABLE
        && chain.hook.as_ref().is_some_and(|hook| {
            hook.point == HookPoint::FORWARD && hook.chain_type == ChainType::Filter
        })
}

fn drops(chain: &Chain) -> bool {
    chain
        .hook
        .as_ref()
        .is_some_and(|hook| hook.policy == Policy::Drop)
}

/// Docker keeps `DOCKER-USER` in front of all its rules and re-creates the rest.
fn entrance<'a>(forward: &'a str, rules: &[Rule]) -> &'a str {
    let asks_users = rules.iter().any(|rule| {
        rule.chain == forward
            && rule.exprs.iter().any(|expr| {
                matches!(expr, Expr::Immediate(Immediate { data: Datum::Verdict(Verdict::Jump(to)), .. }) if to == DOCKER_USER)
            })
    });
    if asks_users { DOCKER_USER } else { forward }
}

fn ours(rule: &Rule) -> Option<Found> {
    if rule.comment.as_deref() != Some(TAG) {
        return None;
    }
    let (direction, name) = rule.exprs.windows(2).find_map(|pair| match pair {
        [
            Expr::Meta(Meta::Load { key, .. }),
            Expr::Cmp(Cmp { data, .. }),
        ] if *key == MetaKey::IIFNAME => Some((Direction::In, data)),
        [
            Expr::Meta(Meta::Load { key, .. }),
            Expr::Cmp(Cmp { data, .. }),
        ] if *key == MetaKey::OIFNAME => Some((Direction::Out, data)),
        _ => None,
    })?;
    let name = String::from_utf8_lossy(name.as_slice());
    Some(Found {
        family: rule.family,
        place: Place {
            table: rule.table.clone(),
            chain: rule.chain.clone(),
        },
        interface: name.trim_end_matches('\0').to_owned(),
        direction,
        handle: rule.handle?,
    })
}

/// Whether iptables-legacy has a filter table here, which nf_tables does not show.
fn legacy_in_use() -> bool {
    fs::read_to_string(LEGACY_TABLES)
        .is_ok_and(|tables| tables.lines().any(|table| table == "filter"))
}
