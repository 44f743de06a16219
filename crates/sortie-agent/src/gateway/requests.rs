//! What policies say of a connection or a request that the gateway sees.

#[cfg(test)]
pub(super) mod tests;

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use sortie_api::mark_mask::MarkMask;
use sortie_api::policy::{Action, Headers, PolicyName, Protocol, Request, Tls};
use sortie_api::workload::WorkloadId;
use sortie_gateway::decide::{
    Audited, Decide, Denied, Fields, Reason, Sources, Target, Tls as Seen, Verdict, Way, Would,
};
use sortie_gateway::private::is_private;
use sortie_gateway::tls::Inspection;
use sortie_plan::mark::Mark;
use sortie_plan::named::{Sealed, sealed};
use sortie_plan::planner::audit::Now;
use sortie_plan::precedence::{self, Candidate, Scope};
use sortie_plan::resolve::{Addresses, Exit, Refusal, deciding};

use super::addresses::DNS;
use super::audit::audited;
use super::certificates::Certificates;
use super::known::Known;
use super::told::Told;
use crate::api::{ByName, GatewayHost};

/// DNS over TLS (RFC 7858): whoever asks there has names that nobody sees.
const DNS_OVER_TLS: u16 = 853;
/// The shortest prefix that says of private addresses that they are meant: fc00::/7 is the widest
/// range of them, and a shorter prefix has public ones in its middle.
const PRIVATE_LEAST: u8 = 7;

/// Asks the policies of those who are known.
pub(super) struct ByRequest {
    pub(super) known: Arc<Known>,
    pub(super) told: Arc<Told>,
    pub(super) certificates: Arc<Certificates>,
}

impl Decide for ByRequest {
    fn sees_requests(&self, workload: &WorkloadId, name: &str, port: u16) -> bool {
        let workload = self.known.workload(workload);
        workload.is_some_and(|workload| looks(&candidates(&workload), name, port).is_some())
    }

    fn knows(&self, workload: &WorkloadId) -> bool {
        self.known.workload(workload).is_some()
    }

    /// As [`ByRequest::verdict`] says of the policies that are enforced. What those that only audit
    /// would make of it goes along, and nothing follows from it.
    fn decide(&self, workload: &WorkloadId, target: &Target<'_>) -> Verdict {
        let Some(workload) = self.known.workload(workload) else {
            return refused(None, Reason::Denied);
        };
        let host = self.known.host();
        let trust = Some(&*self.certificates);
        let verdict = self.verdict(
            &workload,
            &candidates(&workload),
            target,
            (&host, &*host),
            trust,
        );
        Verdict {
            would: self.would(&workload, target, &host),
            ..verdict
        }
    }

    /// Of what speaks of addresses the first that covers this one is against it
    /// 1. where it denies a prefix: no name undoes that;
    /// 2. where a name led to the address, and it comes before the policy that decided by name and
    ///    says otherwise: it is of a higher priority. Whoever is right, this address is not asked.
    fn address(
        &self,
        workload: &WorkloadId,
        verdict: &Verdict,
        to: SocketAddr,
    ) -> Result<(), Denied> {
        match self.known.workload(workload) {
            Some(workload) => {
                let host = self.known.host();
                may_reach(&candidates(&workload), verdict, to, &*host)
            }
            None => Err(Denied {
                policy: "none: the workload has gone".into(),
            }),
        }
    }

    fn allows_private(&self, workload: &WorkloadId, to: SocketAddr) -> bool {
        let workload = self.known.workload(workload);
        workload.is_some_and(|workload| allows_private(&candidates(&workload), to))
    }

    fn is_of_host(&self, address: IpAddr) -> bool {
        is_local(&self.known.host(), address)
    }

    /// Where the client asks for a name that is spoken of, as [`sealed`] says.
    fn inspects(&self, workload: &WorkloadId, target: &Target<'_>) -> Option<Arc<Inspection>> {
        let workload = self.known.workload(workload)?;
        let candidates = candidates(&workload);
        let hides = self.looks_inside(&workload.id, &candidates, target)?;
        let wanted = hides.tls()?.inspect()?;
        let host = self.known.host();
        self.certificates
            .inspection(wanted, &host.tls, Instant::now())
    }

    fn audited(
        &self,
        workload: &WorkloadId,
        would: &Would,
        to: Option<SocketAddr>,
        now: Now,
    ) -> Option<Audited> {
        let workload = self.known.workload(workload)?;
        audited(&workload, &self.known.host(), would, (to, now))
    }
}

/// What is known of a target.
struct Looked<'t> {
    /// The name by whose look-up the workload has the address.
    by_look_up: Option<Arc<str>>,
    /// The address that the called one stands for, if it is known by a look-up.
    real: Option<IpAddr>,
    ip: Option<IpAddr>,
    /// The name that was told, where a policy speaks of it.
    said: Option<&'t str>,
    told: Option<&'t str>,
}

impl ByRequest {
    /// What these candidates say, with these egress addresses; without certificates all that policies
    /// want are taken for usable. Steps, in order:
    /// 1. Nothing goes to what is local: the kernel leads none of that here, so whoever asks for it
    ///    has made a way of his own.
    /// 2. The name is the one that is told, if a policy speaks of it. Else it is the one by whose
    ///    look-up the workload has the address; what is asked for under another name then counts as
    ///    hidden.
    /// 3. Where the request is seen, the candidates decide with it; where not, as [`sealed`] says.
    /// 4. Whose candidate speaks of a name that was told is decided by name; the rest goes to the
    ///    called address.
    pub(super) fn verdict(
        &self,
        workload: &ByName,
        candidates: &[Candidate<'_>],
        target: &Target<'_>,
        (host, egress): (&GatewayHost, &impl Addresses),
        certificates: Option<&Certificates>,
    ) -> Verdict {
        let known = self.look(&workload.id, candidates, target);
        let Looked { real, ip, said, .. } = known;
        if ip.is_some_and(|ip| is_local(host, ip)) {
            return refused(None, Reason::PrivateAnswer);
        }
        let fields = target.request.map(|asked| (asked, Lines(asked.fields)));
        let request = fields
            .as_ref()
            .filter(|_| said.is_some())
            .map(|(asked, fields)| Request {
                method: asked.method,
                path: asked.path,
                headers: fields,
            });
        let asked = precedence::Target {
            request: request.as_ref(),
            ..known.asked(target)
        };
        let hides_http3 = said.is_some_and(|name| looks(candidates, name, target.port).is_some());
        let candidates = &*known.concerned(candidates, target);
        let decides = if request.is_some() {
            deciding(candidates, asked)
        } else {
            match sealed(candidates, asked) {
                Sealed::Decided(decides) => decides,
                // It would have been looked into, if it could be.
                Sealed::Inspect(hides) if target.tls == Seen::Hides && said.is_some() => {
                    return refused(Some(&hides.policy.name), Reason::NoCertificates);
                }
                Sealed::Inspect(hides) | Sealed::PathNotVisible(hides) => {
                    return refused(Some(&hides.policy.name), Reason::PathNotVisible);
                }
            }
        };
        let is_unseen = target.port == DNS_OVER_TLS && real.is_none() && said.is_none();
        let Some(decides) = decides else {
            if is_unseen {
                return refused(None, Reason::Denied);
            }
            return Verdict {
                stands_for: real,
                ..Verdict::unconcerned()
            };
        };
        let by_name = said.is_some() && decides.host().is_some();
        let families: &[bool] = match ip {
            Some(ip) if !by_name => &[ip.is_ipv6()],
            _ => &[false, true],
        };
        let port = match decides.tls() {
            Some(Tls::Originate(wanted)) => Some(wanted.port),
            Some(Tls::Inspect(_)) if target.tls == Seen::TakenOff => Some(target.port),
            _ => None,
        };
        let originate = match (decides.tls(), port, certificates) {
            (Some(wanted), Some(port), Some(certificates)) => {
                let now = Instant::now();
                let Some(made) = certificates.begun(wanted, port, &host.tls, now) else {
                    return refused(Some(&decides.policy.name), Reason::NoCertificates);
                };
                Some(made)
            }
            _ => None,
        };
        Verdict {
            policy: Some(decides.policy.name.0.as_str().into()),
            by_name,
            names_port: !decides.ports().is_empty(),
            originate,
            stands_for: real,
            drains: decides.policy.on_change.drain(),
            way: way(decides, families, egress),
            hides_http3,
            ..Verdict::unconcerned()
        }
    }

    /// For whose sake TLS of a connection is looked into, where it is.
    pub(super) fn looks_inside<'p>(
        &self,
        workload: &WorkloadId,
        candidates: &[Candidate<'p>],
        target: &Target<'_>,
    ) -> Option<Candidate<'p>> {
        let known = self.look(workload, candidates, target);
        known.said?;
        match sealed(&known.concerned(candidates, target), known.asked(target)) {
            Sealed::Inspect(hides) => Some(*hides),
            Sealed::Decided(_) | Sealed::PathNotVisible(_) => None,
        }
    }

    /// How a workload's question to a name server leaves: as the kernel would let it, but what is
    /// local is asked as the host, in whose name it is.
    pub(super) fn question(&self, workload: &WorkloadId, server: IpAddr) -> Way {
        let Some(workload) = self.known.workload(workload) else {
            return Way::Refused(Reason::Denied);
        };
        let host = self.known.host();
        if is_local(&host, server) {
            return Way::AsHost;
        }
        let candidates = candidates(&workload);
        let asked = precedence::Target::address(server, Some((Protocol::Udp, DNS)));
        match deciding(&candidates, asked) {
            Some(decides) => way(decides, &[server.is_ipv6()], &*host),
            None => Way::AsHost,
        }
    }

    fn look<'t>(
        &self,
        workload: &WorkloadId,
        candidates: &[Candidate<'_>],
        target: &Target<'t>,
    ) -> Looked<'t> {
        let looked_up = target
            .address
            .and_then(|called| self.told.named(workload, called));
        let real = looked_up.as_ref().map(|(_, real)| *real);
        let speaks_of = |name: &str| candidates.iter().any(|candidate| candidate.names(name));
        Looked {
            by_look_up: looked_up.map(|(name, _)| name),
            real,
            ip: real.or(target.address),
            said: target.name.filter(|name| speaks_of(name)),
            told: target.name,
        }
    }
}

impl Looked<'_> {
    /// What the candidates are asked, without a request.
    fn asked(&self, target: &Target<'_>) -> precedence::Target<'_> {
        precedence::Target {
            // Who asks a proxy tells a name first; only what speaks of names is asked then.
            ip: self.ip.unwrap_or(IpAddr::from([0; 4])),
            port: Some((Protocol::Tcp, target.port)),
            name: self.said.or(self.by_look_up.as_deref()).or(self.told),
            request: None,
        }
    }

    /// Those that can be asked: without an address only what speaks of names, and the rest only with
    /// one.
    fn concerned<'c, 'p>(
        &self,
        candidates: &'c [Candidate<'p>],
        target: &Target<'_>,
    ) -> Cow<'c, [Candidate<'p>]> {
        if self.ip.is_some() && !target.by_address {
            return Cow::Borrowed(candidates);
        }
        let all = candidates.iter().copied();
        let speaks_of_names = |it: &Candidate<'_>| it.host().is_some();
        Cow::Owned(
            all.filter(|it| speaks_of_names(it) != target.by_address)
                .collect(),
        )
    }
}

/// [`Decide::address`], of these candidates.
pub(super) fn may_reach(
    candidates: &[Candidate<'_>],
    verdict: &Verdict,
    to: SocketAddr,
    egress: &impl Addresses,
) -> Result<(), Denied> {
    let denied = |policy: &str| {
        Err(Denied {
            policy: policy.into(),
        })
    };

    let mut by_address = candidates.iter().filter(|candidate| {
        candidate.host().is_none() && !matches!(candidate.scope, Scope::Unlearned)
    });
    let target = precedence::Target::address(to.ip(), Some((Protocol::Tcp, to.port())));
    let Some(first) = by_address.find(|candidate| candidate.covers(target)) else {
        return Ok(());
    };
    if first.denies_prefix() {
        return denied(&first.policy.name.0);
    }
    let decided = candidates
        .iter()
        .find(|it| Some(it.policy.name.0.as_str()) == verdict.policy.as_deref());
    let is_before = decided.is_some_and(|it| first.policy.priority > it.policy.priority);
    if verdict.by_name && is_before {
        let same = match (first.exit(to.is_ipv6(), egress), &verdict.way) {
            (Exit::Egress(address), Way::Egress { sources, .. }) => {
                sources.towards(to.ip()) == Some(address)
            }
            (Exit::Bypass | Exit::NodeAddress, Way::AsHost) => true,
            _ => false,
        };
        if !same {
            return denied(&first.policy.name.0);
        }
    }
    Ok(())
}

/// Whether one of these candidates says that a private address is meant.
pub(super) fn allows_private(candidates: &[Candidate<'_>], to: SocketAddr) -> bool {
    let target = precedence::Target::address(to.ip(), Some((Protocol::Tcp, to.port())));
    candidates.iter().any(|candidate| {
        let Scope::Prefix(prefix) = candidate.scope else {
            return false;
        };
        prefix.prefix_len() >= PRIVATE_LEAST
            && is_private(prefix.network())
            && is_private(prefix.broadcast())
            && candidate.policy.action != Action::Deny
            && candidate.covers(target)
    })
}

pub(super) fn candidates(workload: &ByName) -> Vec<Candidate<'_>> {
    Candidate::ordered(workload.policies.iter().map(|policy| &*policy.0))
}

/// The host's addresses, egress addresses among them, and what is no policy's business.
pub(super) fn is_local(host: &GatewayHost, address: IpAddr) -> bool {
    host.own.contains(&address)
        || host.addresses.contains_key(&address)
        || host.local.iter().any(|range| range.contains(&address))
}

/// Who looks at requests to this name.
pub(super) fn looks<'c, 'p>(
    candidates: &'c [Candidate<'p>],
    name: &str,
    port: u16,
) -> Option<&'c Candidate<'p>> {
    let port = Some((Protocol::Tcp, port));
    candidates.iter().find(|candidate| {
        matches!(candidate.scope, Scope::Request { .. })
            && candidate.names(name)
            && candidate.takes_port(port)
    })
}

pub(super) fn refused(policy: Option<&PolicyName>, reason: Reason) -> Verdict {
    Verdict {
        policy: policy.map(|policy| policy.0.as_str().into()),
        way: Way::Refused(reason),
        ..Verdict::unconcerned()
    }
}

/// How a candidate lets these families leave. Where any of them has an address of its own, the
/// others do not leave as the host.
fn way(candidate: &Candidate<'_>, families: &[bool], host: &impl Addresses) -> Way {
    let (mut sources, mut mark, mut reason) = (Sources::default(), None, Reason::NoAddress);
    let mut as_host = false;
    for v6 in families {
        match candidate.exit(*v6, host) {
            Exit::Egress(address) if !host.usable(address) => {}
            Exit::Egress(address) => {
                let own = host.mark(address);
                // One that leads to an uplink serves an address without one too.
                let both = match (mark, own) {
                    (Some(other), Some(own)) if other != own && !is_plain(other) => {
                        if is_plain(own) { other } else { continue }
                    }
                    (other, own) => match own.or(other) {
                        Some(mark) => mark,
                        None => continue,
                    },
                };
                mark = Some(both);
                match address {
                    IpAddr::V4(address) => sources.v4 = Some(address),
                    IpAddr::V6(address) => sources.v6 = Some(address),
                }
            }
            Exit::Bypass | Exit::NodeAddress => as_host = true,
            Exit::Drop(Refusal::NoAddressOfFamily) => {}
            Exit::Drop(_) => reason = Reason::Denied,
        }
    }
    match mark {
        Some(mark) => Way::Egress {
            sources,
            mark: mark.value(),
        },
        None if as_host => Way::AsHost,
        None => Way::Refused(reason),
    }
}

/// Whether a mark leads to no uplink.
fn is_plain(mark: Mark) -> bool {
    MarkMask::try_from(mark.mask()).is_ok_and(|mask| mark == Mark::gateway(mask))
}

/// A request's fields, as policies read them.
struct Lines<'a>(&'a dyn Fields);

impl Headers for Lines<'_> {
    fn lines(&self, name: &str, line: &mut dyn FnMut(&[u8])) {
        self.0.any(name, &mut |value| {
            line(value);
            false
        });
    }
}
