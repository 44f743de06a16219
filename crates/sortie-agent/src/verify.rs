//! The active side of proof: connections from inside workloads to an observer, and what it saw.

use std::net::IpAddr;
use std::path::PathBuf;

use sortie_api::policy::Protocol;
use sortie_api::workload::Workload;
use sortie_plan::explain::Expected;
use sortie_plan::planner::Tracked;
use sortie_plan::precedence::Target;

use crate::Error;
use crate::api::{Verification, VerifyRequest};
use crate::core::{Core, Handle};
use crate::probe::{LIMIT, ObserverUrl, ProbeError, probe, probe_as};

/// One connection to be made.
struct Attempt {
    workload: String,
    policy: Option<String>,
    place: Place,
    observer: ObserverUrl,
    expected: Expected,
}

/// Where a connection is the workload's.
enum Place {
    /// From its process's network namespace.
    Namespace(PathBuf),
    /// From the cgroup of its process, in the host's namespace.
    Cgroup(u32),
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
    let asked = match &attempt.place {
        Place::Namespace(namespace) => probe(namespace, &attempt.observer, LIMIT),
        Place::Cgroup(pid) => probe_as(*pid, &attempt.observer),
    };
    let (expected, verdict) = match &asked {
        Err(error) if error.is_untried() => (None, "untried"),
        asked => judge(attempt.expected, asked.as_ref().ok().copied()),
    };
    let (seen, detail) = match asked {
        Ok(seen) => (Some(seen), None),
        Err(error) => (None, Some(error.to_string())),
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

fn place(workload: &Workload) -> Place {
    match workload.cgroup {
        Some(_) => Place::Cgroup(workload.pid),
        None => Place::Namespace(format!("/proc/{}/ns/net", workload.pid).into()),
    }
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
                    place: place(&tracked.workload),
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

    /// That nothing arrived shows nothing, where nothing was sent.
    #[test]
    fn who_cannot_be_entered_is_untried() {
        let attempt = Attempt {
            workload: "web".to_owned(),
            policy: None,
            place: Place::Namespace("/proc/0/ns/net".into()),
            observer: "tcp://192.0.2.1:7".parse().unwrap(),
            expected: Expected::Nothing,
        };
        assert_eq!(made(&attempt).verdict, "untried");
    }

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
