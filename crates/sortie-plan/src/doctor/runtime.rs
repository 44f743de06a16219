//! The OCI runtime that holds containers' starts: what became of it since it was installed.

use sortie_api::workload::Engine;

use super::facts::{Facts, Runtime};
use super::{Finding, Severity};

/// Makes link and settings anew, and the engine's default.
fn install(engine: Engine) -> String {
    format!("sortie install {}", engine.name())
}

/// The engine calls the link for each container that has the runtime, also to stop it.
pub(super) fn link(facts: &Facts, findings: &mut Vec<Finding>) {
    findings.extend(facts.runtimes.iter().filter_map(link_of));
}

fn link_of(runtime: &Runtime) -> Option<Finding> {
    let (name, severity, why) = match &runtime.program {
        None => (
            "runtime-broken",
            Severity::Error,
            "it is not there: containers that have the runtime can be neither started nor stopped"
                .to_owned(),
        ),
        Some(program) if !runtime.found => (
            "runtime-broken",
            Severity::Error,
            format!(
                "it leads to {program}, which is not there: containers that have the runtime can be neither started nor stopped"
            ),
        ),
        Some(program) if *program != runtime.this => (
            "runtime-another",
            Severity::Warning,
            format!(
                "it leads to {program}, and this program is {}: starts are held by another version",
                runtime.this
            ),
        ),
        Some(_) => return None,
    };
    Some(Finding {
        name,
        severity,
        object: runtime.link.clone(),
        why,
        fix: install(runtime.engine),
    })
}

/// Steps, in order:
/// 1. An engine that knows the runtime should have it as its default.
/// 2. So should its API service, which may have been started before.
/// 3. Then containers without it are those of before.
pub(super) fn engine(facts: &Facts, findings: &mut Vec<Finding>) {
    findings.extend(facts.runtimes.iter().filter_map(answer_of));
}

fn answer_of(runtime: &Runtime) -> Option<Finding> {
    let answer = runtime.answer.as_ref().filter(|answer| answer.known)?;
    let engine = runtime.engine;
    if !answer.is_default {
        return Some(Finding {
            name: "runtime-not-default",
            severity: Severity::Warning,
            object: answer.default.clone(),
            why: format!(
                "it is {engine}'s default runtime instead of Sortie's: new containers do not wait for their decision"
            ),
            fix: install(engine),
        });
    }
    if let Some(older) = &answer.older_service {
        return Some(Finding {
            name: "runtime-not-default",
            severity: Severity::Warning,
            object: older.clone(),
            why: format!(
                "{engine}'s API service was started before Sortie's runtime was installed, and has this one: new containers that are made through it do not wait for their decision"
            ),
            fix: "systemctl restart podman.service (containers go on)".to_owned(),
        });
    }
    if answer.others.is_empty() {
        return None;
    }
    let again = match engine {
        Engine::Docker => {
            "docker compose up --detach --force-recreate, or remove and run them again"
        }
        Engine::Podman => "remove and run them again",
    };
    Some(Finding {
        name: "runtime-unused",
        severity: Severity::Note,
        object: answer.others.join(", "),
        why: "their starts do not wait for a decision: a container keeps the runtime that it was made with".to_owned(),
        fix: again.to_owned(),
    })
}
