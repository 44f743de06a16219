//! A policy on its way to another process of this program: whole, a label's too.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    Action, Destination, EgressPolicy, Enforcement, OnChange, OnUnavailable, Owner, PolicyName,
    Selector, Unlearned,
};

/// A policy that is equal when it is read back, whoever wrote it. [`EgressPolicy`] itself is
/// serialised as a file's text, which does not say whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried(pub Arc<EgressPolicy>);

/// Field by field.
#[derive(Serialize, Deserialize)]
#[serde(remote = "EgressPolicy", rename_all = "camelCase")]
struct Whole {
    name: PolicyName,
    owner: Owner,
    priority: u16,
    workloads: Vec<Selector>,
    destinations: Vec<Destination>,
    action: Action,
    on_unavailable: OnUnavailable,
    on_change: OnChange,
    enforcement: Enforcement,
    unlearned: Unlearned,
    only_these_hosts: bool,
}

impl Serialize for Carried {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Whole::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Carried {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Arc::new(Whole::deserialize(deserializer)?)))
    }
}
