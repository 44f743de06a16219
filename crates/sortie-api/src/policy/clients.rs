//! Clients of the gateway's explicit listener: what they have shown, and which policies mean them.

use std::collections::BTreeSet;

use super::{Clients, EgressPolicy};
use crate::workload::WorkloadId;

/// How ids of clients begin; no engine is called so.
const KIND: &str = "client/";

/// A client, by the name of what it has shown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Client {
    /// The token's name.
    pub token: String,
}

impl Client {
    /// Its id on a host.
    pub fn id(&self) -> WorkloadId {
        format!("{KIND}{}", self.token).into()
    }

    /// As people call it.
    pub fn name(&self) -> &str {
        &self.token
    }

    /// Whether a policy means it.
    pub fn is_meant_by(&self, policy: &EgressPolicy) -> bool {
        let mut selectors = policy.workloads.iter();
        selectors.any(|selector| selector.clients.as_ref().is_some_and(|it| it.takes(self)))
    }

    /// Everyone that policies name.
    pub fn named<'p>(policies: impl Iterator<Item = &'p EgressPolicy>) -> BTreeSet<Self> {
        let selectors = policies.flat_map(|policy| &policy.workloads);
        let clients = selectors.filter_map(|selector| selector.clients.as_ref());
        let tokens = clients.flat_map(|clients| clients.tokens.iter().cloned());
        tokens.map(|token| Self { token }).collect()
    }
}

impl Clients {
    /// Whether it means a client: each kind of proof that it names was shown.
    pub fn takes(&self, client: &Client) -> bool {
        self.certificates.is_empty() && self.tokens.contains(&client.token)
    }
}
