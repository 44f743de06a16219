//! Which workloads a selector means.

use std::collections::BTreeMap;

use super::Selector;
use crate::workload::{Network, Workload, is_called};

/// The name a network has in its compose file.
const COMPOSE_NETWORK: &str = "com.docker.compose.network";

impl Selector {
    /// Whether this container is meant. A process never is, and clients from outside are none.
    ///
    /// 1. every label is there, with its value;
    /// 2. a glob matches the container's name, if there are any;
    /// 3. the container is on one of the networks, if there are any. `networks` are the
    ///    engine's by name: a network that is not in it is known by its full name only.
    pub fn matches(&self, workload: &Workload, networks: &BTreeMap<String, Network>) -> bool {
        workload.kind.engine().is_some()
            && self.clients.is_none()
            && self
                .labels
                .iter()
                .all(|(key, value)| workload.labels.get(key) == Some(value.as_str()))
            && (self.names.is_empty() || self.names.iter().any(|n| glob(n, &workload.name)))
            && (self.networks.is_empty()
                || workload.endpoints.iter().any(|endpoint| {
                    self.names_network(&endpoint.network, networks.get(&endpoint.network))
                }))
    }

    /// Whether one of `networks` is this one, by its full name, with or without
    /// the engine's, or by the one in its compose file.
    pub fn names_network(&self, name: &str, network: Option<&Network>) -> bool {
        let short = network.and_then(|n| n.labels.get(COMPOSE_NETWORK));
        self.networks
            .iter()
            .any(|n| is_called(name, n) || Some(n) == short)
    }
}

/// Whether `text` matches a pattern of literal characters, `*` (any number) and `?` (one).
///
/// In time of at most the product of the lengths: only the last `*` is ever tried again,
/// since an earlier one could not reach further.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    let mut retry = None;
    loop {
        let (rest, here) = (pattern.clone(), text.clone());
        match (pattern.next(), text.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                text = here.clone();
                retry = Some((pattern.clone(), here));
                // At the text's end only stars may follow.
                if text.as_str().is_empty() {
                    return rest.as_str().chars().all(|c| c == '*');
                }
            }
            (Some('?'), Some(_)) => {}
            (Some(p), Some(t)) if p == t => {}
            _ => {
                let Some((after, mut from)) = retry.take() else {
                    return false;
                };
                if from.next().is_none() {
                    return false;
                }
                pattern = after.clone();
                text = from.clone();
                retry = Some((after, from));
            }
        }
    }
}

#[cfg(test)]
mod tests;
