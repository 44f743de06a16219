//! What policies that only audit would have changed, counted.

use std::collections::HashMap;
use std::sync::Arc;

use sortie_api::workload::WorkloadId;
use sortie_plan::planner::audit::Outcome;

use super::{OTHERS, SERIES, series};

/// What one policy would have changed for one workload, and how often.
pub type Untold = HashMap<(Arc<str>, WorkloadId, Outcome), u64>;

/// Counts of what has ended, and of looked-up names.
#[derive(Debug, Clone, Default)]
pub struct Audits {
    /// Since the gateway was started.
    pub all: HashMap<(Arc<str>, Outcome), u64>,
    /// Since somebody was told; for each workload.
    untold: Untold,
}

impl Audits {
    /// One more.
    pub fn count(&mut self, policy: Arc<str>, workload: &WorkloadId, outcome: Outcome) {
        let others = (OTHERS.into(), outcome);
        *series(&mut self.all, (Arc::clone(&policy), outcome), others) += 1;
        let key = (policy, workload.clone(), outcome);
        // Who is told looks often, and counts are lower bounds.
        if self.untold.len() < SERIES || self.untold.contains_key(&key) {
            *self.untold.entry(key).or_default() += 1;
        }
    }

    /// Adds another one's, but for what it has to tell.
    pub fn add(&mut self, other: &Self) {
        for (of, count) in &other.all {
            *self.all.entry(of.clone()).or_default() += count;
        }
    }

    /// Tells what has not been told yet.
    pub fn tell(&mut self, to: &mut Untold) {
        for (of, count) in self.untold.drain() {
            *to.entry(of).or_default() += count;
        }
    }
}
