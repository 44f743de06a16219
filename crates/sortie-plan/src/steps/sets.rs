//! What the elements of sets mean for flows, by the sets' names.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Place;
use crate::flow::Source;
use crate::nft::Elements;
use crate::nft::key::Key;
use crate::nft::set::Data;

/// In which set rules count for the addresses or cgroups of a set.
pub(super) const COUNTS: [(&str, &str); 6] = [
    ("known4", "dropped4"),
    ("known6", "dropped6"),
    ("managed4", "dropped4"),
    ("managed6", "dropped6"),
    ("cgroup-managed4", "cgroup-dropped4"),
    ("cgroup-managed6", "cgroup-dropped6"),
];
/// Sets of ranges, which may not overlap.
pub(super) const RANGES: [&str; 2] = ["local4", "local6"];
/// The drains among these elements: a workload's own address, a former egress address.
pub(super) fn drained(
    changes: &BTreeMap<Place, Elements>,
) -> impl Iterator<Item = (IpAddr, IpAddr)> {
    in_sets(changes, &["drains4", "drains6"])
        .flat_map(|(_, elements)| elements)
        .filter_map(|(key, _)| key.drain_parts())
        .map(|(source, address, _)| (source, address))
}

/// The addresses among these elements of workloads that are let by.
pub(super) fn bypassed(changes: &BTreeMap<Place, Elements>) -> impl Iterator<Item = Source> {
    sources(in_sets(changes, &["bypassed4", "bypassed6"])).map(|(source, _)| source)
}

pub(super) const MANAGED: [&str; 4] =
    ["managed4", "managed6", "cgroup-managed4", "cgroup-managed6"];
pub(super) const SNAT: [&str; 4] = ["snat4", "snat6", "cgroup-snat4", "cgroup-snat6"];
pub(super) const TRANSLATE: [&str; 4] = [
    "translate4",
    "translate6",
    "cgroup-translate4",
    "cgroup-translate6",
];
/// The sets that translate one kind of source, of one family.
pub(super) const TRANSLATIONS: [[&str; 2]; 4] = [
    [SNAT[0], TRANSLATE[0]],
    [SNAT[1], TRANSLATE[1]],
    [SNAT[2], TRANSLATE[2]],
    [SNAT[3], TRANSLATE[3]],
];

pub(super) fn translates(set: &str) -> bool {
    TRANSLATIONS.as_flattened().contains(&set)
}

/// A set's place, and its elements among changes.
pub(super) type InSet<'a> = (&'a Place, &'a Elements);

pub(super) fn in_sets<'a>(
    changes: &'a BTreeMap<Place, Elements>,
    names: &'static [&'static str],
) -> impl Iterator<Item = InSet<'a>> {
    changes
        .iter()
        .filter(|((_, set), _)| names.contains(&&**set))
}

/// Whose flows the elements of these sets are about.
pub(super) fn sources<'a>(
    sets: impl Iterator<Item = InSet<'a>>,
) -> impl Iterator<Item = (Source, &'a Data)> {
    sets.flat_map(|((_, set), elements)| {
        elements
            .iter()
            .filter_map(move |(key, data)| Some((source(set, key)?, data)))
    })
}

/// Whose flows an element is about, whose key is nothing else.
fn source(set: &str, key: &Key) -> Option<Source> {
    if set.starts_with("cgroup-") {
        let v6 = set.ends_with('6');
        let id = key.as_cgroup()?;
        return Some(Source::Cgroup { id, v6 });
    }
    key.as_ip().map(Source::Address)
}

pub(super) fn bound(changes: &BTreeMap<Place, Elements>) -> impl Iterator<Item = Source> {
    let elements = in_sets(changes, &["bound4", "bound6"]).flat_map(|(_, elements)| elements);
    elements.filter_map(|(key, _)| key.bound_ip().map(Source::Address))
}
