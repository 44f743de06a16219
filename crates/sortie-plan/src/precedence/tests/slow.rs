//! What decides, found the slow and obvious way: all that covers, put into numbers that are compared.

use std::cmp::Reverse;

use sortie_api::policy::{
    Action, Destination, EgressPolicy, HttpMatch, Owner, PathPattern, Protocol, Request, Unlearned,
};

use crate::precedence::Target;

/// The name of the policy that decides, and whether it denies.
pub(super) fn reference<'p>(
    policies: &'p [EgressPolicy],
    target: Target<'_>,
) -> Option<(&'p str, bool)> {
    let mut found: Vec<Found<'_>> = policies.iter().flat_map(|p| all(p, target)).collect();
    found.sort_by_key(|found| (Reverse(found.key.clone()), &found.policy.name));
    let best = found.first()?;
    let denies = |found: &Found<'_>| found.policy.action == Action::Deny;
    let by_address = found.iter().find(|found| found.kind < HOST);
    if best.kind >= HOST
        && let Some(address) = by_address.filter(|found| found.kind == CIDR && denies(found))
    {
        return Some((&address.policy.name.0, true));
    }
    Some((&best.policy.name.0, best.kind == UNLEARNED || denies(best)))
}

const EVERYTHING: usize = 0;
const UNLEARNED: usize = 1;
const CIDR: usize = 2;
const HOST: usize = 3;
const REQUEST: usize = 4;

struct Found<'p> {
    /// Compared number by number; the greater comes first.
    key: Vec<usize>,
    kind: usize,
    policy: &'p EgressPolicy,
}

fn all<'p>(policy: &'p EgressPolicy, target: Target<'_>) -> Vec<Found<'p>> {
    let mut found: Vec<(Vec<usize>, bool)> = Vec::new();
    if policy.destinations.is_empty() {
        found.push((vec![EVERYTHING], false));
    }
    if policy.unlearned == Unlearned::Deny && target.name.is_none() {
        found.push((vec![UNLEARNED], false));
    }
    for destination in &policy.destinations {
        let mut ports: Vec<u16> = destination.ports.iter().map(|range| range.first).collect();
        if ports.is_empty() && destination.http.is_some() {
            ports = vec![80, 443];
        }
        let wanted = |(protocol, port)| protocol == Protocol::Tcp && ports.contains(&port);
        if ports.is_empty() || target.port.is_some_and(wanted) {
            let keys = keys(destination, target).into_iter();
            found.extend(keys.map(|key| (key, !ports.is_empty())));
        }
    }
    let owner = match policy.owner {
        Owner::Workload => 4,
        Owner::Policy => 3,
        Owner::VirtualService => 2,
        Owner::Network => 1,
    };
    let whole = found.into_iter().map(|(mut key, ports)| {
        let kind = key[0];
        key.resize(7, 0);
        key.insert(0, policy.priority.into());
        key.extend([ports.into(), owner]);
        Found { key, kind, policy }
    });
    whole.collect()
}

/// The kind, and each kind's own numbers.
fn keys(destination: &Destination, target: Target<'_>) -> Vec<Vec<usize>> {
    if destination.hosts.is_empty() && destination.cidrs.is_empty() {
        return vec![vec![EVERYTHING]];
    }
    let mut keys = Vec::new();
    let mut except = destination.except.iter();
    let excepted = except.any(|except| except.contains(&target.ip));
    for cidr in &destination.cidrs {
        if cidr.contains(&target.ip) && !excepted {
            keys.push(vec![CIDR, cidr.prefix_len().into()]);
        }
    }
    for pattern in &destination.hosts {
        let name = target.name.unwrap_or_default();
        let Some([exact, labels]) = by_labels(&pattern.to_string(), name) else {
            continue;
        };
        match (&destination.http, target.request) {
            (None, _) => keys.push(vec![HOST, exact, labels]),
            (Some(_), None) => {}
            (Some(http), Some(request)) => {
                let matching = http
                    .matches
                    .iter()
                    .filter_map(|entry| by_parts(entry, request));
                keys.extend(matching.map(|[length, kind, methods]| {
                    vec![REQUEST, length, kind, methods, 0, exact, labels]
                }));
            }
        }
    }
    keys
}

/// Whether it is the name itself, and the number of labels behind a star.
fn by_labels(pattern: &str, name: &str) -> Option<[usize; 2]> {
    let lower = name.trim_end_matches('.').to_lowercase();
    if lower.is_empty() {
        return None;
    }
    let asked: Vec<&str> = lower.split('.').rev().collect();
    let wanted: Vec<&str> = pattern.split('.').rev().collect();
    match wanted.split_last() {
        Some((&"*", end)) => {
            let fits = asked.len() > end.len() && asked.starts_with(end);
            fits.then_some([0, end.len()])
        }
        _ => (asked == wanted).then_some([1, 0]),
    }
}

/// The length of what is fixed and one more, how much of the path it is, and whether there are methods.
fn by_parts(entry: &HttpMatch, request: &Request<'_>) -> Option<[usize; 3]> {
    let parts = |path: &str| -> Vec<String> {
        let parts = path.split('/').filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect()
    };
    let (length, kind) = match &entry.path {
        None => (0, 0),
        Some(PathPattern::Exact(path)) if path == request.path => (path.len() + 1, 3),
        Some(PathPattern::Prefix(path)) if parts(request.path).starts_with(&parts(path)) => {
            (path.len() + 1, 2)
        }
        Some(PathPattern::Regex(regex)) if regex.matches(request.path) => (regex.fixed() + 1, 1),
        Some(_) => return None,
    };
    let methods = &entry.methods;
    let named = methods.iter().any(|method| method == request.method);
    let methods = usize::from(!methods.is_empty());
    (methods == 0 || named).then_some([length, kind, methods])
}
