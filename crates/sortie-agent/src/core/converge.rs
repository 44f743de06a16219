//! The kernel holds what the plan wants: steps done, compared, and tried again.

use std::time::{Duration, Instant};

use sortie_kernel::Look;
use sortie_plan::diff;
use sortie_plan::op::Op;

use super::Core;

/// Pauses after a failed attempt to make the kernel hold what it should: the first, the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Why the kernel does not hold what it should, and when it is tried again.
pub(super) struct Failing {
    pub(super) error: String,
    pub(super) due: Instant,
    /// Before the attempt that is due.
    pause: Duration,
}

impl Core {
    /// Makes the kernel hold exactly what it should, whatever it holds; before the engine has told
    /// its containers, at least what is known.
    pub(super) fn converge(&mut self) {
        let mut observed = match self.kernel.observe() {
            Ok(observed) => observed,
            Err(error) => return self.failed(&error.to_string()),
        };
        self.distrust(&mut observed);
        if self.compared {
            self.recall_bypasses();
            self.planner.inherit(&observed);
        }
        let compared = self.compared;
        let done = self.timed(|planner, kernel| {
            if compared {
                let mut parts = planner.adopt(&observed);
                parts.try_for_each(|ops| kernel.apply(&ops))
            } else {
                kernel.apply(&planner.missing(&observed))
            }
        });
        match done {
            Ok(()) => {
                self.distrusted = false;
                if self.failing.take().is_some() {
                    tracing::info!("the kernel holds what it should again");
                }
            }
            Err(error) => self.failed(&error.to_string()),
        }
    }

    /// The steps of one change. When one fails, the whole is compared and tried again.
    pub(super) fn apply(&mut self, ops: &[Op]) {
        if ops.is_empty() {
            return;
        }
        if let Err(error) = self.timed(|_, kernel| kernel.apply(ops)) {
            tracing::warn!(%error, "a step failed; comparing everything");
            self.converge();
        }
    }

    /// What is outside nftables can be changed by others. Before the engine has told its containers,
    /// what is there for them stays.
    pub(super) fn repair_network(&mut self, look: Look) {
        let wanted = self.planner.desired_network();
        match self.kernel.observe_network(look) {
            Ok(found) if found == *wanted => {}
            Ok(found) => {
                let ops = if self.compared {
                    diff::network(&found, wanted)
                } else {
                    diff::network(&found, &diff::sparing(&found, wanted))
                };
                if ops.is_empty() {
                    return;
                }
                tracing::warn!(
                    steps = ops.len(),
                    "routes, rules or settings of ours were changed; repairing"
                );
                self.counts.repairs += 1;
                self.apply(&ops);
            }
            Err(error) => self.failed(&error.to_string()),
        }
    }

    pub(super) fn failed(&mut self, error: &str) {
        let pause = self
            .failing
            .as_ref()
            .map_or(RETRY.0, |failing| (failing.pause * 2).min(RETRY.1));
        tracing::error!(
            error,
            "the kernel does not hold what it should; trying again"
        );
        self.failing = Some(Failing {
            error: error.to_owned(),
            due: Instant::now() + pause,
            pause,
        });
    }
}
