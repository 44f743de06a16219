//! Why a command failed: printed once, behind `sortie: `.

use std::io;
use std::path::PathBuf;

use sortie_agent::client::ClientError;
use sortie_agent::observe::ObserveError;
use sortie_api::problem::FileErrors;
use sortie_lab::LabError;

/// Every way a command fails; the exit code is 1.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The agent is not there, or says no.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The engine's runtime cannot be changed.
    #[error(transparent)]
    Workloads(#[from] sortie_workloads::Error),
    /// `observe` cannot listen.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// A policy file has mistakes; nothing was sent.
    #[error("nothing was changed, because of mistakes in the files:\n{0}")]
    Policies(#[from] FileErrors),
    /// A file or folder cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// As the user named it.
        path: PathBuf,
        /// From the system.
        source: io::Error,
    },
    /// A policy file is larger than any policy.
    #[error("{} has more than {limit} bytes: is it a policy file?", .path.display())]
    TooLarge {
        /// As the user named it.
        path: PathBuf,
        /// In bytes.
        limit: u64,
    },
    /// A folder has no policies.
    #[error("no *.yaml files in {}", .path.display())]
    EmptyFolder {
        /// As the user named it.
        path: PathBuf,
    },
    /// Two files would be kept by one name.
    #[error("{} and {} would both be kept as {name}: rename one of them", .first.display(), .second.display())]
    SameName {
        /// The earlier.
        first: PathBuf,
        /// The later.
        second: PathBuf,
        /// Their last part.
        name: String,
    },
    /// `explain` with a request, and nothing that says whether TLS hides it.
    #[error("-X and -H are about a request: write a URL, such as https://api.example/v1")]
    NoUrl,
    /// `get` with a name that nothing has.
    #[error("no {kind} named `{name}`; {known}")]
    NotFound {
        /// `policy`, `workload` or `address`.
        kind: &'static str,
        /// As written.
        name: String,
        /// The names there are.
        known: String,
    },
    /// Some of several deletions failed.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\nsortie: "))]
    Several(Vec<ClientError>),
    /// Root's work.
    #[error("`sortie {command}` must run as root, because {reason}: try `sudo sortie {command} …`")]
    NotRoot {
        /// The subcommand.
        command: &'static str,
        /// What only root may do.
        reason: &'static str,
    },
    /// `run` cannot make a network namespace.
    #[error("cannot make a network namespace: {0}")]
    Namespace(io::Error),
    /// `run` cannot start its command.
    #[error("cannot start `{command}`: {source}")]
    Start {
        /// The program.
        command: String,
        /// From the system.
        source: io::Error,
    },
    /// `run` cannot follow its command or its own signals.
    #[error("cannot wait for the command: {0}")]
    Wait(io::Error),
    /// The agent cannot run, or its leftovers cannot be removed.
    #[error(transparent)]
    Agent(Box<sortie_agent::Error>),
    /// The demo's lab cannot be made, or does not do what it is told.
    #[error(transparent)]
    Lab(Box<LabError>),
    /// There is no Docker engine for the demo.
    #[error(
        "the demo needs a Docker engine of its own, and dockerd is neither in PATH nor at {path}: run `make demo`, which installs what is missing"
    )]
    NoEngine {
        /// Where it was looked for.
        path: String,
    },
    /// The demo cannot make a file in its lab.
    #[error("cannot make {}: {source}", .path.display())]
    Make {
        /// In the lab's folder.
        path: PathBuf,
        /// From the system.
        source: io::Error,
    },
    /// A step of the demo that must succeed did not.
    #[error("`{command}` failed in the demo's host: {detail}")]
    Demo {
        /// The command line.
        command: String,
        /// What it said.
        detail: String,
    },
    /// A signal ended the demo.
    #[error("the demo was interrupted; its lab is gone")]
    Interrupted,
    /// `--failpoints` makes no sense.
    #[error("--failpoints: {0}")]
    Failpoints(sortie_kernel::Error),
    /// A value has no form in JSON or YAML.
    #[error("cannot write the answer as {format}: {detail}")]
    Format {
        /// `JSON` or `YAML`.
        format: &'static str,
        /// From the serializer.
        detail: String,
    },
    /// The reader of standard output is gone; not told.
    #[error("standard output is closed")]
    Closed,
    /// Standard output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Write(io::Error),
    /// No runtime.
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
}

impl From<sortie_agent::Error> for CliError {
    fn from(error: sortie_agent::Error) -> Self {
        Self::Agent(Box::new(error))
    }
}

impl From<LabError> for CliError {
    fn from(error: LabError) -> Self {
        Self::Lab(Box::new(error))
    }
}
