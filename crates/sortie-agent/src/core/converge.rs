//! The kernel holds what the plan wants: steps done, compared, and tried again.

use std::time::{Duration, Instant};

use sortie_kernel::Look;
use sortie_kernel::kernel::Unapplied;
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
    /// What was not done; none where that is not known.
    undone: Option<Vec<Op>>,
}

impl Failing {
    /// Whether any of these steps may not be done. A change of our tables is one for all workloads.
    pub(super) fn concerns(&self, ops: &[Op]) -> bool {
        self.undone.as_ref().is_none_or(|undone| {
            let of_all = |op: &Op| matches!(op, Op::Nft(..) | Op::ForgetFlows { .. });
            undone.iter().any(|op| of_all(op) || ops.contains(op))
        })
    }
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
                kernel.apply_parts(planner.adopt(&observed))
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
            Err(Unapplied { error, steps }) => self.fails(error.to_string(), Some(steps)),
        }
    }

    /// The same after something failed: it may have been for an interface that is not there any more.
    pub(super) fn try_again(&mut self) {
        match self.see_host() {
            // The comparison makes the steps.
            Ok(_) => self.converge(),
            Err(error) => self.failed(&error.to_string()),
        }
    }

    /// The steps of one change. When one fails, the whole is compared and tried again.
    pub(super) fn apply(&mut self, ops: &[Op]) {
        // Nobody waits for these: what fails is told by `status`.
        let _ = self.enforce(ops);
    }

    /// The same for somebody who waits to be told whether these steps are in force, whatever else
    /// cannot be done yet; else why not.
    pub(super) fn enforce(&mut self, ops: &[Op]) -> Result<(), String> {
        if !ops.is_empty() {
            let Err(error) = self.timed(|_, kernel| kernel.apply(ops)) else {
                return Ok(());
            };
            tracing::warn!(%error, "a step failed; comparing everything");
            self.try_again();
        }
        match &self.failing {
            Some(failing) if failing.concerns(ops) => {
                Err(format!("the kernel refused a step: {}", failing.error))
            }
            _ => Ok(()),
        }
    }

    /// What those are to be told whose own change is in force, where something else is not.
    pub(super) fn warning(&self) -> Option<String> {
        let failing = self.failing.as_ref()?;
        Some(format!(
            "something else cannot be done yet, and is tried again: {}",
            failing.error
        ))
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

    /// What answers for direct addresses goes without a word.
    pub(super) fn look_at_neighbours(&mut self) {
        let wanted = &self.planner.desired_network().neighbours;
        if wanted.is_empty() || self.failing.is_some() {
            return;
        }
        match self.kernel.answered() {
            Ok(answered) if wanted.iter().all(|it| answered.contains(&it.address)) => {}
            Ok(_) => self.repair_network(Look::Nowhere),
            Err(error) => self.failed(&error.to_string()),
        }
    }

    pub(super) fn failed(&mut self, error: &str) {
        self.fails(error.to_owned(), None);
    }

    fn fails(&mut self, error: String, undone: Option<Vec<Op>>) {
        let pause = self
            .failing
            .as_ref()
            .map_or(RETRY.0, |failing| (failing.pause * 2).min(RETRY.1));
        tracing::error!(
            error,
            "the kernel does not hold what it should; trying again"
        );
        self.failing = Some(Failing {
            error,
            due: Instant::now() + pause,
            pause,
            undone,
        });
    }
}
