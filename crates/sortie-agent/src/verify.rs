//! The active side of proof: connections from inside workloads to an observer, and what it saw.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use sortie_api::policy::Protocol;
use sortie_api::workload::Workload;
use sortie_plan::explain::Expected;
use sortie_plan::planner::Tracked;
use sortie_plan::precedence::Target;

use crate::Error;
use crate::api::{Verification, VerifyRequest};
use crate::core::{Core, Handle};
use crate::probe::{ObserverUrl, ProbeError, probe};

/// How long an observer may take to answer.
const LIMIT: Duration = Duration::from_secs(5);

/// Why a workload in the host's network namespace is not tried.
const IN_ITS_CGROUP: &str = "it is in the host's network namespace, and only what is started in the container has its address: try with `docker exec`";

/// One connection to be made.
struct Attempt {
    workload: String,
    policy: Option<String>,
    /// Of its process; none where a connection from there would not be the workload's.
    namespace: Option<PathBuf>,
    observer: ObserverUrl,
    expected: Expected,
}

/// Connects from each workload to each observer, one after the other for each workload.
pub async fn verify(handle: &Handle, request: VerifyRequest) -> Result<Vec<Verification>, Error> {
    let observers: Result<Vec<ObserverUrl>, _> =
        request.observers.iter().map(|url| url.parse()).collect();
    let observers = observers.map_err(|error: ProbeError| Error::Refused(error.to_string()))?;
    if observers.is_empty() {
        let example = "--observer http://ADDRESS:PORT/ (run `sortie observe` on a host outside)";
        return Err(Error::Refused(format!(
            "verify needs an observer to connect to: {example}"
        )));
    }
    let attempts = handle
        .call(move |core| core.attempts(&request.workloads, &observers))
        .await?;
    let probes = attempts
        .into_iter()
        .map(|attempt| tokio::task::spawn_blocking(move || made(&attempt)));
    let mut verifications = Vec::new();
    for probe in probes.collect::<Vec<_>>() {
        verifications.push(probe.await.map_err(|_| Error::Ending)?);
    }
    Ok(verifications)
}

fn made(attempt: &Attempt) -> Verification {
    let seen = attempt.namespace.as_ref();
    let seen = seen.map(|namespace| probe(namespace, &attempt.observer, LIMIT));
    let (seen, detail) = match seen {
        Some(Ok(seen)) => (Some(seen), None),
        Some(Err(error)) => (None, Some(error.to_string())),
        None => (None, Some(IN_ITS_CGROUP.to_owned())),
    };
    let (expected, verdict) = match &attempt.namespace {
        Some(_) => judge(attempt.expected, seen),
        None => (None, "untried"),
    };
    Verification {
        workload: attempt.workload.clone(),
        policy: attempt.policy.clone(),
        observer: attempt.observer.to_string(),
        expected,
        seen,
        verdict: verdict.to_owned(),
        detail,
    }
}

/// What was promised beside what was seen.
fn judge(expected: Expected, seen: Option<IpAddr>) -> (Option<IpAddr>, &'static str) {
    match (expected, seen) {
        (Expected::Source(promised), Some(seen)) if promised == seen => (Some(promised), "right"),
        (Expected::Source(promised), Some(_)) => (Some(promised), "wrong"),
        (Expected::Source(promised), None) => (Some(promised), "unreachable"),
        (Expected::Nothing, Some(_)) => (None, "wrong"),
        (Expected::Nothing, None) => (None, "blocked"),
        (Expected::Any, Some(_)) => (None, "unmanaged"),
        (Expected::Any, None) => (None, "unreachable"),
    }
}

fn namespace(workload: &Workload) -> Option<PathBuf> {
    let path = || PathBuf::from(format!("/proc/{}/ns/net", workload.pid));
    workload.cgroup.is_none().then(path)
}

impl Core {
    fn attempts(
        &self,
        wanted: &[String],
        observers: &[ObserverUrl],
    ) -> Result<Vec<Attempt>, Error> {
        let tracked: Vec<&Tracked> = if wanted.is_empty() {
            self.planner()
                .workloads()
                .values()
                .map(AsRef::as_ref)
                .filter(|tracked| tracked.placement.is_managed())
                .collect()
        } else {
            wanted
                .iter()
                .map(|name| self.find(name))
                .collect::<Result<_, _>>()?
        };
        let mut attempts = Vec::new();
        for tracked in tracked {
            for observer in observers {
                let address = observer.address;
                let protocol = if observer.protocol() == "udp" {
                    Protocol::Udp
                } else {
                    Protocol::Tcp
                };
                let target = Target::address(address.ip(), Some((protocol, address.port())));
                let explanation = self.planner().explain(tracked, target);
                attempts.push(Attempt {
                    workload: tracked.workload.name.clone(),
                    policy: explanation.policy,
                    namespace: namespace(&tracked.workload),
                    observer: observer.clone(),
                    expected: match explanation.verdict {
                        // The address is lost or the like: promised is that nothing arrives.
                        sortie_plan::explain::Verdict::Drop => Expected::Nothing,
                        _ => self.planner().expected(tracked, target),
                    },
                });
            }
        }
        Ok(attempts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_promised_is_right() {
        let (ours, other) = (
            IpAddr::from([203, 0, 113, 11]),
            IpAddr::from([192, 0, 2, 1]),
        );
        assert_eq!(judge(Expected::Source(ours), Some(ours)).1, "right");
        assert_eq!(judge(Expected::Source(ours), Some(other)).1, "wrong");
        assert_eq!(judge(Expected::Source(ours), None).1, "unreachable");
        assert_eq!(judge(Expected::Nothing, Some(ours)).1, "wrong");
        assert_eq!(judge(Expected::Nothing, None).1, "blocked");
        assert_eq!(judge(Expected::Any, Some(other)).1, "unmanaged");
    }
}
