//! What can go wrong while learning about workloads, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use sortie_api::workload::Engine;

/// Each variant names the operation, the object, and where somebody can help, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing at the socket's path.
    #[error(
        "connect to the engine: there is no socket at {socket}; start {engine}, or give the path of its socket"
    )]
    NoSocket {
        /// Whose it would be.
        engine: Engine,
        /// The configured path.
        socket: PathBuf,
    },
    /// The socket may not be opened.
    #[error(
        "connect to the engine: permission denied at {socket}; run as root or as a member of the socket's group"
    )]
    Denied {
        /// The configured path.
        socket: PathBuf,
    },
    /// A socket without a listener, as an engine leaves it when it is killed.
    #[error("connect to the engine: nobody listens at {socket}; start {}", service(*engine))]
    Refused {
        /// Whose it is.
        engine: Engine,
        /// The configured path.
        socket: PathBuf,
    },
    /// Any other failure to connect: a plain file, a path too long, no descriptors left.
    #[error("connect to the engine at {socket}: {source}; give the path of {engine}'s socket")]
    Connect {
        /// Whose it would be.
        engine: Engine,
        /// The configured path.
        socket: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something answers, but not with the Docker API.
    #[error(
        "ask {socket} for its version: {detail}; this does not look like {engine}, give the path of its socket"
    )]
    NotAnEngine {
        /// Whose it would be.
        engine: Engine,
        /// The configured path.
        socket: PathBuf,
        /// What came back.
        detail: String,
    },
    /// Another engine answers there.
    #[error(
        "{found} answers at {socket}, where {wanted} was looked for; write `{}: {{socket: {socket}}}` into agent.yaml",
        found.name()
    )]
    OtherEngine {
        /// The configured path.
        socket: PathBuf,
        /// Who should answer.
        wanted: Engine,
        /// Who does.
        found: Engine,
    },
    /// The engine did not answer in time.
    #[error(
        "{operation}: no answer from the engine within {} s; look at its log",
        limit.as_secs()
    )]
    Timeout {
        /// What was asked, with the object's name.
        operation: String,
        /// How long we waited.
        limit: Duration,
    },
    /// The engine answered with an error, or with something that cannot be read.
    #[error("{operation}: {detail}")]
    Engine {
        /// What was asked, with the object's name.
        operation: String,
        /// The engine's words.
        detail: String,
    },
    /// The event stream came to its end: the engine stopped or restarts.
    #[error("read events: the engine at {socket} closed the connection; it stopped or restarts")]
    EventsEnded {
        /// The configured path.
        socket: PathBuf,
    },
    /// One of the files in which the engine keeps a container.
    #[error(
        "read {path}: {detail}; if {engine} has its data elsewhere now, run `sortie install {}` again",
        engine.name()
    )]
    ContainerFile {
        /// Whose container it is.
        engine: Engine,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A file of the runtime's installation, or of the engine's configuration.
    #[error("{operation} {path}: {detail}")]
    File {
        /// read, write, …
        operation: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// The engine's runtime cannot be changed.
    #[error("{engine} keeps its runtime: {why}")]
    NotInstalled {
        /// Which engine.
        engine: Engine,
        /// Why, and what to do.
        why: String,
    },
    /// The process is gone, or another one has its number: the container has just ended.
    #[error("look into the network namespace of process {pid}: it has ended")]
    Vanished {
        /// The container's first process.
        pid: u32,
    },
    /// A network namespace cannot be opened, entered or asked.
    #[error("{operation} ({namespace}): {source}")]
    Namespace {
        /// What was tried.
        operation: &'static str,
        /// Which namespace, as a path.
        namespace: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What has to be started: Podman's containers run without its service.
fn service(engine: Engine) -> &'static str {
    match engine {
        Engine::Docker => "Docker",
        Engine::Podman => "Podman's API service (podman.socket)",
    }
}
