//! What the gateway does about TLS for a name, and whether it has the certificates for it.

use sortie_api::config;
use sortie_api::policy::{self, Lacking, Tls};

use super::ByName;
use crate::named::{Sealed, sealed_among};
use crate::precedence::{Candidate, Scope};

/// The client certificate that a candidate shows, where there is none of that name. `inside` is for
/// requests in TLS that is looked into.
pub(super) fn lacking<'p>(
    candidate: &Candidate<'p>,
    inside: bool,
    known: &config::Tls,
) -> Option<Lacking<'p>> {
    let wanted = candidate.tls()?;
    let is_shown = inside || matches!(wanted, Tls::Originate(_));
    policy::lacking(wanted, known).find(|it| is_shown && *it != Lacking::Authority)
}

/// For whose sake the gateway looks into TLS to the name, if anything but plain HTTP is meant.
pub(super) fn inspects<'c, 'p>(
    candidates: &'c [Candidate<'p>],
    asked: &ByName<'_>,
) -> Option<&'c Candidate<'p>> {
    if asked.request.is_some() && !asked.encrypted {
        return None;
    }
    let by_name = candidates
        .iter()
        .filter(|it| !matches!(it.scope, Scope::Prefix(_)));
    match sealed_among(by_name, super::target(asked)) {
        Sealed::Inspect(inspects) => Some(inspects),
        Sealed::Decided(_) | Sealed::PathNotVisible(_) => None,
    }
}

/// The port that the gateway speaks TLS to.
pub(super) fn originates(candidate: &Candidate<'_>) -> Option<u16> {
    match candidate.tls()? {
        Tls::Originate(originate) => Some(originate.port),
        Tls::Inspect(_) => None,
    }
}
