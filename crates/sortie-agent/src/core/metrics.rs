//! What the core tells of itself to Prometheus, on its own time.

use std::time::{Duration, Instant};

use sortie_kernel::failpoint::Step;
use sortie_kernel::kernel::{Kernel, Unapplied};
use sortie_plan::planner::Planner;

use super::Core;
use super::workload_state::standing;
use crate::Error;
use crate::api::{EngineState, WorkloadState};
use crate::metrics::{Metrics, Sample};

/// Between two samples. Scrapes are seldom closer, and one costs as much as a look at all workloads.
const SAMPLED: Duration = Duration::from_secs(5);

/// Where samples go, and what only they need.
pub(super) struct Telling {
    metrics: Metrics,
    due: Instant,
}

/// What happened since the agent started.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) right: u64,
    pub(super) any: u64,
    pub(super) leaks: u64,
    /// How often reports of flows or drops were lost.
    pub(super) proof_losses: u64,
    /// How often what others had changed was put right.
    pub(super) repairs: u64,
}

impl Core {
    /// Samples go there from now on.
    pub fn tell_to(&mut self, metrics: Metrics) {
        self.telling = Some(Telling {
            metrics,
            due: Instant::now(),
        });
    }

    pub(super) fn sample_due(&self) -> Option<Instant> {
        self.telling.as_ref().map(|telling| telling.due)
    }

    /// The kernel does the steps of a change.
    pub(super) fn timed(
        &mut self,
        steps: impl FnOnce(&Planner, &mut Kernel) -> Result<(), Unapplied>,
    ) -> Result<(), Unapplied> {
        let begun = Instant::now();
        let done = steps(&self.planner, &mut self.kernel);
        if let Some(telling) = &self.telling {
            telling.metrics.applied(begun.elapsed().as_secs_f64());
        }
        done
    }

    /// When it is time.
    pub(super) fn tell_metrics(&mut self, now: Instant) {
        if self.sample_due().is_none_or(|due| due > now) {
            return;
        }
        let sample = self.sample();
        let Some(telling) = &mut self.telling else {
            return;
        };
        telling.due = now + SAMPLED;
        match sample {
            Ok(sample) => telling.metrics.tell(sample),
            Err(error) => tracing::warn!(%error, "metrics stay as they were"),
        }
    }

    fn sample(&mut self) -> Result<Sample, Error> {
        let dropped = self.packets_by_reason()?;
        let states = [
            ("ready", WorkloadState::Ready),
            ("blocked", WorkloadState::Blocked),
            ("error", WorkloadState::Error),
            ("bypassed", WorkloadState::Bypassed),
            ("unmanaged", WorkloadState::Unmanaged),
        ];
        let mut workloads = states.map(|(name, _)| (name, 0));
        for tracked in self.planner.workloads().values() {
            let (state, ..) = standing(&self.planner, tracked);
            for ((_, count), (_, of)) in workloads.iter_mut().zip(states) {
                *count += u64::from(state == of);
            }
        }
        let (mut usable, mut unusable) = (0, 0);
        for address in self.planner.egress_addresses() {
            match self.unusable(address) {
                None => usable += 1,
                Some(_) => unusable += 1,
            }
        }
        let problems = u64::try_from(self.problems().len()).unwrap_or(u64::MAX);
        let busiest = self.busiest_ports();
        let applied = self.kernel.applied();
        Ok(Sample {
            workloads: workloads.to_vec(),
            addresses_usable: usable,
            addresses_unusable: unusable,
            engines: self
                .engines
                .iter()
                .map(|it| {
                    (
                        it.engine.name(),
                        it.status(self.planner.environment()).state,
                    )
                })
                .filter(|(_, state)| *state != EngineState::Absent)
                .map(|(name, state)| (name, u64::from(state == EngineState::Connected)))
                .collect(),
            converged: self.failing.is_none(),
            problems,
            dropped,
            flows: vec![
                ("right", self.counts.right),
                ("leak", self.counts.leaks),
                ("any", self.counts.any),
            ],
            leaks: self.counts.leaks,
            lost_reports: self.counts.proof_losses,
            steps: Step::ALL
                .iter()
                .map(|step| (step.name(), applied.get(step).copied().unwrap_or_default()))
                .collect(),
            repairs: self.counts.repairs + self.foreign_changes,
            audits: self.audits.status(&self.planner),
            source_ports_max: busiest
                .values()
                .map(|ports| u64::from(ports.used))
                .max()
                .unwrap_or_default(),
        })
    }
}
