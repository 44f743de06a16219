//! Policies as configuration of other programs, decided by the same pure functions as everywhere.
//! Pure.
//!
//! - [`envoy()`]: a bootstrap, with a forward proxy and a listener for redirected connections.
//! - [`istio()`]: what sends requests through the egress gateway, and gives each source there.
//!
//! What the other program cannot be told is a [`Warning`], and is refused there wherever it could
//! mean a wrong source.
#![forbid(unsafe_code)]

mod envoy;
mod istio;
mod names;
mod ports;
mod warnings;
mod way;

use serde_json::Value;
use sortie_api::policy::EgressPolicy;

pub use warnings::Warning;

/// What is printed.
#[derive(Debug, Clone, PartialEq)]
pub struct Export {
    /// YAML documents.
    pub documents: Vec<Value>,
    /// What of the policies is not in them, or needs a hand.
    pub warnings: Vec<Warning>,
}

/// An Envoy bootstrap that decides as for a workload that all of these policies select.
pub fn envoy(policies: &[EgressPolicy]) -> Export {
    Export {
        documents: vec![envoy::bootstrap(policies)],
        warnings: warnings::for_envoy(policies),
    }
}

/// Istio's resources, for exact names: all that the mesh sends to them.
pub fn istio(policies: &[EgressPolicy]) -> Export {
    Export {
        documents: istio::resources(policies),
        warnings: warnings::for_istio(policies),
    }
}
