//! A candidate in words: what it means, and why it does not decide.

use crate::precedence::{Candidate, Scope, Target};
use crate::resolve::AllUsable;

pub(super) fn matches(candidate: &Candidate<'_>) -> String {
    let name = candidate
        .destination
        .and_then(|destination| destination.name.as_ref());
    let scope = scope(&candidate.scope);
    let ports = candidate.ports().iter().map(|range| {
        let protocol = format!("{:?}", range.protocol).to_lowercase();
        if range.first == range.last {
            format!("{protocol}/{}", range.first)
        } else {
            format!("{protocol}/{}-{}", range.first, range.last)
        }
    });
    let words: Vec<String> = name
        .map(|name| format!("{name}:"))
        .into_iter()
        .chain([scope])
        .chain(ports)
        .collect();
    words.join(" ")
}

/// What a candidate means, in a few words.
fn scope(scope: &Scope<'_>) -> String {
    match scope {
        Scope::Everything => "everything".to_owned(),
        Scope::Unlearned => "addresses that no look-up gave".to_owned(),
        Scope::Prefix(prefix) => prefix.to_string(),
        Scope::Host(host) => host.to_string(),
        Scope::Request { host, entry, .. } => {
            let Some(entry) = entry else {
                return format!("HTTP to {host}");
            };
            let methods = entry.methods.join("|");
            let path = entry.path.as_ref().map(ToString::to_string);
            let headers = entry
                .headers
                .iter()
                .map(|(name, value)| format!("{name}={value}"));
            let words = Some(methods).filter(|methods| !methods.is_empty());
            let to = format!("{host}{}", path.unwrap_or_default());
            let words: Vec<String> = words.into_iter().chain([to]).chain(headers).collect();
            words.join(" ")
        }
    }
}

pub(super) fn uncovered(candidate: &Candidate<'_>, target: Target<'_>) -> String {
    let elsewhere = match candidate.scope {
        Scope::Everything => None,
        Scope::Unlearned => target.name.map(|_| "a look-up gave the address"),
        Scope::Prefix(prefix) if !prefix.contains(&target.ip) => Some("another address"),
        Scope::Prefix(_) => {
            let mut except = candidate.except().iter();
            if let Some(except) = except.find(|except| except.contains(&target.ip)) {
                return format!("excepted by {except}");
            }
            None
        }
        Scope::Host(host) | Scope::Request { host, .. } => match target.name {
            None => Some("no name is known of the address"),
            Some(name) if !host.matches(name) => Some("another name"),
            Some(_) => None,
        },
    };
    if let Some(elsewhere) = elsewhere {
        return elsewhere.to_owned();
    }
    if !candidate.takes_port(target.port) {
        return "another port or protocol".to_owned();
    }
    match (candidate.scope, target.request) {
        (Scope::Request { .. }, None) => "no request is visible",
        _ => "another request",
    }
    .to_owned()
}

/// Why a candidate that covers the target lost: the first step of the order at which they differ.
pub(super) fn lost(winner: &Candidate<'_>, loser: &Candidate<'_>, target: Target<'_>) -> String {
    let by = winner.policy.name.0.as_str();
    if winner.denies_prefix() && loser.host().is_some() {
        format!("lost to {by}: it denies the address, and no name undoes that")
    } else if winner.policy.priority != loser.policy.priority {
        format!(
            "lost to {by}: priority {} over {}",
            winner.policy.priority, loser.policy.priority
        )
    } else if winner.specificity() != loser.specificity() {
        format!("lost to {by}: more specific destination")
    } else if winner.ports().is_empty() != loser.ports().is_empty() {
        format!("lost to {by}: ports named")
    } else if winner.policy.owner != loser.policy.owner {
        format!("lost to {by}: more specific owner")
    } else if winner.policy.name == loser.policy.name {
        "same policy".to_owned()
    } else if exits_differ(winner, loser, target) {
        format!("conflicts with {by}, which comes first by name")
    } else {
        format!("same as {by}")
    }
}

fn exits_differ(winner: &Candidate<'_>, loser: &Candidate<'_>, target: Target<'_>) -> bool {
    // Usability has no say in whether two policies disagree.
    let v6 = target.ip.is_ipv6();
    winner.exit(v6, &AllUsable) != loser.exit(v6, &AllUsable)
}
