//! Overlapping prefixes made into disjoint ranges of addresses, each with the candidates that
//! have a say there: what an nftables interval map can hold, and one look-up decides.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::precedence::{Candidate, Scope};

/// Addresses from `first` to `last`, both included, for which the same candidates are asked in the
/// same order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Lowest address.
    pub first: IpAddr,
    /// Highest address.
    pub last: IpAddr,
    /// Indexes into the candidates, the first to be asked first; the last may be the only one
    /// without ports. Never empty.
    pub candidates: Vec<usize>,
}

/// The ranges of one family, ascending; addresses that no candidate covers are in none.
///
/// 1. Each candidate covers its prefix without its exceptions, and one that goes by name everything;
///    where such a part begins and ends, the set of candidates changes.
/// 2. Between two such points the candidates are the same: in order, up to the first without ports,
///    behind which nobody is asked.
/// 3. Neighbours with the same candidates are one range.
///
/// Costs O(c log c) for c candidates and exceptions, and the size of the answer.
pub fn disjoint(candidates: &[Candidate<'_>], v6: bool) -> Vec<Range> {
    let mut changes: Vec<(u128, bool, usize)> = Vec::new();
    for (index, candidate) in candidates.iter().enumerate() {
        for (first, last) in covered(candidate, v6) {
            changes.push((first, true, index));
            if last < highest(v6) {
                changes.push((last + 1, false, index));
            }
        }
    }
    // At one point parts end before others begin, so that a candidate may do both.
    changes.sort_unstable();

    let mut ranges: Vec<Range> = Vec::new();
    let mut active = BTreeSet::new();
    let mut position = 0;
    while let Some(&(point, _, _)) = changes.get(position) {
        while let Some(&(_, begins, index)) =
            changes.get(position).filter(|change| change.0 == point)
        {
            if begins {
                active.insert(index);
            } else {
                active.remove(&index);
            }
            position += 1;
        }
        if active.is_empty() {
            continue;
        }
        let last = changes.get(position).map_or(highest(v6), |next| next.0 - 1);
        extend(
            &mut ranges,
            address(point, v6),
            address(last, v6),
            asked(candidates, &active),
        );
    }
    ranges
}

/// Step 2: in order, through the first that takes every port, whatever the name.
fn asked(candidates: &[Candidate<'_>], active: &BTreeSet<usize>) -> Vec<usize> {
    let mut asked = Vec::new();
    for &index in active {
        asked.push(index);
        let candidate = &candidates[index];
        let by_address = matches!(candidate.scope, Scope::Everything | Scope::Prefix(_));
        if by_address && candidate.ports().is_empty() {
            break;
        }
    }
    asked
}

/// Step 3.
fn extend(ranges: &mut Vec<Range>, first: IpAddr, last: IpAddr, candidates: Vec<usize>) {
    match ranges.last_mut() {
        Some(before)
            if before.candidates == candidates && number(before.last) + 1 == number(first) =>
        {
            before.last = last;
        }
        _ => ranges.push(Range {
            first,
            last,
            candidates,
        }),
    }
}

/// Step 1: the parts of one family that a candidate covers, ascending and apart.
fn covered(candidate: &Candidate<'_>, v6: bool) -> Vec<(u128, u128)> {
    let whole = match candidate.scope {
        Scope::Prefix(prefix) if is_v6(&prefix) == v6 => bounds(&prefix),
        Scope::Prefix(_) => return Vec::new(),
        // A name may have any address.
        Scope::Everything | Scope::Unlearned | Scope::Host(_) | Scope::Request { .. } => {
            (0, highest(v6))
        }
    };
    let mut except: Vec<_> = candidate
        .except()
        .iter()
        .filter(|e| is_v6(e) == v6)
        .map(bounds)
        .collect();
    except.sort_unstable();
    let mut parts = Vec::new();
    let mut next = whole.0;
    for (first, last) in except {
        if last < next || first > whole.1 {
            continue;
        }
        if first > next {
            parts.push((next, first - 1));
        }
        if last >= whole.1 {
            return parts;
        }
        next = last + 1;
    }
    parts.push((next, whole.1));
    parts
}

fn bounds(prefix: &IpNet) -> (u128, u128) {
    (number(prefix.network()), number(prefix.broadcast()))
}

fn is_v6(prefix: &IpNet) -> bool {
    matches!(prefix, IpNet::V6(_))
}

fn highest(v6: bool) -> u128 {
    if v6 { u128::MAX } else { u128::from(u32::MAX) }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn address(number: u128, v6: bool) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if !v6 => Ipv4Addr::from(number).into(),
        _ => Ipv6Addr::from(number).into(),
    }
}
