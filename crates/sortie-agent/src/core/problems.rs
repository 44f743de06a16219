//! What needs somebody's attention beside workloads.

use std::net::SocketAddr;

use super::Core;
use crate::api::{EngineState, Problem};

impl Core {
    /// Each with what it is about and what to do.
    pub(super) fn problems(&mut self) -> Vec<Problem> {
        let uplinks = self.uplink_problems();
        let mut problems = Vec::new();
        let mut add = |object: &str, message: String| {
            problems.push(Problem {
                object: object.to_owned(),
                message,
            });
        };
        if let Some(problem) = &self.policies.problem {
            add(
                "policy folder",
                format!("refused; what ran before keeps running:\n{problem}"),
            );
        }
        let notes = self
            .engines
            .iter()
            .map(|it| ("networks are", &it.notes.problem));
        let policies = ("the last good policies are", &self.policies.unkept);
        for (what, problem) in [policies].into_iter().chain(notes) {
            if let Some(problem) = problem {
                add(
                    "state folder",
                    format!("{what} not kept for the next boot: {problem}"),
                );
            }
        }
        if let Some(failing) = &self.failing {
            add("kernel", failing.error.clone());
        }
        for feature in &self.missing {
            add("kernel", format!("no {feature}: {}", feature.meaning()));
        }
        let engines = self.engine_statuses();
        let nowhere = engines.iter().all(|it| it.state == EngineState::Absent);
        for engine in &engines {
            let message = match (engine.state, &engine.reason) {
                (EngineState::Away, Some(reason)) => {
                    format!("it does not answer: {reason}; its containers' rules stay as they are")
                }
                (EngineState::Absent, Some(reason)) if nowhere => {
                    format!("there is no engine: {reason}")
                }
                _ => continue,
            };
            add(&format!("engine {}", engine.name), message);
        }
        for errors in self.planner.network_errors() {
            add("network label", errors.to_string());
        }
        if self.foreign_changes > 0 {
            add(
                "tables",
                format!(
                    "another program changed or deleted them, {} times; they were made anew each time, and until then packets left unguarded",
                    self.foreign_changes
                ),
            );
        }
        for (address, ports) in self.scarce_ports() {
            let to = SocketAddr::new(ports.destination, ports.port);
            add(
                &address.to_string(),
                format!(
                    "{} of its {} source ports towards {to}/{} are in use; when there are no more, new connections there are dropped: give some workloads another address, or let them reuse connections",
                    ports.used, ports.of, ports.protocol
                ),
            );
        }
        if self.counts.proof_losses > 0 {
            add(
                "proof",
                "reports of flows or drops were lost: more came than could be read".to_owned(),
            );
        }
        problems.extend(uplinks);
        problems.extend(self.certificate_problems());
        problems
    }
}
