//! Which of several policies decides: an order over (policy, what it means, ports).

use std::cmp::Reverse;
use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use sortie_api::policy::{
    Destination, EgressPolicy, Enforcement, HostPattern, Http, HttpMatch, PortRange, Protocol,
    Request, Tls, Unlearned,
};

/// Where HTTP is looked for when a destination with `http` names no ports (RFC 9110, 4.2).
const HTTP_PORTS: [PortRange; 2] = [http_port(80), http_port(443)];

/// One way in which a policy can cover a packet, a connection or a request.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The policy.
    pub policy: &'a EgressPolicy,
    /// The entry; none where the policy has no destinations, and for `unlearned: Deny`.
    pub destination: Option<&'a Destination>,
    /// What is meant.
    pub scope: Scope<'a>,
}

/// What a candidate means: one part of one entry of a policy's destinations.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    /// Every address, and every name.
    Everything,
    /// Addresses that no look-up gave: those of a policy with `unlearned: Deny`. They are denied,
    /// whatever its action.
    Unlearned,
    /// Addresses by prefix.
    Prefix(IpNet),
    /// Names by pattern, with all that goes there.
    Host(&'a HostPattern),
    /// Requests to names by pattern.
    Request {
        /// The names.
        host: &'a HostPattern,
        /// The destination's `http`.
        http: &'a Http,
        /// One entry of its `match`; none where it has no entries and means every request.
        entry: Option<&'a HttpMatch>,
    },
}

/// Where a packet wants to go, and what is known of it besides. A port without a protocol makes no
/// sense, so they come together; none for protocols without ports.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The destination's address.
    pub ip: IpAddr,
    /// Protocol and destination port.
    pub port: Option<(Protocol, u16)>,
    /// The name that the workload means: the one whose look-up gave the address, or what the gateway
    /// sees. None where no look-up gave the address and nobody sees a name.
    pub name: Option<&'a str>,
    /// The request, where the gateway sees one.
    pub request: Option<&'a Request<'a>>,
}

impl Target<'_> {
    /// An address without a name.
    pub fn address(ip: IpAddr, port: Option<(Protocol, u16)>) -> Self {
        Self {
            ip,
            port,
            name: None,
            request: None,
        }
    }
}

impl<'a> Candidate<'a> {
    /// All candidates of these policies, the one that decides first.
    pub fn ordered(policies: impl IntoIterator<Item = &'a EgressPolicy>) -> Vec<Self> {
        let mut candidates: Vec<Self> = policies.into_iter().flat_map(Self::of).collect();
        candidates.sort_by_key(Self::rank);
        candidates
    }

    fn of(policy: &'a EgressPolicy) -> Vec<Self> {
        let whole = Self {
            policy,
            destination: None,
            scope: Scope::Everything,
        };
        if policy.destinations.is_empty() {
            return vec![whole];
        }
        let mut all = Vec::new();
        for destination in &policy.destinations {
            let entry = Self {
                destination: Some(destination),
                ..whole
            };
            if destination.cidrs.is_empty() && destination.hosts.is_empty() {
                all.push(entry);
            }
            let mut seen = HashSet::new();
            for cidr in destination.cidrs.iter().filter(|cidr| seen.insert(**cidr)) {
                all.push(Self {
                    scope: Scope::Prefix(*cidr),
                    ..entry
                });
            }
            for host in &destination.hosts {
                let scopes = scopes_of(host, destination.http.as_ref());
                all.extend(scopes.map(|scope| Self { scope, ..entry }));
            }
        }
        if policy.unlearned == Unlearned::Deny {
            all.push(Self {
                scope: Scope::Unlearned,
                ..whole
            });
        }
        all
    }

    /// The order, first to last:
    /// 1. higher priority;
    /// 2. more specific destination: requests ([`HttpMatch::specificity`], then the host's) before
    ///    hosts (an exact name, then the longer end) before prefixes (the longer one) before
    ///    addresses that no look-up gave before everything; of equal ones, ports before none;
    /// 3. more specific owner;
    /// 4. name.
    fn rank(&self) -> impl Ord + use<'a> {
        (
            Reverse(self.policy.priority),
            Reverse(self.specificity()),
            Reverse(!self.ports().is_empty()),
            self.policy.owner,
            &self.policy.name,
        )
    }

    /// More is greater: the kind first, then each kind's own.
    pub(crate) fn specificity(&self) -> impl Ord + use<> {
        let (kind, length, request, host) = match self.scope {
            Scope::Everything => (0, 0, None, None),
            Scope::Unlearned => (1, 0, None, None),
            Scope::Prefix(prefix) => (2, prefix.prefix_len(), None, None),
            Scope::Host(host) => (3, 0, None, Some(host)),
            Scope::Request { host, entry, .. } => (4, 0, entry, Some(host)),
        };
        (
            kind,
            length,
            request.map(HttpMatch::specificity),
            host.map(HostPattern::specificity),
        )
    }

    /// Whether it only tells what it would change.
    pub fn audits(&self) -> bool {
        self.policy.enforcement == Enforcement::Audit
    }

    /// Empty: every protocol and port.
    pub fn ports(&self) -> &'a [PortRange] {
        match (self.destination, self.scope) {
            (None, _) => &[],
            (Some(entry), Scope::Request { .. }) if entry.ports.is_empty() => &HTTP_PORTS,
            (Some(entry), _) => &entry.ports,
        }
    }

    /// Parts of the prefix that are not meant.
    pub fn except(&self) -> &'a [IpNet] {
        self.destination
            .map_or(&[], |destination| &destination.except)
    }

    /// Whether it covers all that there is: nobody behind it is ever asked.
    pub fn covers_all(&self) -> bool {
        matches!(self.scope, Scope::Everything) && self.ports().is_empty()
    }

    /// What it says about TLS.
    pub fn tls(&self) -> Option<&'a Tls> {
        match self.scope {
            Scope::Request { http, .. } => http.tls.as_ref(),
            _ => None,
        }
    }

    /// Whether the gateway reads what TLS hides, for its sake.
    pub fn inspects(&self) -> bool {
        self.tls().is_some_and(|tls| tls.inspect().is_some())
    }

    /// The names that it is about.
    pub fn host(&self) -> Option<&'a HostPattern> {
        match self.scope {
            Scope::Host(host) | Scope::Request { host, .. } => Some(host),
            Scope::Everything | Scope::Unlearned | Scope::Prefix(_) => None,
        }
    }

    /// Whether a name is one of those that it is about.
    pub fn names(&self, name: &str) -> bool {
        self.host().is_some_and(|host| host.matches(name))
    }

    /// Whether it is asked about such a port.
    pub fn takes_port(&self, port: Option<(Protocol, u16)>) -> bool {
        let ports = self.ports();
        ports.is_empty() || port.is_some_and(|port| ports.iter().any(|r| r.contains(port)))
    }

    /// Whether this candidate has a say: its scope takes the address, the name or the request, and
    /// its ports the port.
    pub fn covers(&self, target: Target<'_>) -> bool {
        self.takes_port(target.port)
            && match self.scope {
                Scope::Everything => true,
                Scope::Unlearned => target.name.is_none(),
                Scope::Prefix(prefix) => {
                    prefix.contains(&target.ip)
                        && !self.except().iter().any(|net| net.contains(&target.ip))
                }
                Scope::Host(host) => target.name.is_some_and(|name| host.matches(name)),
                Scope::Request { host, http, entry } => {
                    let request = target.request;
                    target.name.is_some_and(|name| host.matches(name))
                        && request.is_some_and(|request| http.takes(entry, request))
                }
            }
    }
}

/// One for each entry of `match`.
fn scopes_of<'a>(host: &'a HostPattern, http: Option<&'a Http>) -> impl Iterator<Item = Scope<'a>> {
    let whole = match http {
        None => Some(Scope::Host(host)),
        Some(http) if http.matches.is_empty() => Some(Scope::Request {
            host,
            http,
            entry: None,
        }),
        Some(_) => None,
    };
    let entries = http.into_iter().flat_map(move |http| {
        let entries = http.matches.iter();
        entries.map(move |entry| Scope::Request {
            host,
            http,
            entry: Some(entry),
        })
    });
    whole.into_iter().chain(entries)
}

const fn http_port(port: u16) -> PortRange {
    PortRange {
        protocol: Protocol::Tcp,
        first: port,
        last: port,
    }
}

#[cfg(test)]
pub(crate) mod tests;
