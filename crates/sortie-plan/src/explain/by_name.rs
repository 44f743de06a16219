//! What becomes of a connection or request to a name: which plane decides, and what is refused.

mod answer;
mod audit;
mod refused;
mod tls;

pub use answer::{ByName, Learned, Leaving, NameExplanation, Plane, Refused};

use std::net::IpAddr;

use sortie_api::policy::Lacking;
use sortie_api::workload::WorkloadKind;

use self::refused::{connect, looked_up, refused};
use self::tls::{inspects, lacking, originates};
use super::answer::{Considered, Verdict, whole_seconds};
use super::candidate::{lost, matches, uncovered};
use crate::compile::treatment::Treatment;
use crate::named::{Interest, Sealed, interest, sealed_among};
use crate::planner::{Planner, Tracked};
use crate::precedence::{Candidate, Scope, Target};
use crate::resolve::{Addresses, Exit, Refusal, among};

/// What decides, before any address is known.
enum Outcome<'c, 'p> {
    By(Option<&'c Candidate<'p>>),
    NotVisible(&'c Candidate<'p>),
}

impl NameExplanation {
    fn drop_for(&mut self, candidate: &Candidate<'_>, lacking: Lacking<'_>) {
        self.verdict = Verdict::Drop;
        self.policy = Some(candidate.policy.name.0.clone());
        self.sources.clear();
        self.reason = format!("NoCertificates: {lacking}");
        self.fix = Some(lacking.help());
    }
}

impl Planner {
    /// Steps, in order:
    /// 1. What cannot be managed, and what has an address of its own, goes its way.
    /// 2. A name that the resolver refuses is not reached.
    /// 3. Where a policy is about requests to the name at this port, the gateway decides by the
    ///    request, or, where TLS hides it, as [`sealed`](crate::named::sealed) says; else the kernel
    ///    does. What the gateway looks into is not hidden.
    /// 4. The address of each family, and whether it can be used.
    /// 5. The addresses that the workload was told for the name: where nothing may go to any of
    ///    them, nothing goes.
    /// 6. Who would decide, if those that only audit were enforced.
    pub fn explain_name(&self, tracked: &Tracked, asked: &ByName<'_>) -> NameExplanation {
        let mut answer = self.explain_enforced(tracked, asked);
        answer.audit = self.audit_by_name(tracked, asked, &answer);
        answer
    }

    /// Steps 1 to 5.
    fn explain_enforced(&self, tracked: &Tracked, asked: &ByName<'_>) -> NameExplanation {
        let mut answer = unanswered(tracked, asked);
        if let Some(reason) = &tracked.workload.unmanageable {
            answer.reason = format!("it cannot be managed: {reason}");
            return answer;
        }
        if tracked.workload.kind == WorkloadKind::Process {
            self.explain_own_interface(tracked, &mut answer);
            return answer;
        }
        let enforced = || tracked.policies.iter().map(AsRef::as_ref);
        let candidates = Candidate::ordered(enforced());
        let inside = inspects(&candidates, asked);
        let asked = &ByName {
            encrypted: asked.encrypted && inside.is_none(),
            ..*asked
        };
        let auditing = self.auditing(tracked).map(AsRef::as_ref);
        let with_audits = Candidate::ordered(enforced().chain(auditing));
        answer.candidates = self.considered_by_name(&with_audits, asked);
        if candidates.is_empty() {
            answer.reason = "no policy selects it".to_owned();
            return answer;
        }
        if let Some(left) = self.bypassed(&tracked.workload.id) {
            answer.reason = format!("it is bypassed for {} s still", whole_seconds(left));
            return answer;
        }
        if [false, true]
            .iter()
            .all(|v6| *tracked.placement.of_family(*v6) == Treatment::Blocked(Refusal::Unlearned))
        {
            answer.verdict = Verdict::Drop;
            answer.reason = "it is on the host's network, where nobody can tell whose look-up is whose: with `hosts` in its policies nothing leaves".to_owned();
            return answer;
        }
        let is_client = tracked.workload.kind == WorkloadKind::Client;
        let interest = match interest(&candidates, asked.name, self) {
            // It looks nothing up itself.
            Interest::Refused(_) if is_client => Interest::Unnamed { learn: false },
            interest => interest,
        };
        answer.lookup = if is_client {
            "the gateway asks the servers of the host's resolv.conf".to_owned()
        } else {
            looked_up(interest)
        };
        if let Interest::Refused(policy) = interest {
            answer.plane = Plane::Resolver;
            answer.verdict = Verdict::Drop;
            answer.policy = Some(policy.0.clone());
            answer.reason = "the resolver answers REFUSED: `onlyTheseHosts`".to_owned();
            // None of them is asked.
            answer.candidates.clear();
        } else if is_client || candidates.iter().any(|it| looks_at(it, asked)) {
            answer.plane = Plane::Gateway;
        }
        answer.refused = refused(&candidates, asked, interest, answer.plane);
        if answer.plane == Plane::Resolver {
            return answer;
        }
        self.decide(&candidates, asked, &mut answer);
        if let Some(inside) = inside {
            self.look_inside((&candidates, inside), asked, &mut answer);
        }
        let seen =
            |it: &Candidate<'_>| matches!(it.scope, Scope::Request { .. }) && it.names(asked.name);
        if is_client {
            through_proxy(asked, &mut answer);
        }
        if asked.port.is_none() && candidates.iter().any(seen) {
            answer.reason += "; requests are the gateway's: ask with a URL, or with a port";
        }
        if let Err(errors) = &tracked.label {
            answer.reason = format!("its label is wrong: {errors}");
        }
        answer.addresses = self.learned_by(tracked, asked);
        answer.settle();
        answer
    }

    fn explain_own_interface(&self, tracked: &Tracked, answer: &mut NameExplanation) {
        let endpoints = tracked.workload.endpoints.iter();
        let own = endpoints.flat_map(|endpoint| &endpoint.addresses);
        answer.sources = own.map(|source| self.leaving(*source, tracked)).collect();
        answer.verdict = Verdict::Egress;
        answer.reason = "the address is on its own interface, whatever the name".to_owned();
    }

    /// Steps 3 and 4.
    fn decide(
        &self,
        candidates: &[Candidate<'_>],
        asked: &ByName<'_>,
        answer: &mut NameExplanation,
    ) {
        if let (Plane::Gateway, Some(malformed), false) =
            (answer.plane, asked.malformed, asked.encrypted)
        {
            answer.verdict = Verdict::Drop;
            answer.reason = format!("the gateway answers 400: {malformed}");
            return;
        }
        let outcome = outcome(candidates.iter(), asked);
        let names_port = matches!(&outcome, Outcome::By(Some(by)) if !by.ports().is_empty());
        if answer.plane == Plane::Gateway && !names_port {
            answer.refused.extend(connect(asked));
        }
        match outcome {
            Outcome::By(None) => {
                answer.reason = "no policy that selects it covers this name".to_owned();
            }
            Outcome::By(Some(candidate)) => self.explain_decided(candidate, answer),
            Outcome::NotVisible(candidate) => {
                answer.verdict = Verdict::Drop;
                answer.policy = Some(candidate.policy.name.0.clone());
                answer.reason =
                    "PathNotVisible: TLS hides the request, which could change the decision"
                        .to_owned();
                answer.fix = Some("write `whenEncrypted: UseHostPolicy`, or `tls: {originate: true}` and have the workload speak http".to_owned());
            }
        }
    }

    /// Step 3, of TLS that the gateway looks into.
    fn look_inside(
        &self,
        (candidates, inspects): (&[Candidate<'_>], &Candidate<'_>),
        asked: &ByName<'_>,
        answer: &mut NameExplanation,
    ) {
        let certificates = &self.environment().config.tls;
        if certificates.inspect.is_none() {
            answer.drop_for(inspects, Lacking::Authority);
            return;
        }
        if answer.verdict != Verdict::Drop
            && let Outcome::By(Some(decides)) = outcome(candidates.iter(), asked)
            && let Some(lacking) = lacking(decides, true, certificates)
        {
            answer.drop_for(decides, lacking);
        }
        answer.reason += match asked.request {
            Some(_) => "; the gateway looks into TLS",
            None => "; the gateway looks into TLS, and requests decide: ask with a URL",
        };
    }

    /// Step 4.
    fn explain_decided(&self, candidate: &Candidate<'_>, answer: &mut NameExplanation) {
        answer.policy = Some(candidate.policy.name.0.clone());
        let mut unusable = None;
        for v6 in [false, true] {
            match candidate.exit(v6, self) {
                Exit::Egress(address) => match self.unusable(address) {
                    None => answer.sources.push(Leaving {
                        source: address,
                        uplink: self
                            .uplink(address)
                            .map(|it| self.environment().name_of(it)),
                    }),
                    Some(found) => unusable = unusable.or(Some(found)),
                },
                Exit::Bypass => answer.reason = "the policy says Bypass".to_owned(),
                Exit::NodeAddress => {
                    answer.reason =
                        "its egress address cannot be used, and the policy allows the host's"
                            .to_owned();
                }
                Exit::Drop(Refusal::NoAddressOfFamily) => {}
                Exit::Drop(_) => {
                    answer.verdict = Verdict::Drop;
                    answer.reason = "the policy says Deny".to_owned();
                }
            }
        }
        let lacking = lacking(candidate, false, &self.environment().config.tls);
        if let Some(lacking) = lacking.filter(|_| answer.verdict != Verdict::Drop) {
            answer.drop_for(candidate, lacking);
        } else if !answer.sources.is_empty() {
            answer.verdict = Verdict::Egress;
            answer.reason = match originates(candidate) {
                Some(port) => format!("as the policy says; the gateway speaks TLS to port {port}"),
                None => "as the policy says".to_owned(),
            };
        } else if let Some(unusable) = unusable {
            answer.verdict = Verdict::Drop;
            answer.reason = unusable.reason;
            answer.fix = Some(unusable.fix);
        }
    }

    /// What it leaves with on its own interface.
    fn leaving(&self, source: IpAddr, tracked: &Tracked) -> Leaving {
        let uplink = match tracked.placement.of_family(source.is_ipv6()) {
            Treatment::Direct { uplink } => *uplink,
            _ => None,
        };
        Leaving {
            source,
            uplink: uplink.map(|uplink| self.environment().name_of(uplink)),
        }
    }

    /// Step 5.
    fn learned_by(&self, tracked: &Tracked, asked: &ByName<'_>) -> Vec<Learned> {
        let addresses = self.addresses_of(&tracked.workload.id, asked.name);
        let learned = addresses.map(|address| {
            let target = Target {
                ip: address,
                request: asked.request.filter(|_| !asked.encrypted),
                ..target(asked)
            };
            let explained = self.explain(tracked, target);
            Learned {
                address,
                verdict: explained.verdict,
                policy: explained.policy,
                source: explained.source,
                reason: explained.reason,
            }
        });
        learned.collect()
    }

    /// Each candidate, those that only audit among them, and what becomes of it.
    fn considered_by_name(
        &self,
        candidates: &[Candidate<'_>],
        asked: &ByName<'_>,
    ) -> Vec<Considered> {
        let decides = outcome(candidates.iter().filter(|it| !it.audits()), asked);
        let inside = inspects(candidates, asked).is_some_and(Candidate::audits);
        let seen = &ByName {
            encrypted: asked.encrypted && !inside,
            ..*asked
        };
        let would_decide = outcome(candidates.iter(), seen);
        let told = |candidate: &Candidate<'_>| {
            if !candidate.audits() {
                return fate(candidate, &decides, asked);
            }
            match would_decide {
                Outcome::By(Some(winner)) if std::ptr::eq(winner, candidate) => {
                    format!("audit: would {}", self.would_by_name(candidate))
                }
                _ => format!("audit: {}", fate(candidate, &would_decide, seen)),
            }
        };
        let considered = candidates.iter().map(|candidate| Considered {
            policy: candidate.policy.name.0.clone(),
            matches: matches(candidate),
            outcome: told(candidate),
        });
        considered.collect()
    }
}

/// What a proxy's client asks for with `https` is a CONNECT.
fn through_proxy(asked: &ByName<'_>, answer: &mut NameExplanation) {
    let closed = connect(asked).filter(|closed| asked.encrypted && answer.refused.contains(closed));
    if let Some(closed) = closed.filter(|_| answer.verdict != Verdict::Drop) {
        answer.verdict = Verdict::Drop;
        answer.sources.clear();
        answer.reason = closed.why;
    }
}

/// All that is known before anybody is asked.
fn unanswered(tracked: &Tracked, asked: &ByName<'_>) -> NameExplanation {
    NameExplanation {
        workload: tracked.workload.name.clone(),
        name: asked.name.to_owned(),
        port: asked
            .port
            .map(|(protocol, port)| super::port(protocol, port)),
        request: asked.request.map(|request| format!("{request:?}")),
        plane: Plane::Kernel,
        verdict: Verdict::AsWithoutSortie,
        policy: None,
        sources: Vec::new(),
        reason: String::new(),
        fix: None,
        audit: None,
        lookup: "it asks whom it likes".to_owned(),
        addresses: Vec::new(),
        refused: Vec::new(),
        candidates: Vec::new(),
    }
}

/// Whether it is about requests to the name at this port.
fn looks_at(candidate: &Candidate<'_>, asked: &ByName<'_>) -> bool {
    matches!(candidate.scope, Scope::Request { .. })
        && candidate.names(asked.name)
        && candidate.takes_port(asked.port)
}

/// Before any address is known, candidates for addresses have no say.
fn outcome<'c, 'p: 'c>(
    candidates: impl Iterator<Item = &'c Candidate<'p>> + Clone,
    asked: &ByName<'_>,
) -> Outcome<'c, 'p> {
    let target = target(asked);
    let by_name = candidates.filter(|it| !matches!(it.scope, Scope::Prefix(_)));
    if asked.request.is_some() && !asked.encrypted {
        return Outcome::By(among(by_name, target));
    }
    match sealed_among(by_name.clone(), target) {
        // Nothing is known of what is inside.
        Sealed::Inspect(_) => Outcome::By(among(by_name, target)),
        Sealed::PathNotVisible(candidate) => Outcome::NotVisible(candidate),
        Sealed::Decided(candidate) => Outcome::By(candidate),
    }
}

/// The address stands for none: no candidate that is asked looks at it.
fn target<'a>(asked: &ByName<'a>) -> Target<'a> {
    Target {
        ip: IpAddr::from([0, 0, 0, 0]),
        port: asked.port,
        name: Some(asked.name),
        request: asked.request,
    }
}

/// What became of a candidate where this was the outcome.
fn fate(candidate: &Candidate<'_>, outcome: &Outcome<'_, '_>, asked: &ByName<'_>) -> String {
    let target = Target {
        // What TLS hides no candidate sees.
        request: asked.request.filter(|_| !asked.encrypted),
        ..target(asked)
    };
    let winner = match outcome {
        Outcome::By(winner) => *winner,
        Outcome::NotVisible(candidate) => Some(*candidate),
    };
    match winner {
        Some(winner) if std::ptr::eq(winner, candidate) => match outcome {
            Outcome::By(_) => "decides".to_owned(),
            Outcome::NotVisible(_) => "could decide, if its request were visible".to_owned(),
        },
        _ if matches!(candidate.scope, Scope::Prefix(_)) => {
            "depends on the address that a look-up gives".to_owned()
        }
        _ if !candidate.covers(target) => uncovered(candidate, target),
        Some(winner) => lost(winner, candidate, target),
        None => "covers nothing".to_owned(),
    }
}
