//! What a leak test says: one line for people, one file for programs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde_json::json;
use sortie_lab::Result;

use super::Settings;
use super::fault::Faults;
use super::tally::Tally;
use crate::stage::Stage;

/// One engine's part.
pub(super) struct Run {
    settings: Settings,
    containers: usize,
    packets: u64,
    requests: u64,
    leaked: u64,
    dropped: u64,
    asked: usize,
    right: usize,
    faults: BTreeMap<&'static str, u32>,
    examples: Vec<String>,
}

impl Run {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            containers: 0,
            packets: 0,
            requests: 0,
            leaked: 0,
            dropped: 0,
            asked: 0,
            right: 0,
            faults: BTreeMap::new(),
            examples: Vec::new(),
        }
    }

    /// Tells how far it is.
    pub(super) fn progress(&self, lab: &Tally) {
        let (containers, packets) = (
            self.containers + lab.containers(),
            self.packets + lab.packets,
        );
        let leaked = self.leaked + lab.leaked;
        println!("  {containers} containers, {packets} packets, {leaked} leaked");
    }

    /// Adds what happened in one lab with so many containers.
    pub(super) fn add(
        &mut self,
        containers: usize,
        lab: &Tally,
        faults: &Faults,
        stage: &Stage,
    ) -> Result<()> {
        self.containers += containers;
        self.packets += lab.packets;
        self.requests += lab.requests.iter().sum::<u64>();
        self.leaked += lab.leaked;
        self.examples.extend(lab.examples.iter().cloned());
        let (asked, right) = lab.first();
        self.asked += asked;
        self.right += right;
        for (kind, count) in faults.struck() {
            *self.faults.entry(kind).or_default() += count;
        }
        let status = stage.json(&["status"])?;
        let drops = status["drops"].as_array().into_iter().flatten();
        self.dropped += drops
            .filter_map(|drop| drop["packets"].as_u64())
            .sum::<u64>();
        Ok(())
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "engine": self.settings.engine.to_string(),
            "guard": if self.settings.guard { "all" } else { "none" },
            "runtime": self.settings.runtime,
            "containers": self.containers,
            "packets": self.packets,
            "requests": self.requests,
            "leaked": self.leaked,
            "dropped": self.dropped,
            "startedUndisturbed": self.asked,
            "rightFirst": self.right,
            "faults": self.faults,
        })
    }
}

/// All of it.
pub(super) struct Report {
    seed: u64,
    runs: Vec<Run>,
}

impl Report {
    pub(super) fn of(seed: u64, runs: Vec<Run>) -> Self {
        Self { seed, runs }
    }

    /// Of the managed containers that were started undisturbed, how many there are and of how many
    /// the first packet was right at once: with the runtime, or without it.
    fn first(&self, runtime: bool) -> Option<(usize, usize)> {
        let mut runs = self
            .runs
            .iter()
            .filter(|run| run.settings.runtime == runtime)
            .peekable();
        runs.peek()?;
        Some(runs.fold((0, 0), |(asked, right), run| {
            (asked + run.asked, right + run.right)
        }))
    }

    fn sum(&self, of: impl Fn(&Run) -> u64) -> u64 {
        self.runs.iter().map(of).sum()
    }

    pub(super) fn leaked(&self) -> u64 {
        self.sum(|run| run.leaked)
    }

    pub(super) fn packets(&self) -> u64 {
        self.sum(|run| run.packets)
    }

    /// The first wrong frames.
    pub(super) fn examples(&self) -> String {
        let all = self
            .runs
            .iter()
            .flat_map(|run| run.examples.iter().cloned());
        all.collect::<Vec<_>>().join("\n")
    }

    fn count(&self, of: impl Fn(&Run) -> usize) -> usize {
        self.runs.iter().map(of).sum()
    }

    fn faults(&self) -> BTreeMap<&'static str, u32> {
        let mut faults = BTreeMap::new();
        for (kind, count) in self.runs.iter().flat_map(|run| &run.faults) {
            *faults.entry(*kind).or_default() += count;
        }
        faults
    }

    /// Writes the file for programs.
    pub(super) fn write(&self, path: &Path) {
        let report = json!({
            "seed": self.seed,
            "containers": self.count(|run| run.containers),
            "packets": self.packets(),
            "requests": self.sum(|run| run.requests),
            "leaked": self.leaked(),
            "dropped": self.sum(|run| run.dropped),
            "startedUndisturbed": self.count(|run| run.asked),
            "rightFirst": self.count(|run| run.right),
            "faults": self.faults(),
            "runs": self.runs.iter().map(Run::json).collect::<Vec<_>>(),
        });
        std::fs::write(path, format!("{report:#}\n"))
            .unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "leak test, seed {}: {} containers, {} packets, {} leaked, {} dropped, {} faults; the first \
             packet was right at once",
            self.seed,
            self.count(|run| run.containers),
            self.packets(),
            self.leaked(),
            self.sum(|run| run.dropped),
            self.faults().values().sum::<u32>(),
        )?;
        let mut separator = " for";
        for (runtime, with) in [(true, "with"), (false, "without")] {
            if let Some((asked, right)) = self.first(runtime) {
                write!(f, "{separator} {right} of {asked} {with} the runtime")?;
                separator = ",";
            }
        }
        let requests = self.sum(|run| run.requests);
        write!(
            f,
            " (managed containers whose start no fault disturbed); {requests} requests arrived"
        )
    }
}
