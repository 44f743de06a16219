//! What the resolver counts, for Prometheus. No label grows with workloads or names.

#[cfg(test)]
mod tests;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// How a client's message ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Outcome {
    /// Answered as the server wrote it.
    Unchanged,
    /// Answered otherwise than the server wrote it.
    Changed,
    /// The workload may look up other names only.
    Refused,
    /// A policy's name, and the kernel could not learn its addresses.
    NotLearned,
    /// A policy's name, and the server's answer cannot be read.
    BadAnswer,
    /// The server could not be reached.
    Unreachable,
    /// The server did not answer in time. The client was not answered either.
    Timeout,
    /// More lookups at once than one workload, or all of them, may have. Not answered.
    Overload,
    /// The message cannot be read, or where it was sent cannot be told.
    Malformed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: Outcome,
}

/// Counters that all parts share.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    queries: Family<ByOutcome, Counter>,
    cached: Counter,
    learned: Counter,
    workloads: Gauge,
}

impl Metrics {
    /// Puts them where a scrape finds them, as `…_dns_…`.
    pub fn register(&self, registry: &mut Registry) {
        let dns = registry.sub_registry_with_prefix("dns");
        dns.register(
            "queries",
            "Lookups, by how they ended",
            self.queries.clone(),
        );
        dns.register(
            "cached",
            "Lookups whose answer was known",
            self.cached.clone(),
        );
        dns.register(
            "learned_addresses",
            "Addresses that the kernel learned before a client did",
            self.learned.clone(),
        );
        dns.register(
            "workloads",
            "Workloads whose lookups pass through",
            self.workloads.clone(),
        );
    }

    /// How many lookups ended so.
    pub fn queries(&self, outcome: Outcome) -> u64 {
        self.queries.get_or_create(&ByOutcome { outcome }).get()
    }

    /// How many answers came out of the cache.
    pub fn cached(&self) -> u64 {
        self.cached.get()
    }

    pub(crate) fn ended(&self, outcome: Outcome) {
        self.queries.get_or_create(&ByOutcome { outcome }).inc();
    }

    pub(crate) fn was_cached(&self) {
        self.cached.inc();
    }

    pub(crate) fn learned(&self, addresses: usize) {
        self.learned
            .inc_by(u64::try_from(addresses).unwrap_or(u64::MAX));
    }

    pub(crate) fn serves(&self, workloads: usize) {
        self.workloads
            .set(i64::try_from(workloads).unwrap_or(i64::MAX));
    }
}
