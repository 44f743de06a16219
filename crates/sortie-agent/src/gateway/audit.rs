//! What policies that only audit would make of a connection, a request or a look-up: asked beside what
//! is decided, and told. Nothing follows from it.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sortie_api::policy::PolicyName;
use sortie_api::workload::IfIndex;
use sortie_gateway::decide::{Asked, Audited, Reason, Target, Tls as Seen, Verdict, Way, Would};
use sortie_gateway::http1::path::normalise;
use sortie_gateway::meter::{Audits, Meter};
use sortie_gateway::private::is_private;
use sortie_plan::mark::Mark;
use sortie_plan::named::{Interest, interest};
use sortie_plan::planner::audit::{self, Now, Outcome};
use sortie_plan::precedence::Candidate;
use sortie_plan::resolve::Addresses;

use super::requests::{ByRequest, allows_private, candidates, is_local, looks, may_reach, refused};
use crate::api::{AuditedThere, ByName, EgressAddress, GatewayHost};

/// Those that are enforced and those that only audit.
fn all(workload: &ByName) -> Vec<Candidate<'_>> {
    let policies = workload.policies.iter().chain(&workload.audits);
    Candidate::ordered(policies.map(|policy| &*policy.0))
}

/// Whether it only audits.
fn is_audit(workload: &ByName, policy: &str) -> bool {
    workload.audits.iter().any(|it| it.0.name.0 == policy)
}

impl ByRequest {
    /// What would be decided, if all policies were enforced; none where none only audits.
    ///
    /// What a policy that is enforced need not do is done here besides: the path in its one spelling.
    /// Certificates are taken for usable.
    pub(super) fn would(
        &self,
        workload: &ByName,
        target: &Target<'_>,
        host: &GatewayHost,
    ) -> Option<Arc<Would>> {
        if workload.audits.is_empty() {
            return None;
        }
        let candidates = all(workload);
        if target.tls == Seen::Hides
            && let Some(hides) = self.looks_inside(&workload.id, &candidates, target)
        {
            let policy = hides.policy.name.0.as_str();
            return Some(Arc::new(Would::Inspect(policy.into())));
        }
        let mut target = *target;
        let path;
        if let (Some(asked), Some(name)) = (target.request, target.name)
            && let Some(looks) = looks(&candidates, name, target.port)
            && asked.path.starts_with('/')
        {
            let Ok(normal) = normalise(asked.path) else {
                let refused = refused(Some(&looks.policy.name), Reason::AmbiguousPath);
                return Some(Arc::new(Would::Decide(refused)));
            };
            path = normal;
            target.request = Some(Asked {
                path: &path,
                ..asked
            });
        }
        let known = (host, &AsEnforced(host));
        let verdict = self.verdict(workload, &candidates, &target, known, None);
        Some(Arc::new(Would::Decide(verdict)))
    }
}

/// What a policy that only audits would have changed about something that has ended.
///
/// 1. Where a name would decide, the address that was called is asked too: it may be the host's, a
///    private one, or denied.
/// 2. Only where a policy that audits decides or denies it has a say.
pub(super) fn audited(
    workload: &ByName,
    host: &GatewayHost,
    would: &Would,
    (to, now): (Option<SocketAddr>, Now),
) -> Option<Audited> {
    let verdict = match would {
        Would::Decide(verdict) => verdict,
        Would::Inspect(policy) => {
            return is_audit(workload, policy).then(|| Audited {
                policy: Arc::clone(policy),
                outcome: Outcome::Unseen,
                source: None,
                refused: None,
            });
        }
    };
    let (policy, way) = to
        .filter(|_| !matches!(verdict.way, Way::Refused(_)))
        .and_then(|to| unreachable(workload, host, verdict, to))
        .or_else(|| Some((verdict.policy.clone()?, verdict.way)))?;
    if !is_audit(workload, &policy) {
        return None;
    }
    let source = match way {
        Way::Egress { sources, .. } => sources.any(to.map(|to| to.ip())),
        Way::AsHost | Way::Refused(_) => None,
    };
    let would = match (way, source) {
        (Way::Egress { .. }, Some(source)) => audit::Would::Leave(source),
        (Way::AsHost, _) => audit::Would::AsWithoutSortie,
        (Way::Egress { .. } | Way::Refused(_), _) => audit::Would::Drop,
    };
    let reason = match way {
        Way::Refused(reason) => Some(reason),
        Way::Egress { .. } | Way::AsHost => None,
    };
    Some(Audited {
        policy,
        outcome: Outcome::of(would, now),
        source,
        refused: reason,
    })
}

/// Who would not let a name lead to this address, and how.
fn unreachable(
    workload: &ByName,
    host: &GatewayHost,
    verdict: &Verdict,
    to: SocketAddr,
) -> Option<(Arc<str>, Way)> {
    let candidates = all(workload);
    let is_inside =
        is_local(host, to.ip()) || is_private(to.ip()) && !allows_private(&candidates, to);
    if verdict.by_name && is_inside {
        let policy = verdict.policy.clone()?;
        return Some((policy, Way::Refused(Reason::PrivateAnswer)));
    }
    let denied = may_reach(&candidates, verdict, to, &AsEnforced(host)).err()?;
    Some((denied.policy, Way::Refused(Reason::Denied)))
}

/// The host, with the addresses that only policies name which audit.
struct AsEnforced<'h>(&'h GatewayHost);

impl AsEnforced<'_> {
    fn of(&self, address: IpAddr) -> Option<&EgressAddress> {
        let known = self.0.addresses.get(&address);
        known.or_else(|| self.0.audited.get(&address))
    }
}

impl Addresses for AsEnforced<'_> {
    fn usable(&self, address: IpAddr) -> bool {
        self.of(address).is_some_and(|it| it.usable)
    }

    fn uplink(&self, address: IpAddr) -> Option<IfIndex> {
        self.of(address)?.uplink
    }

    fn mark(&self, address: IpAddr) -> Option<Mark> {
        let mark = self.of(address)?.mark?;
        Some(Mark::of_rule(mark.value, mark.mask))
    }
}

/// Look-ups that policies which only audit would have had refused, or answered.
#[derive(Debug, Default)]
pub(super) struct Lookups(Mutex<Audits>);

impl Lookups {
    /// A workload looks a name up.
    pub(super) fn looked_up(&self, workload: &ByName, name: &str, host: &GatewayHost) {
        if workload.audits.is_empty() {
            return;
        }
        let (enforced, all) = (candidates(workload), all(workload));
        let decided = interest(&enforced, name, host);
        let would = interest(&all, name, &AsEnforced(host));
        let differs = match (decided, would) {
            (Interest::Refused(_), Interest::Refused(_)) => None,
            (_, Interest::Refused(policy)) => Some((policy, Outcome::Dropped)),
            (Interest::Refused(_), _) => {
                let names = all.iter().find(|it| it.audits() && it.names(name));
                names.map(|it| (&it.policy.name, Outcome::Passed))
            }
            _ => None,
        };
        if let Some((PolicyName(policy), outcome)) = differs
            && is_audit(workload, policy)
        {
            self.lock()
                .count(policy.as_str().into(), &workload.id, outcome);
        }
    }

    /// Since the gateway was started.
    pub(super) fn all(&self) -> Audits {
        self.lock().clone()
    }

    /// What the agent has not been told: of look-ups, and of what was carried.
    pub(super) fn untold(&self, carried: &Meter) -> Vec<AuditedThere> {
        let mut untold = carried.untold_audits();
        self.lock().tell(&mut untold);
        let told = untold.into_iter();
        told.map(|((policy, workload, outcome), count)| AuditedThere {
            policy: policy.to_string(),
            workload,
            outcome,
            count,
        })
        .collect()
    }

    // What a panic left is whole: each holder does one thing.
    fn lock(&self) -> MutexGuard<'_, Audits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
