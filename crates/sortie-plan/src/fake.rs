//! A kernel that only keeps what it is told, for property tests: it refuses what the real one would.

use std::collections::BTreeMap;

use crate::nft::{Elements, Family};
use crate::op::{NftOp, Op};
use crate::state::{Held, Observed, ObservedTable};

/// Does what the steps say, and panics where the kernel would refuse.
pub(crate) fn apply(observed: &mut Observed, ops: &[Op]) {
    for op in ops {
        let network = &mut observed.network;
        match op.clone() {
            Op::Nft(family, op) => nft(&mut observed.tables, family, op),
            Op::ForgetFlows { .. } | Op::LetPass | Op::DropWaiting(_) | Op::Announce(_) => {}
            Op::AddRoute(route) => drop(network.routes.insert(route)),
            Op::DeleteRoute(route) => drop(network.routes.remove(&route)),
            Op::AddRule(rule) => drop(network.rules.insert(rule)),
            Op::DeleteRule(rule) => drop(network.rules.remove(&rule)),
            Op::AddNeighbour(neighbour) => drop(network.neighbours.insert(neighbour)),
            Op::DeleteNeighbour(neighbour) => drop(network.neighbours.remove(&neighbour)),
            Op::SetSysctl(sysctl, value) => drop(network.sysctls.insert(sysctl, value)),
            Op::RestoreSysctl(sysctl) => drop(network.sysctls.remove(&sysctl)),
            Op::AddForwarded(name) => drop(network.forwarded.insert(name)),
            Op::DeleteForwarded(name) => drop(network.forwarded.remove(&name)),
            Op::AddOwn(own) => drop(network.own.insert(own, Held::Whole)),
            Op::DeleteOwn(own) => drop(network.own.remove(&own)),
            Op::AddRedirect(pid, redirect) => drop(network.redirects.insert(pid, redirect)),
            Op::ChangeDirect { pid, come, gone } => {
                let redirect = network.redirects.get_mut(&pid).expect("a redirect");
                redirect.direct.extend(come);
                redirect.direct.retain(|address| !gone.contains(address));
            }
            Op::DeleteRedirect(pid) => drop(network.redirects.remove(&pid)),
        }
    }
}

fn nft(tables: &mut BTreeMap<Family, ObservedTable>, family: Family, op: NftOp) {
    match op {
        NftOp::AddTable(tag) => {
            assert!(!tables.contains_key(&family), "the table {family} is there");
            tables.insert(
                family,
                ObservedTable {
                    tag,
                    ..ObservedTable::default()
                },
            );
            return;
        }
        NftOp::DeleteTable => {
            tables.remove(&family).expect("the table to delete");
            return;
        }
        _ => {}
    }
    let table = tables.get_mut(&family).expect("a table");
    match op {
        NftOp::AddTable(_) | NftOp::DeleteTable | NftOp::AddCounter(_) | NftOp::FlushChain(_) => {}
        NftOp::AddSet(name, _) => {
            assert!(
                table.sets.insert(name.clone(), Elements::new()).is_none(),
                "the set {name} is there"
            );
        }
        NftOp::DeleteSet(name) => drop(table.sets.remove(&name).expect("the set to delete")),
        NftOp::AddChain(name, _) => assert!(
            table.chains.insert(name.clone()),
            "the chain {name} is there"
        ),
        NftOp::AddRules(name, chain) => {
            assert!(table.chains.contains(&name));
            for statement in chain.rules.iter().flatten() {
                assert!(
                    statement
                        .set()
                        .is_none_or(|set| table.sets.contains_key(set)),
                    "{statement} asks no set"
                );
                let to = statement.chain();
                assert!(
                    to.is_none_or(|chain| table.chains.contains(chain)),
                    "{statement} leads nowhere"
                );
            }
        }
        NftOp::DeleteChain(name) => {
            let named = table
                .sets
                .values()
                .flat_map(|set| set.values())
                .any(|data| data.chain() == Some(&name));
            assert!(!named, "elements lead to {name}");
            assert!(table.chains.remove(&name), "the chain {name} to delete");
        }
        NftOp::AddElements(set, elements) => {
            for (key, data) in elements {
                assert!(
                    data.chain()
                        .is_none_or(|chain| table.chains.contains(chain)),
                    "no chain for {data:?}"
                );
                let found = table
                    .sets
                    .get_mut(&set)
                    .expect("a set")
                    .insert(key, data.clone());
                assert!(
                    found.is_none_or(|found| found == data),
                    "another element is there: {set} {key:?}"
                );
            }
        }
        NftOp::DeleteElements(set, elements) => {
            for (key, _) in elements {
                let found = table.sets.get_mut(&set).expect("a set").remove(&key);
                // Rules put elements there, or not.
                assert!(
                    found.is_some() || set.contains("dropped"),
                    "the element to delete"
                );
            }
        }
    }
}
