//! What the policies say of a request, by the pure functions that decide everywhere.

use std::net::IpAddr;

use sortie_api::policy::{EgressPolicy, Protocol, Request};
use sortie_gateway::http1::path::normalise;
use sortie_plan::named::{Interest, Sealed, interest, sealed};
use sortie_plan::precedence::{Candidate, Scope, Target};
use sortie_plan::resolve::{Addresses, Exit, deciding};

use crate::any::{Asked, By, Sent};

/// Every address is there.
struct AllUsable;

impl Addresses for AllUsable {
    fn usable(&self, _: IpAddr) -> bool {
        true
    }
    fn uplink(&self, _: IpAddr) -> Option<sortie_api::workload::IfIndex> {
        None
    }
    fn mark(&self, _: IpAddr) -> Option<sortie_plan::mark::Mark> {
        None
    }
}

/// What must come of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Source(IpAddr),
    Refused,
    /// A policy for addresses decides about a name: Envoy has chosen the source before it knows the
    /// address, and refuses, unless both say the same.
    ByAddress(Option<IpAddr>),
    /// A request to an address, where policies tell addresses apart: routes do not look at ranges,
    /// and refuse.
    ToAddress(Option<IpAddr>),
    /// A redirected connection that tells no name, on a port that policies for names are about: it
    /// might be one of theirs, and is refused.
    Nameless(Option<IpAddr>),
    /// A path with an escaped NUL, which Envoy refuses everywhere.
    Nul(Option<IpAddr>),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The other side saw this source.
    Source(IpAddr),
    /// Nothing was reached; a status, where there was one.
    Refused(Option<u16>),
}

impl Outcome {
    pub(crate) const SAME: &'static str = "same";

    pub(crate) fn compare(&self, seen: &Seen) -> Result<&'static str, String> {
        match (self, seen) {
            (Self::Refused, Seen::Refused(Some(400 | 403) | None)) => Ok(Self::SAME),
            (Self::Source(wanted), Seen::Source(source)) if wanted == source => Ok(Self::SAME),
            (
                Self::ByAddress(Some(wanted)) | Self::ToAddress(Some(wanted)),
                Seen::Source(source),
            ) if wanted == source => Ok(Self::SAME),
            (Self::ByAddress(_), Seen::Refused(Some(400 | 403) | None)) => {
                Ok("refused, where an address decides about a name")
            }
            (Self::ToAddress(_), Seen::Refused(Some(400 | 403))) => {
                Ok("refused, where a request is for one of several addresses")
            }
            (Self::Nameless(_), Seen::Refused(None)) => {
                Ok("refused, where no name is told and a policy is about names")
            }
            (Self::Nul(_), Seen::Refused(Some(400))) => Ok("refused, where a NUL is escaped"),
            _ => Err(format!("{self:?} is wanted, and it was {seen:?}")),
        }
    }
}

pub(crate) fn of(policies: &[EgressPolicy], asked: &Asked) -> Outcome {
    let candidates = Candidate::ordered(policies);
    let port = Some((Protocol::Tcp, asked.port));
    let name = asked.name;
    let target = Target {
        ip: asked.ip(),
        port,
        name,
        request: None,
    };
    if let Some(name) = name
        && matches!(
            interest(&candidates, name, &AllUsable),
            Interest::Refused(_)
        )
    {
        return Outcome::Refused;
    }
    let fields;
    let normal;
    let request = match &asked.sent {
        Sent::Http {
            method,
            path,
            tenants,
        } => {
            let (path, _) = path.split_once('?').unwrap_or((path, ""));
            let sees = |it: &Candidate<'_>| {
                matches!(it.scope, Scope::Request { .. })
                    && name.is_some_and(|name| it.names(name))
                    && it.takes_port(port)
            };
            normal = match normalise(path) {
                Ok(normal) => normal,
                Err(_) if candidates.iter().any(sees) => return Outcome::Refused,
                Err(_) => path.into(),
            };
            let tenants = tenants.iter().map(|tenant| ("X-Tenant", *tenant));
            fields = tenants.collect::<Vec<_>>();
            Some(Request {
                method,
                path: &normal,
                headers: &fields,
            })
        }
        Sent::Tls | Sent::Text => None,
    };
    let decides = match &request {
        Some(request) => deciding(
            &candidates,
            Target {
                request: Some(request),
                ..target
            },
        ),
        None if name.is_none() => deciding(&candidates, target),
        None => match sealed(&candidates, target) {
            Sealed::Decided(decides) => decides,
            Sealed::Inspect(_) | Sealed::PathNotVisible(_) => return Outcome::Refused,
        },
    };
    let tunnel = request.is_none() && asked.by == By::Proxy;
    let exit = match decides {
        None if tunnel && asked.port != 443 => Exit::Drop(sortie_plan::resolve::Refusal::Denied),
        None => Exit::NodeAddress,
        Some(decides) => decides.exit(false, &AllUsable),
    };
    let source = match exit {
        Exit::Egress(source) => Some(source),
        Exit::Bypass | Exit::NodeAddress => Some([203, 0, 113, 5].into()),
        Exit::Drop(_) => None,
    };
    if request.is_some_and(|request| request.path.contains("%00")) {
        return Outcome::Nul(source);
    }
    let by_name = |it: &Candidate<'_>| it.host().is_some() && it.takes_port(port);
    if name.is_none() && request.is_none() && !tunnel && candidates.iter().any(by_name) {
        return Outcome::Nameless(source);
    }
    let by_range = |it: &Candidate<'_>| matches!(it.scope, Scope::Prefix(_)) && !it.denies_prefix();
    if name.is_some() && decides.is_some_and(&by_range) {
        return Outcome::ByAddress(source);
    }
    let requested = asked.by == By::Proxy || request.is_some();
    if name.is_none() && requested && candidates.iter().any(by_range) {
        return Outcome::ToAddress(source);
    }
    source.map_or(Outcome::Refused, Outcome::Source)
}
