//! What a former agent left in the kernel for whoever had an address before somebody who starts.

use std::net::IpAddr;

use super::Planner;
use crate::nft::key::Key;
use crate::nft::set::Data;
use crate::nft::{Family, Name};
use crate::op::{NftOp, Op};
use crate::state::Observed;

impl Planner {
    /// The end of all that sets and maps hold by these addresses and that is wanted of nobody who is
    /// known. What a former agent left stays until the engines have told whose it is; but an engine
    /// that is away may have started and given the addresses to somebody else, for whom it is wrong.
    pub fn former(&self, observed: &Observed, addresses: &[IpAddr]) -> Vec<Op> {
        let desired = self.desired();
        let wanted = desired.tables.get(&Family::Inet);
        let found = observed.tables.get(&Family::Inet);
        let sets = found.into_iter().flat_map(|table| &table.sets);
        let ends = sets.filter_map(|(name, elements)| {
            let v6 = by_address(name)?;
            let set = wanted.and_then(|table| table.sets.get(name));
            let is_wanted = |(key, data): &(&Key, &Data)| {
                set.is_some_and(|set| set.elements.get(*key) == Some(*data))
            };
            let mut begins = Vec::new();
            for address in addresses.iter().filter(|address| address.is_ipv6() == v6) {
                begins.push(Key::new().ip(*address));
            }
            let is_of_them = |(key, _): &(&Key, &Data)| {
                let mut begins = begins.iter();
                begins.any(|begin| key.as_bytes().starts_with(begin.as_bytes()))
            };
            let ends = elements.iter().filter(is_of_them);
            let ends: Vec<(Key, Data)> = ends
                .filter(|element| !is_wanted(element))
                .map(|(key, data)| (*key, data.clone()))
                .collect();
            (!ends.is_empty())
                .then(|| Op::Nft(Family::Inet, NftOp::DeleteElements(name.clone(), ends)))
        });
        ends.collect()
    }
}

/// Whether a set is by addresses, and of IPv6: its name says so. Those of cgroups are not.
fn by_address(name: &Name) -> Option<bool> {
    let of_family = name.chars().find(char::is_ascii_digit);
    match of_family {
        _ if name.starts_with("cgroup") => None,
        Some('4') => Some(false),
        Some('6') => Some(true),
        _ => None,
    }
}
