//! The OCI runtime that holds containers' starts: what became of it since it was installed.

use super::facts::Facts;
use super::{Finding, Severity};

/// Makes link and settings anew, and the engine's default.
const INSTALL: &str = "sortie install docker";

/// The engine calls the link for each container that has the runtime, also to stop it.
pub(super) fn link(facts: &Facts, findings: &mut Vec<Finding>) {
    let Some(runtime) = &facts.runtime else {
        return;
    };
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
        Some(_) => return,
    };
    findings.push(Finding {
        name,
        severity,
        object: runtime.link.clone(),
        why,
        fix: INSTALL.to_owned(),
    });
}

/// Steps, in order:
/// 1. An engine that knows the runtime should have it as its default.
/// 2. Then containers without it are those of before.
pub(super) fn engine(facts: &Facts, findings: &mut Vec<Finding>) {
    let runtime = facts.runtime.as_ref();
    let Some(engine) = runtime.and_then(|runtime| runtime.engine.as_ref()) else {
        return;
    };
    if !engine.known {
        return;
    }
    if engine.default != "sortie" {
        findings.push(Finding {
            name: "runtime-not-default",
            severity: Severity::Warning,
            object: engine.default.clone(),
            why: "it is Docker's default runtime instead of Sortie's: new containers do not wait for their decision".to_owned(),
            fix: INSTALL.to_owned(),
        });
    } else if !engine.others.is_empty() {
        findings.push(Finding {
            name: "runtime-unused",
            severity: Severity::Note,
            object: engine.others.join(", "),
            why: "their starts do not wait for a decision: a container keeps the runtime that it was made with".to_owned(),
            fix: "docker compose up --detach --force-recreate, or remove and run them again".to_owned(),
        });
    }
}
