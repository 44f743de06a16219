//! The questions that the data path asks, and their answers. Who answers knows policies and names;
//! the data path knows connections.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sortie_api::workload::WorkloadId;
use sortie_plan::planner::audit::{Now, Outcome};

use crate::meter::Left;
use crate::tls::{Inspection, Origination, Reception, ShownCertificate};

/// Answers what a workload may ask for, and how it leaves.
///
/// Called for each request, on the threads that carry them: an answer must not wait.
pub trait Decide: Send + Sync {
    /// Whether a policy of the workload looks at paths, methods or fields for this name. Paths are
    /// put into their one spelling then, and refused where they have several.
    fn sees_requests(&self, workload: &WorkloadId, name: &str, port: u16) -> bool;

    /// Whether policies speak of this workload still. One that needs the gateway no longer may finish
    /// what it has begun.
    fn knows(&self, workload: &WorkloadId) -> bool {
        let _ = workload;
        true
    }

    /// How one request, or one connection whose requests nobody sees, leaves.
    fn decide(&self, workload: &WorkloadId, target: &Target<'_>) -> Verdict;

    /// Whether an address may be reached with this decision: a name's never undoes what is said of
    /// the address.
    ///
    /// # Errors
    /// The policy that is against it.
    fn address(
        &self,
        workload: &WorkloadId,
        verdict: &Verdict,
        to: SocketAddr,
    ) -> Result<(), Denied>;

    /// Whether a name may lead to this address although it is private.
    fn allows_private(&self, workload: &WorkloadId, to: SocketAddr) -> bool {
        let _ = (workload, to);
        false
    }

    /// Whether an address is the host's own, egress addresses included.
    fn is_of_host(&self, address: IpAddr) -> bool;

    /// What a policy that only audits would have changed about something that has ended; none where
    /// none of them would have decided. `to` is the address that was called, if any was, and `now`
    /// how it left.
    fn audited(
        &self,
        workload: &WorkloadId,
        would: &Would,
        to: Option<SocketAddr>,
        now: Now,
    ) -> Option<Audited> {
        let _ = (workload, would, to, now);
        None
    }

    /// How TLS of this connection is looked into, where a policy of the workload says so. Requests
    /// inside are then decided as those of plain HTTP. Not at all, unless this says otherwise.
    fn inspects(&self, workload: &WorkloadId, target: &Target<'_>) -> Option<Arc<Inspection>> {
        let _ = (workload, target);
        None
    }
}

/// What is asked for.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// The name in lower case, if one was told: by `Host`, by a URL, or by a TLS client's hello.
    pub name: Option<&'a str>,
    /// The address that the client called, or wrote instead of a name.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
    /// The request, where it is seen.
    pub request: Option<Asked<'a>>,
    /// What TLS does to the requests.
    pub tls: Tls,
    /// Whether what speaks of names was asked before, without an address, and has no say: the gateway
    /// has looked this one up, and what speaks of addresses decides.
    pub by_address: bool,
}

/// What TLS does to the requests of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// There is none.
    Absent,
    /// It hides them.
    Hides,
    /// It was taken off: they are seen, and go on in TLS.
    TakenOff,
}

/// A request as policies see it.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// As written; methods know upper and lower case.
    pub method: &'a str,
    /// Without the query; in its one spelling where [`Decide::sees_requests`] said so.
    pub path: &'a str,
    /// The fields that the origin will get.
    pub fields: &'a dyn Fields,
}

/// Fields of a request.
pub trait Fields {
    /// Whether a field of this name has a value that `wanted` accepts. Names know no case.
    fn any(&self, name: &str, wanted: &mut dyn FnMut(&[u8]) -> bool) -> bool;
}

/// How it leaves, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a word of its own that the policies have"
)]
pub struct Verdict {
    /// The policy that decided; `None` when none did.
    pub policy: Option<Arc<str>>,
    /// Whether it was decided by the name or the request. The name is then resolved here, and the
    /// address that the client called means nothing. Else the address it called is called.
    pub by_name: bool,
    /// The address that the called one stands in for, where the workload was told another one.
    pub stands_for: Option<IpAddr>,
    /// Whether what decided names the port, and not just any. A proxy's client gets a tunnel to such
    /// ports, and to that of HTTPS.
    pub names_port: bool,
    /// How it leaves.
    pub way: Way,
    /// What would be decided, if the policies that only audit were enforced; none where there are
    /// none.
    pub would: Option<Arc<Would>>,
    /// Whether the name may have private addresses ([`crate::private`]).
    pub allows_private: bool,
    /// How long what leaves with a former address may go on when this one's takes its place.
    pub drains: Option<Duration>,
    /// How TLS is begun with the origin, where the workload speaks plain HTTP; and inside of TLS that
    /// was taken off, if not as the inspection says.
    pub originate: Option<Arc<Origination>>,
    /// Whether HTTP/3 is taken out of `Alt-Svc`, because UDP would pass by.
    pub hides_http3: bool,
}

impl Verdict {
    /// How it leaves towards an address, as it is counted.
    pub(crate) fn left(&self, towards: IpAddr) -> Left {
        match self.way {
            Way::Egress { sources, .. } => {
                sources.towards(towards).map_or(Left::Nowhere, Left::With)
            }
            Way::AsHost => Left::AsHost,
            Way::Refused(_) => Left::Nowhere,
        }
    }

    /// As without Sortie, because no policy is concerned.
    pub fn unconcerned() -> Self {
        Self {
            policy: None,
            by_name: false,
            stands_for: None,
            names_port: false,
            way: Way::AsHost,
            would: None,
            allows_private: false,
            drains: None,
            originate: None,
            hides_http3: false,
        }
    }
}

/// What would be decided, if the policies that only audit were enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Would {
    /// So.
    Decide(Verdict),
    /// Each request by itself: TLS would be looked into for this policy's sake. It is not, and so
    /// nobody knows.
    Inspect(Arc<str>),
}

impl Would {
    /// Whether no address of the name would be asked for before it is decided.
    pub(crate) fn is_settled(&self) -> bool {
        match self {
            Self::Decide(verdict) => verdict.by_name || matches!(verdict.way, Way::Refused(_)),
            Self::Inspect(_) => true,
        }
    }
}

/// What a policy that only audits would have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    /// The policy.
    pub policy: Arc<str>,
    /// What would differ.
    pub outcome: Outcome,
    /// The source that it would give, where it gives one.
    pub source: Option<IpAddr>,
    /// Why it would refuse, if it would.
    pub refused: Option<Reason>,
}

/// A way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// With one of these sources, and the mark that leads to their uplink.
    Egress {
        /// One for each family.
        sources: Sources,
        /// The socket's mark; 0 sets none.
        mark: u32,
    },
    /// As the host itself.
    AsHost,
    /// Not at all.
    Refused(Reason),
}

/// A source of each family, where there is one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sources {
    /// For IPv4.
    pub v4: Option<Ipv4Addr>,
    /// For IPv6.
    pub v6: Option<Ipv6Addr>,
}

impl Sources {
    /// The source towards an address that is known or not, or that of the other family.
    pub fn any(&self, towards: Option<IpAddr>) -> Option<IpAddr> {
        let of_family = towards.and_then(|address| self.towards(address));
        let (v4, v6) = (self.v4.map(IpAddr::V4), self.v6.map(IpAddr::V6));
        of_family.or(v4).or(v6)
    }

    /// The source towards an address: of its family.
    pub fn towards(&self, address: IpAddr) -> Option<IpAddr> {
        match address {
            IpAddr::V4(_) => self.v4.map(IpAddr::V4),
            IpAddr::V6(_) => self.v6.map(IpAddr::V6),
        }
    }
}

/// Why a policy refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its action is Deny.
    Denied,
    /// TLS hides a path that would change the decision.
    PathNotVisible,
    /// It has no address that could be used now.
    NoAddress,
    /// The name is unknown, or answers with what it must not: the host's, or a private address.
    PrivateAnswer,
    /// The certificates that it wants for TLS cannot be used.
    NoCertificates,
    /// It looks at paths, and this one has several spellings.
    AmbiguousPath,
    /// It is another one since the request began, and the request did not end in time.
    PolicyChanged,
}

impl Reason {
    /// Its word for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Denied => "Denied",
            Self::PathNotVisible => "PathNotVisible",
            Self::NoAddress => "NoAddress",
            Self::PrivateAnswer => "PrivateAnswer",
            Self::NoCertificates => "NoCertificates",
            Self::AmbiguousPath => "AmbiguousPath",
            Self::PolicyChanged => "PolicyChanged",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The policy that denies an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Its name.
    pub policy: Arc<str>,
}

/// Answers which workload a client of the proxy is.
pub trait Clients: Send + Sync {
    /// The workload at this address, or the one that shows this. `None` is served nothing.
    fn known(&self, peer: SocketAddr, shown: Shown<'_>) -> Option<WorkloadId>;

    /// What is spoken where they come in. Asked for each connection; in the clear, unless this says
    /// otherwise.
    fn speaks(&self) -> Speaks {
        Speaks::Plain
    }
}

/// What a proxy's clients speak with it.
#[derive(Clone)]
pub enum Speaks {
    /// HTTP or SOCKS5 as they are.
    Plain,
    /// The same inside of TLS.
    Tls(Reception),
    /// TLS, for which there are no certificates now: nobody is served.
    NotNow,
}

/// What a client shows: a certificate once for a connection, the rest with each request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shown<'a> {
    /// Its certificate.
    pub certificate: Option<&'a ShownCertificate>,
    /// What it says besides.
    pub proof: Option<Proof<'a>>,
}

/// What a client says to prove who it is.
#[derive(Debug, Clone, Copy)]
pub enum Proof<'a> {
    /// The value of `Proxy-Authorization`, such as `Basic dXNlcjpwYXNz`.
    Authorization(&'a [u8]),
    /// Of SOCKS5 (RFC 1929).
    Password {
        /// The name.
        user: &'a [u8],
        /// The password.
        password: &'a [u8],
    },
}

/// Addresses that [`Resolve`] answers with.
pub type Addresses = Arc<[IpAddr]>;

/// A future of [`Resolve`].
pub type Resolving<'a> = Pin<Box<dyn Future<Output = io::Result<Addresses>> + Send + 'a>>;

/// Answers which addresses a name has, for a workload: its servers, not the client's word.
pub trait Resolve: Send + Sync {
    /// Addresses that are known already, so that most requests wait for nothing.
    fn known(&self, workload: &WorkloadId, name: &str) -> Option<Addresses>;

    /// Asks for the addresses. An error's text tells which server answered what.
    fn resolve<'a>(&'a self, workload: &'a WorkloadId, name: &'a str) -> Resolving<'a>;
}
