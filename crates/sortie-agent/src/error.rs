//! What can go wrong in the agent as a whole.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the agent cannot run, or cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not root.
    #[error("the agent needs root: it edits the network of this host; start it with sudo")]
    NotRoot,
    /// Somebody else is the agent here.
    #[error(
        "another agent runs in this network namespace; ask it with `sortie status`, or stop it first"
    )]
    SecondAgent,
    /// A `sortie run` without an agent does what an agent would.
    #[error(
        "`sortie run` (process {pid}) has this network namespace without an agent, until its command ends; wait for it, or end it with `kill {pid}`"
    )]
    RunHolds {
        /// Its process.
        pid: u32,
    },
    /// A file or folder.
    #[error("cannot {operation} {path}: {source}")]
    File {
        /// read, write, …
        operation: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The configuration is wrong; every mistake is in the text.
    #[error("{0}")]
    Config(sortie_api::problem::FileErrors),
    /// Policies are wrong; every mistake is in the text.
    #[error("{0}")]
    Policies(sortie_api::problem::FileErrors),
    /// The kernel refused, or lacks something.
    #[error(transparent)]
    Kernel(#[from] sortie_kernel::Error),
    /// Conntrack's or NFLOG's events.
    #[error("cannot listen to {what}: {source}")]
    Listen {
        /// What.
        what: &'static str,
        /// Why.
        source: nfnetlink::Error,
    },
    /// The address for metrics.
    #[error(
        "cannot listen on {address} for metrics: {source}; write another `metrics.listen` into the agent's configuration"
    )]
    Metrics {
        /// As configured.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The engine's source.
    #[error(transparent)]
    Workloads(#[from] sortie_workloads::Error),
    /// A process, socket or thread of the system.
    #[error("cannot {operation}: {source}")]
    System {
        /// What.
        operation: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A request that cannot be met: what, why, what to do.
    #[error("{0}")]
    Refused(String),
    /// A workload that the engine has not told of, or not yet: what, why, what to do.
    #[error("{0}")]
    Unknown(String),
    /// The core ended while somebody waited for it.
    #[error("the agent is shutting down")]
    Ending,
}

impl Error {
    pub(crate) fn system(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { operation, source }
    }

    pub(crate) fn file(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            operation,
            path,
            source,
        }
    }
}
