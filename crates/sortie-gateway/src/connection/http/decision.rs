//! What is decided of a request: whom it is for, what policies say of it, and what they say once they
//! have changed.

use std::net::SocketAddr;

use sortie_api::workload::WorkloadId;

use super::super::Called;
use super::super::report::Report;
use super::To;
use crate::decide::{self, Fields, Verdict};
use crate::flight::{Leaving, Stay};
use crate::http1::authority::Host;
use crate::http1::request::{Request, Target};
use crate::http1::{FieldSpace, Parsed, Refused};
use crate::serve::Core;

/// Whom a request is for. A proxy is asked with a whole URL; nobody else's requests say more than
/// the called address and port do.
pub(super) fn called(to: &To<'_>, request: &Request<'_, '_>) -> Result<Called, Refused> {
    const HTTP: u16 = 80;
    match (to, request.authority.as_ref()) {
        (To::Called(told), None) if told.address.is_none() || told.inside.is_some() => {
            Err(Refused::bad("nobody says which host is asked"))
        }
        (To::Called(told), None) => Ok(told.clone()),
        (To::Called(told), Some(asked)) => told.asked(&asked.host),
        (To::Asked { .. }, Some(asked)) if request.is_absolute => Ok(Called {
            name: None,
            address: match &asked.host {
                Host::Ip(address) => Some(*address),
                Host::Name(_) => None,
            },
            port: asked.port.unwrap_or(HTTP),
            proxied: true,
            inside: None,
        }),
        (To::Asked { .. }, _) => Err(Refused::bad("a proxy is asked with a whole URL")),
    }
}

/// What becomes of a request that is on its way, when policies have changed. Its fields are read
/// from what was forwarded.
pub(in super::super) fn stays(
    core: &Core,
    (workload, decided, peer): (&WorkloadId, (&Verdict, &Called), SocketAddr),
    (report, forwarded): (&Report, &[u8]),
    is_tunnel: bool,
) -> Stay {
    let (verdict, called) = decided;
    let leaving = Leaving {
        workload,
        verdict,
        peer,
        is_tunnel,
    };
    asked_again(core, (report, forwarded), called, |target| {
        leaving.now(core, target)
    })
    .unwrap_or(Stay::Ended)
}

/// Asks something of a request that was decided before. Its fields are read from what goes on.
pub(super) fn asked_again<T>(
    core: &Core,
    (report, forwarded): (&Report, &[u8]),
    called: &Called,
    ask: impl FnOnce(&decide::Target<'_>) -> T,
) -> Option<T> {
    let mut space = FieldSpace::new();
    let Parsed::Head(request) = Request::parse(forwarded, &mut space, core.config.heads) else {
        return None;
    };
    Some(ask(&decide::Target {
        name: report.name(),
        address: called.address,
        port: called.port,
        request: Some(decide::Asked {
            method: report.method(),
            path: report.path(),
            fields: &request,
        }),
        tls: called.tls(),
        by_address: false,
    }))
}

/// Asks the policies about a request.
///
/// 1. CONNECT asks a proxy, which the client does not know it has.
/// 2. Where a policy looks at requests, the path is put into its one spelling, or the request is
///    refused.
/// 3. The name that is asked is the request's own. An address in its place says nothing that the
///    called address does not say better.
pub(super) fn decide(
    core: &Core,
    workload: &WorkloadId,
    called: &Called,
    request: &mut Request<'_, '_>,
    report: &mut Report,
) -> Result<Verdict, Refused> {
    if request.target == Target::Authority {
        return Err(Refused {
            status: 405,
            reason: "CONNECT is for a proxy, and none was asked",
        });
    }
    let policies = &*core.outside.decide;
    if let Some(Host::Name(name)) = request.authority.as_ref().map(|asked| &asked.host) {
        report.host(name);
        if policies.sees_requests(workload, name, called.port) {
            request.settle_path()?;
        }
    }
    report.port(called.port);
    report.request(request.method, request.target.path());
    let target = decide::Target {
        name: report.name(),
        address: called.address,
        port: called.port,
        request: Some(decide::Asked {
            method: request.method,
            path: request.target.path(),
            fields: &*request,
        }),
        by_address: false,
        tls: called.tls(),
    };
    let verdict = policies.decide(workload, &target);
    report.verdict(&verdict);
    Ok(verdict)
}

impl Fields for Request<'_, '_> {
    fn any(&self, name: &str, wanted: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.values(name).any(wanted)
    }
}
