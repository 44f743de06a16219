//! What can go wrong, with the operation, the object and what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

use netlink_packet_core::DecodeError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel said no to one request.
    #[error("cannot {operation} {object}: {refusal}{}", advice(.refusal.errno))]
    Refused {
        /// A verb, such as `add route`.
        operation: &'static str,
        /// What it was about.
        object: String,
        /// The kernel's answer.
        refusal: Refusal,
    },
    /// A socket could not be opened, written or read.
    #[error("cannot {operation} the {protocol} socket: {source}{}", advice(.source.raw_os_error().unwrap_or(0)))]
    Socket {
        /// `open`, `send to` or `receive from`.
        operation: &'static str,
        /// Which socket.
        protocol: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The kernel sent what we cannot read.
    #[error(
        "cannot read the kernel's answer to {operation} {object}: {source}; this is a bug or a kernel newer than this version of sortie"
    )]
    Decode {
        /// A verb, such as `list routes`.
        operation: &'static str,
        /// What it was about.
        object: String,
        /// Where decoding stopped.
        source: DecodeError,
    },
    /// A dump changed under our hands time and again.
    #[error(
        "cannot {operation} {object}: it changed during each of {attempts} readings; try again when the host is calmer"
    )]
    Unsteady {
        /// A verb, such as `list routes`.
        operation: &'static str,
        /// What it was about.
        object: String,
        /// How many times it was read.
        attempts: u32,
    },
    /// An interface that is not there.
    #[error(
        "cannot {operation}: there is no interface {name} in this network namespace; it is done when the interface is back"
    )]
    NoInterface {
        /// What it is needed for.
        operation: String,
        /// Its name.
        name: String,
    },
    /// A network namespace could not be opened, made or entered.
    #[error("cannot {operation} the network namespace {namespace}: {source}{}", advice(.source.raw_os_error().unwrap_or(0)))]
    Namespace {
        /// `open`, `make` or `enter`.
        operation: &'static str,
        /// Its path, or who lives in it.
        namespace: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A kernel setting could not be read or written.
    #[error(
        "cannot {operation} /proc/sys/{name}: {source}{}",
        sysctl_advice(source)
    )]
    Sysctl {
        /// `read` or `write`.
        operation: &'static str,
        /// Below `/proc/sys`.
        name: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The name of a kernel setting is not one.
    #[error(
        "{name:?} is no name of a kernel setting: write it relative to /proc/sys, such as net/ipv4/ip_forward"
    )]
    SysctlName {
        /// What was given.
        name: String,
    },
    /// Our notes of what we changed could not be read or written.
    #[error("cannot {operation} {}: {source}; free space or mend the file, then try again", path.display())]
    State {
        /// `read` or `write`.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// nftables or conntrack said no, or could not be asked.
    #[error("cannot {operation}: {source}{}", advice(.source.errno().unwrap_or(0)))]
    Netfilter {
        /// A verb and its object, such as `change our tables`.
        operation: &'static str,
        /// The kernel's answer, with the step of the transaction that it refused.
        source: nfnetlink::Error,
    },
    /// Somebody else holds a table of ours.
    #[error(
        "another sortie agent (or `nft` with an owned table) holds table {family} sortie, as netlink port {port}: only one may run in a network namespace; stop it, or ask it instead"
    )]
    TableHeld {
        /// The table's family.
        family: sortie_plan::nft::Family,
        /// The netlink port of its owner, often its process id.
        port: u32,
    },
    /// An agent that is gone left its tables.
    #[error(
        "table {family} sortie of a stopped agent is in force: start the agent again, or give it up with `sortie down`"
    )]
    TableLeft {
        /// The table's family.
        family: sortie_plan::nft::Family,
    },
    /// The plan asks for what cannot be lowered.
    #[error("cannot lower {object} to nf_tables: {reason}; this is a bug of the planner")]
    Plan {
        /// What it was.
        object: String,
        /// Why not.
        reason: &'static str,
    },
    /// The kernel lacks what this cannot do without.
    #[error("this kernel has no {feature}: {meaning}")]
    Unsupported {
        /// The feature.
        feature: crate::probe::Feature,
        /// What it means.
        meaning: &'static str,
    },
    /// Another program's route is where ours must be.
    #[error(
        "cannot add route {route}: another program has a route to the same destination; remove it, or use another address"
    )]
    RouteTaken {
        /// Ours.
        route: String,
    },
    /// A firewall that nf_tables does not show.
    #[error(
        "cannot let packets of {interface} through: iptables-legacy is in use here, whose rules only it can edit; add `iptables-legacy -I FORWARD -i {interface} -j ACCEPT` and the same with -o, or switch to iptables-nft"
    )]
    LegacyFirewall {
        /// The interface.
        interface: String,
    },
    /// A failpoint's text is not one.
    #[error(
        "failpoint {text:?}: {reason}; write WHEN:STEP=ACTION, such as before:nft=abort or probe:persist=unsupported"
    )]
    Failpoint {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A failpoint was reached.
    #[error("failpoint {point} reached: stopped as asked")]
    Injected {
        /// Which.
        point: String,
    },
}

/// The kernel's answer to a request that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A positive errno.
    pub errno: i32,
    /// The extended acknowledgement's text (`NLMSGERR_ATTR_MSG`), where the kernel gave one.
    pub message: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errno = nix::errno::Errno::from_raw(self.errno);
        match &self.message {
            Some(message) => write!(f, "{} ({errno:?}: {message})", errno.desc()),
            None => write!(f, "{} ({errno:?})", errno.desc()),
        }
    }
}

/// Names what was asked of netfilter.
pub(crate) fn netfilter(operation: &'static str) -> impl Fn(nfnetlink::Error) -> Error + Copy {
    move |source| Error::Netfilter { operation, source }
}

impl Error {
    /// The errno behind this error, where there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal.errno),
            Self::Socket { source, .. }
            | Self::Namespace { source, .. }
            | Self::Sysctl { source, .. }
            | Self::State { source, .. } => source.raw_os_error(),
            Self::Netfilter { source, .. } => source.errno(),
            _ => None,
        }
    }
}

/// What to do, for the answers where it is not plain.
fn advice(errno: i32) -> &'static str {
    match errno {
        libc::EPERM | libc::EACCES => {
            "; run as root, or with CAP_NET_ADMIN (and CAP_SYS_ADMIN for namespaces) in this network namespace"
        }
        libc::ENODEV => "; the interface is gone: it is done when it is back",
        libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT => {
            "; this kernel lacks the feature: `sortie doctor` says what that means"
        }
        libc::ENETUNREACH => {
            "; the gateway is not on a network of that interface: check the uplink's address"
        }
        libc::ENOBUFS | libc::ENOMEM => "; the host is short of memory: it is tried again",
        _ => "",
    }
}

fn sysctl_advice(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EROFS) => {
            "; /proc/sys is mounted read-only, as in a container: set it on the host, or run sortie there"
        }
        Some(libc::ENOENT) => {
            "; the interface or the kernel module that it belongs to is not there"
        }
        Some(libc::EINVAL) => "; the kernel does not accept that value",
        other => advice(other.unwrap_or(0)),
    }
}
