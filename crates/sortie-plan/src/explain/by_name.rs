//! What becomes of a connection or request to a name: which plane decides, and what is refused.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sortie_api::policy::{Protocol, Request, Tls, WhenEncrypted};
use sortie_api::workload::WorkloadKind;

use super::answer::{Considered, Verdict};
use super::candidate::{lost, matches, uncovered};
use crate::named::{Interest, Sealed, interest, sealed_among};
use crate::planner::{Planner, Tracked};
use crate::precedence::{Candidate, Scope, Target};
use crate::resolve::{Exit, Refusal, among};

/// What is asked: a name, and what is known of the connection.
#[derive(Debug, Clone, Copy)]
pub struct ByName<'a> {
    /// The name.
    pub name: &'a str,
    /// Protocol and port.
    pub port: Option<(Protocol, u16)>,
    /// The request, where there is one; without, nothing is known of what is sent.
    pub request: Option<&'a Request<'a>>,
    /// Whether TLS hides it: `https`.
    pub encrypted: bool,
}

/// The answer to `sortie explain` for a name. It is by the name alone: a Deny for an address that a
/// look-up gives is among `refused`, and candidates for addresses say that it depends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NameExplanation {
    /// The workload's name.
    pub workload: String,
    /// The name that was asked for.
    pub name: String,
    /// Destination port and protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// Method and path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Who decides.
    pub plane: Plane,
    /// What becomes of it.
    pub verdict: Verdict,
    /// The policy that decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The sources that the other side sees, one of each family; none where the engine decides or
    /// nothing leaves.
    pub sources: Vec<IpAddr>,
    /// In words.
    pub reason: String,
    /// The line that mends it, where something is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// What the resolver does with a look-up.
    pub lookup: String,
    /// What else would be refused, and why.
    pub refused: Vec<Refused>,
    /// Every candidate, the one that is asked first first, with why it does not decide.
    pub candidates: Vec<Considered>,
}

/// Who decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plane {
    /// By the address that a look-up gave.
    Kernel,
    /// By the name in the look-up.
    Resolver,
    /// By what is sent.
    Gateway,
}

impl Plane {
    /// As commands show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Resolver => "resolver",
            Self::Gateway => "gateway",
        }
    }
}

/// Something that would be refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// What is not let through.
    pub what: String,
    /// Why, with the policy.
    pub why: String,
}

/// What decides, before any address is known.
enum Outcome<'c, 'p> {
    By(Option<&'c Candidate<'p>>),
    NotVisible(&'c Candidate<'p>),
}

impl Planner {
    /// Steps, in order:
    /// 1. What cannot be managed, and what has an address of its own, goes its way.
    /// 2. A name that the resolver refuses is not reached.
    /// 3. Where a policy is about requests to the name at this port, the gateway decides by the
    ///    request, or, where TLS hides it, as [`sealed`] says; else the kernel does.
    /// 4. The address of each family, and whether it can be used.
    pub fn explain_name(&self, tracked: &Tracked, asked: &ByName<'_>) -> NameExplanation {
        let candidates = Candidate::ordered(tracked.policies.iter().map(AsRef::as_ref));
        let mut answer = NameExplanation {
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
            lookup: "no policy selects it: it asks whom it likes".to_owned(),
            refused: Vec::new(),
            candidates: Vec::new(),
        };
        if let Some(reason) = &tracked.workload.unmanageable {
            answer.reason = format!("it cannot be managed: {reason}");
            return answer;
        }
        if tracked.workload.kind == WorkloadKind::Process {
            let endpoints = tracked.workload.endpoints.iter();
            answer.sources = endpoints
                .flat_map(|endpoint| &endpoint.addresses)
                .copied()
                .collect();
            answer.verdict = Verdict::Egress;
            answer.reason = "the address is on its own interface, whatever the name".to_owned();
            return answer;
        }
        if candidates.is_empty() {
            answer.reason = "no policy selects it".to_owned();
            return answer;
        }
        let interest = interest(&candidates, asked.name, self);
        answer.lookup = looked_up(interest);
        answer.refused = refused(&candidates, asked, interest);
        if let Interest::Refused(policy) = interest {
            answer.plane = Plane::Resolver;
            answer.verdict = Verdict::Drop;
            answer.policy = Some(policy.0.clone());
            answer.reason = "the resolver answers REFUSED: `onlyTheseHosts`".to_owned();
            return answer;
        }
        let by_request = |candidate: &&Candidate<'_>| {
            matches!(candidate.scope, Scope::Request { .. })
                && candidate.names(asked.name)
                && candidate.takes_port(asked.port)
        };
        if candidates.iter().any(|candidate| by_request(&candidate)) {
            answer.plane = Plane::Gateway;
        }
        let outcome = outcome(&candidates, asked);
        answer.candidates = considered(&candidates, asked, &outcome);
        match outcome {
            Outcome::By(None) => {
                answer.reason = "no policy that selects it covers this name".to_owned();
            }
            Outcome::By(Some(candidate)) => self.explain_decided(candidate, &mut answer),
            Outcome::NotVisible(candidate) => {
                answer.verdict = Verdict::Drop;
                answer.policy = Some(candidate.policy.name.0.clone());
                answer.reason =
                    "PathNotVisible: TLS hides the request, which could change the decision"
                        .to_owned();
                answer.fix = Some("write `whenEncrypted: UseHostPolicy`, or `tls: {originate: true}` and have the workload speak http".to_owned());
            }
        }
        answer
    }

    /// Step 4.
    fn explain_decided(&self, candidate: &Candidate<'_>, answer: &mut NameExplanation) {
        answer.policy = Some(candidate.policy.name.0.clone());
        let mut unusable = None;
        for v6 in [false, true] {
            match candidate.exit(v6, self) {
                Exit::Egress(address) => match self.unusable(address) {
                    None => answer.sources.push(address),
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
        if !answer.sources.is_empty() {
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
}

/// Before any address is known, candidates for addresses have no say.
fn outcome<'c, 'p>(candidates: &'c [Candidate<'p>], asked: &ByName<'_>) -> Outcome<'c, 'p> {
    let target = target(asked);
    let by_name = || {
        candidates
            .iter()
            .filter(|c| !matches!(c.scope, Scope::Prefix(_)))
    };
    if asked.request.is_some() && !asked.encrypted {
        return Outcome::By(among(by_name(), target));
    }
    match sealed_among(by_name(), target) {
        // The gateway reads what is inside.
        Sealed::Inspect(_) => Outcome::By(among(by_name(), target)),
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

fn looked_up(interest: Interest<'_>) -> String {
    match interest {
        Interest::Refused(policy) => {
            format!(
                "REFUSED: policy {} says `onlyTheseHosts`, and no policy names it",
                policy.0
            )
        }
        Interest::Unnamed { learn: false } => "no policy names it: passed on".to_owned(),
        Interest::Unnamed { learn: true } => {
            "no policy names it: passed on, and its addresses are known then".to_owned()
        }
        Interest::Named { families, seen } => {
            let families = match (families.v4, families.v6) {
                (true, true) => "IPv4 and IPv6",
                (true, false) => "IPv4 only",
                (false, true) => "IPv6 only",
                (false, false) => "no address",
            };
            let seen = if seen {
                ", without `ech` and `h3`: the gateway must see the name"
            } else {
                ""
            };
            format!(
                "a policy names it: the kernel knows its addresses before it is answered; {families}{seen}"
            )
        }
    }
}

fn refused(
    candidates: &[Candidate<'_>],
    asked: &ByName<'_>,
    interest: Interest<'_>,
) -> Vec<Refused> {
    let mut refused: Vec<Refused> = Vec::new();
    let mut add = |what: String, why: String| {
        let found = Refused { what, why };
        if !refused.contains(&found) {
            refused.push(found);
        }
    };
    if let Interest::Named { seen, .. } = interest {
        let local = "private, local and translated addresses (RFC 1918, 127/8, 169.254/16, 100.64/10, NAT64 and so on)";
        add(
            format!("answers that are {local}"),
            "a policy names the name: none of them is its partner".to_owned(),
        );
        if seen {
            add(
                "UDP to port 443 (QUIC)".to_owned(),
                "the gateway must see the requests".to_owned(),
            );
        }
    }
    for candidate in candidates {
        let policy = &candidate.policy.name.0;
        match candidate.scope {
            Scope::Prefix(prefix) if candidate.denies_prefix() => add(
                format!("addresses in {prefix}, whatever the name"),
                format!("policy {policy} says Deny"),
            ),
            Scope::Request { http, .. }
                if !asked.encrypted
                    && candidate.names(asked.name)
                    && candidate.takes_port(Some((Protocol::Tcp, 443)))
                    && http.when_encrypted == WhenEncrypted::Refuse
                    && http.tls != Some(Tls::Inspect) =>
            {
                add(
                    "TLS to port 443, where the request would change the decision".to_owned(),
                    format!("PathNotVisible: policy {policy} says `whenEncrypted: Refuse`"),
                );
            }
            Scope::Unlearned => add(
                "addresses that no look-up gave".to_owned(),
                format!("policy {policy} says `unlearned: Deny`"),
            ),
            _ => {}
        }
    }
    refused
}

fn considered(
    candidates: &[Candidate<'_>],
    asked: &ByName<'_>,
    outcome: &Outcome<'_, '_>,
) -> Vec<Considered> {
    let target = Target {
        // What TLS hides no candidate sees, unless the gateway inspects.
        request: asked.request.filter(|_| {
            !asked.encrypted || matches!(outcome, Outcome::By(Some(c)) if c.inspects())
        }),
        ..target(asked)
    };
    let winner = match outcome {
        Outcome::By(winner) => *winner,
        Outcome::NotVisible(candidate) => Some(*candidate),
    };
    let told = |candidate: &Candidate<'_>| match winner {
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
    };
    let considered = candidates.iter().map(|candidate| Considered {
        policy: candidate.policy.name.0.clone(),
        matches: matches(candidate),
        outcome: told(candidate),
    });
    considered.collect()
}

/// The port that the gateway speaks TLS to.
fn originates(candidate: &Candidate<'_>) -> Option<u16> {
    match candidate.scope {
        Scope::Request { http, .. } => match &http.tls {
            Some(Tls::Originate(originate)) => Some(originate.port),
            Some(Tls::Inspect) | None => None,
        },
        _ => None,
    }
}
