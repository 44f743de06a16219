//! The way to an origin: which addresses may be called, and a connection to one of them from the
//! source that was decided.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use sortie_api::workload::WorkloadId;

use super::Called;
use crate::deadline::Deadline;
use crate::decide::{Addresses, Reason, Verdict, Way};
use crate::meter::By;
use crate::pool::Key;
use crate::private::is_private;
use crate::refusal::Refusal;
use crate::serve::Core;
use crate::tls::Origination;
use crate::upstream::{Failed, Upstream};

/// One question of a way.
#[derive(Clone, Copy)]
pub(super) struct Dial<'a> {
    pub(super) core: &'a Core,
    pub(super) workload: &'a WorkloadId,
    pub(super) verdict: &'a Verdict,
    pub(super) name: Option<&'a str>,
    /// Whom the client called.
    pub(super) called: &'a Called,
    pub(super) spoken: Spoken,
}

/// What the client speaks, and so the origin, where it can.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoken {
    /// HTTP/1, or something that goes through as it is.
    Http1,
    Http2,
}

/// Addresses that may be called, each with the source to leave with.
pub(super) type Ways = Vec<(SocketAddr, Option<IpAddr>)>;

impl Dial<'_> {
    /// Where to, in the order of the answer.
    ///
    /// 1. What a policy refuses goes nowhere.
    /// 2. Decided by name, the name's own addresses are called; else the one that the client called.
    /// 3. Of a name's addresses the host's own and private ones are left out, unless its policy
    ///    allows them.
    /// 4. So are those that a policy denies by address: a name never undoes that.
    /// 5. And those of a family that the policy has no source for.
    pub(super) async fn ways(&self, deadline: &mut Deadline) -> Result<Ways, Refusal> {
        let policy = || self.verdict.policy.clone();
        if let Way::Refused(reason) = self.verdict.way {
            return Err(Refusal::policy(policy(), reason));
        }
        let mut ways = Ways::new();
        let mut refused = None;
        let decide = &*self.core.outside.decide;
        for address in self.addresses(deadline).await?.iter() {
            let to = SocketAddr::new(*address, self.port());
            if self.is_inside(to) {
                refused = Some(Refusal::policy(policy(), Reason::PrivateAnswer));
                continue;
            }
            if let Err(denied) = decide.address(self.workload, self.verdict, to) {
                refused = Some(Refusal::policy(Some(denied.policy), Reason::Denied));
                continue;
            }
            match self.verdict.way {
                Way::Egress { sources, .. } => match sources.towards(*address) {
                    Some(source) => ways.push((to, Some(source))),
                    None => refused = refused.or_else(|| Some(Refusal::no_family(policy()))),
                },
                Way::AsHost | Way::Refused(_) => ways.push((to, None)),
            }
        }
        match refused {
            Some(refusal) if ways.is_empty() => Err(refusal),
            _ if ways.is_empty() => {
                let empty = io::Error::new(io::ErrorKind::NotFound, "it has no addresses");
                Err(Refusal::name(self.name.unwrap_or_default(), &empty))
            }
            _ => Ok(ways),
        }
    }

    /// Whether an address is one that only the host should reach, and no policy says otherwise. Who
    /// was redirected to an address could have reached it without the gateway too; names that a
    /// policy decides by, and what a proxy's client tells, need more care. An address that such a
    /// client writes out may be private where a policy is about it.
    fn is_inside(&self, to: SocketAddr) -> bool {
        let (verdict, decide) = (self.verdict, &*self.core.outside.decide);
        let address = to.ip();
        let is_told = verdict.by_name || self.called.proxied;
        let is_named = verdict.by_name || self.name.is_some() || verdict.policy.is_none();
        is_told
            && !verdict.allows_private
            && (address.is_loopback()
                || decide.is_of_host(address)
                || (is_named && is_private(address) && !decide.allows_private(self.workload, to)))
    }

    pub(super) async fn addresses(&self, deadline: &mut Deadline) -> Result<Addresses, Refusal> {
        let name = match (self.name, self.called.address) {
            (Some(name), _) if self.verdict.by_name => name,
            (_, Some(address)) => {
                return Ok(Arc::from([self.verdict.stands_for.unwrap_or(address)]));
            }
            (Some(name), None) => name,
            (None, None) => return Ok(Arc::from([])),
        };
        let resolve = &*self.core.outside.resolve;
        if let Some(known) = resolve.known(self.workload, name) {
            return Ok(known);
        }
        deadline.set(self.core.config.connect);
        let answer = deadline.within(resolve.resolve(self.workload, name)).await;
        answer
            .unwrap_or_else(|late| Err(late.into()))
            .map_err(|error| Refusal::name(name, &error))
    }

    /// What is alike for all requests that take this way.
    pub(super) fn key(&self, to: SocketAddr, source: Option<IpAddr>) -> Key {
        Key {
            workload: self.workload.clone(),
            source,
            mark: self.mark(),
            to,
            policy: self.verdict.policy.clone(),
            tls: self.originate().map(|originate| {
                let name = self.name.unwrap_or_default();
                (Arc::clone(originate), name.into())
            }),
            http2: (self.spoken == Spoken::Http2).then(|| self.name.unwrap_or_default().into()),
        }
    }

    /// How TLS is begun: where the policy says so, or because the client's own was taken off.
    fn originate(&self) -> Option<&Arc<Origination>> {
        let inside = self.called.inside.as_ref().map(|inside| &inside.upstream);
        self.verdict.originate.as_ref().or(inside)
    }

    /// The origin's port: another one than the workload called, where TLS is begun for it.
    fn port(&self) -> u16 {
        let originate = self.verdict.originate.as_ref();
        originate.map_or(self.called.port, |originate| originate.port)
    }

    fn mark(&self) -> u32 {
        match self.verdict.way {
            Way::Egress { mark, .. } => mark,
            Way::AsHost | Way::Refused(_) => 0,
        }
    }

    /// A new connection to the first of these that can be reached, with the source it has.
    pub(super) async fn connect_to(
        &self,
        ways: &Ways,
        deadline: &mut Deadline,
    ) -> Result<(Upstream, Option<IpAddr>), Refusal> {
        let mut last = None;
        for (to, source) in ways {
            match self.connect_one(*to, *source, deadline).await {
                Ok(upstream) => return Ok((upstream, *source)),
                Err(refusal) => last = Some(refusal),
            }
        }
        Err(last.unwrap_or_else(|| Refusal::no_family(self.verdict.policy.clone())))
    }

    async fn connect_one(
        &self,
        to: SocketAddr,
        source: Option<IpAddr>,
        deadline: &mut Deadline,
    ) -> Result<Upstream, Refusal> {
        let policy = self.verdict.policy.clone();
        let named = |refusal: Refusal| Refusal { policy, ..refusal };
        let seen = self.core.outside.seen.as_deref();
        let opened = Upstream::connect(to, (source, self.mark()), seen);
        deadline.set(self.core.config.connect);
        let opened = deadline.within(opened).await;
        match opened.unwrap_or_else(|late| Err(Failed::Other(late.into()))) {
            Ok(upstream) => self.begin_tls(upstream, deadline).await.map_err(named),
            Err(failed) => Err(named(self.failed(to, failed))),
        }
    }

    /// What the client is told of it; what an operator must know is counted.
    fn failed(&self, to: SocketAddr, failed: Failed) -> Refusal {
        match failed {
            Failed::Source(source, error) => {
                self.core.counts.failed_bind(self.by(to));
                Refusal::source(source, &error)
            }
            Failed::NoPorts(source, _) => Refusal::no_ports(source, to),
            Failed::Seen { wanted, seen } => {
                self.core.counts.wrong_source(self.by(to));
                Refusal::wrong_source(wanted, seen)
            }
            Failed::Other(error) => Refusal::connect(to, &error),
        }
    }

    /// Who decided about a connection to an address, as it is counted.
    fn by(&self, to: SocketAddr) -> By {
        By {
            policy: self.verdict.policy.clone(),
            left: self.verdict.left(to.ip()),
        }
    }

    /// TLS, where the gateway begins it.
    async fn begin_tls(
        &self,
        upstream: Upstream,
        deadline: &mut Deadline,
    ) -> Result<Upstream, Refusal> {
        let Some(originate) = self.originate() else {
            return Ok(upstream);
        };
        let peer = upstream.peer;
        let name = match self.name.map(|name| ServerName::try_from(name.to_owned())) {
            Some(Ok(name)) => name,
            Some(Err(_)) | None => ServerName::from(peer.ip()),
        };
        let config = match self.spoken {
            Spoken::Http1 => &originate.config,
            Spoken::Http2 => &originate.http2,
        };
        let begun = upstream.with_tls(name, Arc::clone(config));
        match deadline.within(begun).await {
            Ok(Ok(upstream)) => Ok(upstream),
            Ok(Err(error)) => Err(Refusal::tls(peer, &error)),
            Err(late) => Err(Refusal::connect(peer, &late.into())),
        }
    }
}
