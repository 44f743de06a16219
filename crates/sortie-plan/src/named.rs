//! What policies say of a name before anybody has its address or sees a request: for the resolver,
//! and for the gateway where TLS hides the request.

use std::net::IpAddr;

use sortie_api::policy::{Action, OnUnavailable, PolicyName, Unlearned, WhenEncrypted};
use sortie_api::workload::Families;

use crate::precedence::{Candidate, Scope, Target};
use crate::resolve::{Addresses, Exit, Refusal, among};

/// What the resolver does with a look-up of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest<'p> {
    /// It answers REFUSED: this policy says `onlyTheseHosts`, and no policy names it.
    Refused(&'p PolicyName),
    /// No policy names it: the answer is passed on as it is.
    Unnamed {
        /// Whether its addresses are told to the kernel all the same: some policy says
        /// `unlearned: Deny`, and these are learned.
        learn: bool,
    },
    /// A policy names it: its addresses are told to the kernel before anybody is answered.
    Named {
        /// The families of which addresses may be answered: a policy that may decide lets them
        /// leave, or denies them for another reason.
        families: Families,
        /// Whether the gateway must see the name and the request: `ech` and `h3` are taken out of
        /// answers.
        seen: bool,
    },
}

/// What becomes of a connection of which only the name is visible, because TLS hides the request.
#[derive(Debug, Clone, Copy)]
pub enum Sealed<'c, 'p> {
    /// What is hidden has no say: this candidate decides, or none does.
    Decided(Option<&'c Candidate<'p>>),
    /// The gateway is to read what is encrypted (`tls: {inspect: true}`), and to ask again with
    /// each request.
    Inspect(&'c Candidate<'p>),
    /// It is refused: the hidden request could change the decision, and this candidate's
    /// `whenEncrypted` does not allow to go without it.
    PathNotVisible(&'c Candidate<'p>),
}

/// What the resolver does with a look-up, for a workload with these candidates.
///
/// Steps, in order:
/// 1. A name that no policy names is refused where any says `onlyTheseHosts`, else passed on.
/// 2. Of the others, candidates are gone through that may decide for the name at any address, for
///    any port and request, up to the first that decides for all of them.
/// 3. A family is answered unless each of them lacks an address of it.
/// 4. The name must be seen where one of them is about requests.
pub fn interest<'p>(
    candidates: &[Candidate<'p>],
    name: &str,
    addresses: &impl Addresses,
) -> Interest<'p> {
    if !candidates.iter().any(|candidate| candidate.names(name)) {
        let mut policies = candidates.iter().map(|candidate| candidate.policy);
        return match policies.clone().find(|policy| policy.only_these_hosts) {
            Some(only) => Interest::Refused(&only.name),
            None => Interest::Unnamed {
                learn: policies.any(|policy| policy.unlearned == Unlearned::Deny),
            },
        };
    }
    let mut families = Families::default();
    let mut seen = false;
    let mut for_all = false;
    for candidate in candidates
        .iter()
        .filter(|candidate| may_decide(candidate, name))
    {
        let leaves = |v6| {
            let exit = candidate.exit(v6, addresses);
            exit != Exit::Drop(Refusal::NoAddressOfFamily)
        };
        families.v4 |= leaves(false);
        families.v6 |= leaves(true);
        seen |= matches!(candidate.scope, Scope::Request { .. });
        for_all = candidate.ports().is_empty()
            && matches!(candidate.scope, Scope::Everything | Scope::Host(_));
        if for_all {
            break;
        }
    }
    // What nobody decides leaves as without Sortie.
    if !for_all {
        families = Families { v4: true, v6: true };
    }
    Interest::Named { families, seen }
}

/// Whether it could decide for a name that was looked up.
fn may_decide(candidate: &Candidate<'_>, name: &str) -> bool {
    match candidate.scope {
        Scope::Everything | Scope::Prefix(_) => true,
        Scope::Unlearned => false,
        Scope::Host(_) | Scope::Request { .. } => candidate.names(name),
    }
}

/// What becomes of a connection in which TLS hides the request. `target.request` has no say; its
/// address and name are those of the connection.
///
/// Steps, in order:
/// 1. A candidate that is not about requests decides without the request; what comes behind it is
///    never asked. Where that is a Deny by CIDR, no request could undo it.
/// 2. In front of it, those about requests to the name at this port could decide as well, if the
///    request were seen. Where one of them inspects, it is seen.
/// 3. Those with the same outcome change nothing. The first of the others says what to do: refuse,
///    or, with `UseHostPolicy`, go on.
pub fn sealed<'c, 'p>(candidates: &'c [Candidate<'p>], target: Target<'_>) -> Sealed<'c, 'p> {
    sealed_among(candidates.iter(), target)
}

/// [`sealed`], of some of them, in their order.
pub fn sealed_among<'c, 'p: 'c>(
    candidates: impl Iterator<Item = &'c Candidate<'p>> + Clone,
    target: Target<'_>,
) -> Sealed<'c, 'p> {
    let target = Target {
        request: None,
        ..target
    };
    let decides = among(candidates.clone(), target);
    if decides.is_some_and(Candidate::denies_prefix) {
        return Sealed::Decided(decides);
    }
    let name = target.name.unwrap_or_default();
    let hidden = candidates
        .take_while(|candidate| !candidate.covers(target))
        .filter(|candidate| candidate.names(name) && candidate.takes_port(target.port));
    if let Some(inspects) = hidden.clone().find(|candidate| candidate.inspects()) {
        return Sealed::Inspect(inspects);
    }
    let refuses = |candidate: &&Candidate<'_>| match candidate.scope {
        Scope::Request { http, .. } => {
            http.when_encrypted == WhenEncrypted::Refuse && !same(Some(candidate), decides)
        }
        _ => false,
    };
    match hidden.into_iter().find(refuses) {
        Some(refuses) => Sealed::PathNotVisible(refuses),
        None => Sealed::Decided(decides),
    }
}

/// Whether two outcomes cannot be told apart from outside, whatever addresses are there now.
fn same(one: Option<&Candidate<'_>>, other: Option<&Candidate<'_>>) -> bool {
    outcome(one) == outcome(other)
}

/// The egress addresses, none for Deny, with what happens without them; none as without Sortie.
fn outcome(candidate: Option<&Candidate<'_>>) -> Option<(Vec<IpAddr>, OnUnavailable)> {
    let candidate = candidate?;
    match &candidate.policy.action {
        Action::Egress(egress) => {
            let addresses = egress.addresses().collect();
            Some((addresses, candidate.policy.on_unavailable))
        }
        Action::Bypass => None,
        Action::Deny => Some((Vec::new(), OnUnavailable::Drop)),
    }
}

#[cfg(test)]
mod tests;
