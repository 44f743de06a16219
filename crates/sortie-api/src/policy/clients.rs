//! Clients of the gateway's explicit listener: what they have shown, and which policies mean them.

use std::collections::BTreeSet;

use super::{Clients, EgressPolicy};
use crate::workload::WorkloadId;

/// How ids of clients begin; no engine is called so.
const KIND: &str = "client/";

/// A client, by the names of what it has shown: one of the two at least.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Client {
    /// The token's name.
    pub token: Option<String>,
    /// The certificate's subject ([`crate::subject`]).
    pub certificate: Option<String>,
}

impl Client {
    /// Its id on a host.
    pub fn id(&self) -> WorkloadId {
        format!("{KIND}{}", self.name()).into()
    }

    /// As people call it. No token's name has a `+` or `=`, so no two clients have one name.
    pub fn name(&self) -> String {
        let shown = self.token.iter().chain(&self.certificate);
        shown.map(String::as_str).collect::<Vec<_>>().join("+")
    }

    /// Whether a policy means it.
    pub fn is_meant_by(&self, policy: &EgressPolicy) -> bool {
        selectors([policy]).any(|clients| clients.takes(self))
    }

    /// The same, without what none of these policies names: that makes no difference. None where
    /// nothing is left.
    pub fn among<'p>(self, policies: impl IntoIterator<Item = &'p EgressPolicy>) -> Option<Self> {
        let (mut token, mut certificate) = (None, None);
        for clients in selectors(policies) {
            let names = |list: &[String], it: &Option<String>| {
                it.as_ref().is_some_and(|it| list.contains(it))
            };
            if names(&clients.tokens, &self.token) {
                token.clone_from(&self.token);
            }
            if names(&clients.certificates, &self.certificate) {
                certificate.clone_from(&self.certificate);
            }
        }
        (token.is_some() || certificate.is_some()).then_some(Self { token, certificate })
    }

    /// Everyone that policies name; of who must show both, each pair.
    pub fn named<'p>(policies: impl IntoIterator<Item = &'p EgressPolicy>) -> BTreeSet<Self> {
        let any_of = |list: &[String]| -> Vec<Option<String>> {
            if list.is_empty() {
                return vec![None];
            }
            list.iter().cloned().map(Some).collect()
        };
        let mut all = BTreeSet::new();
        for clients in selectors(policies) {
            for token in any_of(&clients.tokens) {
                for certificate in any_of(&clients.certificates) {
                    let token = token.clone();
                    all.insert(Self { token, certificate });
                }
            }
        }
        all
    }
}

impl Clients {
    /// Whether it means a client: each kind of proof that it names was shown.
    pub fn takes(&self, client: &Client) -> bool {
        let shows = |names: &[String], shown: &Option<String>| {
            names.is_empty() || shown.as_ref().is_some_and(|it| names.contains(it))
        };
        shows(&self.tokens, &client.token) && shows(&self.certificates, &client.certificate)
    }
}

fn selectors<'p>(
    policies: impl IntoIterator<Item = &'p EgressPolicy>,
) -> impl Iterator<Item = &'p Clients> {
    let selectors = policies.into_iter().flat_map(|policy| &policy.workloads);
    selectors.filter_map(|selector| selector.clients.as_ref())
}
