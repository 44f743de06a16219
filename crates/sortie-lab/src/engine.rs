//! A container engine in a host: the real dockerd, with its own containerd, files and sockets, or
//! the real Podman with its API service.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bollard::Docker;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::error::{Doing, LabError, Result};
use crate::host::Host;
use crate::process::Process;
use crate::wait::{SOON, eventually};

mod container;
mod image;
mod network;
mod podman;

pub use container::{Container, ContainerSpec, Executed};
pub use network::NetworkSpec;

/// Which engine, from the binaries that scripts/install.sh has put into the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// Docker 20.10 of Debian 12, which makes iptables rules.
    Docker20,
    /// Docker 29.
    Docker29(Firewall),
    /// Podman 4.3 of Debian 12, which makes iptables rules; it is installed, not in the cache.
    Podman,
    /// The dockerd on PATH; where there is none, the distribution's, from the cache.
    Installed,
}

/// What Docker 29 programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firewall {
    /// nftables tables of its own.
    Nftables,
    /// iptables, its default.
    Iptables,
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker20 => "Docker 20.10",
            Self::Docker29(Firewall::Nftables) => "Docker 29 (nftables)",
            Self::Docker29(Firewall::Iptables) => "Docker 29 (iptables)",
            Self::Podman => "Podman 4.3",
            Self::Installed => "the installed Docker",
        })
    }
}

impl EngineKind {
    /// All that docs/matrix.md tells of.
    pub const TESTED: [Self; 4] = [
        Self::Docker20,
        Self::Docker29(Firewall::Nftables),
        Self::Docker29(Firewall::Iptables),
        Self::Podman,
    ];

    /// The network of containers that name none.
    pub fn default_network(self) -> &'static str {
        match self {
            Self::Podman => "podman",
            Self::Docker20 | Self::Docker29(_) | Self::Installed => "bridge",
        }
    }

    /// The folder with dockerd and what it runs, or with Podman's runtime; `None` when PATH has them.
    fn binaries(self) -> Result<Option<PathBuf>> {
        let (name, goal) = match self {
            Self::Podman if !on_path("podman") => return Err(podman::missing()),
            Self::Installed if on_path("dockerd") && on_path("containerd") && on_path("runc") => {
                return Ok(None);
            }
            Self::Installed => ("docker-distribution", "demo"),
            Self::Docker20 | Self::Podman => ("docker-20.10", "test"),
            Self::Docker29(_) => ("docker-29", "test"),
        };
        let path = cache().join(name).join("bin");
        if path.join("dockerd").is_file() {
            return Ok(Some(path));
        }
        Err(LabError::EngineMissing {
            engine: self.to_string(),
            path: path.display().to_string(),
            goal,
        })
    }

    /// The Docker Compose that goes with it: Debian's on PATH for Docker 20.10, else the one in the
    /// cache.
    ///
    /// # Errors
    /// [`LabError::EngineMissing`].
    pub fn compose(self) -> Result<PathBuf> {
        if self == Self::Docker20 {
            return Ok("docker-compose".into());
        }
        built_program("compose", "docker-compose")
    }

    /// The name of its folder in a host's.
    fn folder(self) -> &'static str {
        match self {
            Self::Podman => "podman",
            Self::Docker20 | Self::Docker29(_) | Self::Installed => "docker",
        }
    }

    /// What only this engine's daemon.json says.
    fn settings(self) -> Value {
        match self {
            // NAT for IPv6 is experimental there, and without it no container reaches out with IPv6.
            Self::Docker20 => json!({"experimental": true, "ip6tables": true}),
            Self::Docker29(Firewall::Nftables) => json!({"firewall-backend": "nftables"}),
            Self::Docker29(Firewall::Iptables) => json!({"firewall-backend": "iptables"}),
            Self::Podman | Self::Installed => json!({}),
        }
    }
}

/// A program that `scripts/install.sh test` has built into a folder of the cache.
///
/// # Errors
/// [`LabError::EngineMissing`].
pub fn built_program(folder: &str, name: &str) -> Result<PathBuf> {
    let path = cache().join(folder).join("bin").join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(LabError::EngineMissing {
        engine: name.to_owned(),
        path: path.display().to_string(),
        goal: "test",
    })
}

/// Where scripts/install.sh puts engines: the same rule as in scripts/cache.sh.
fn cache() -> PathBuf {
    let set = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let user = || {
        let home = || set("HOME").unwrap_or_default().join(".cache");
        set("XDG_CACHE_HOME").unwrap_or_else(home).join("sortie")
    };
    set("SORTIE_CACHE").unwrap_or_else(user)
}

fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// What an engine is made of.
#[derive(Clone, Debug)]
pub struct EngineSpec {
    kind: EngineKind,
    settings: Value,
    flags: Vec<String>,
}

impl EngineSpec {
    /// An engine with IPv4 and IPv6 on its default bridge.
    pub fn new(kind: EngineKind) -> Self {
        Self {
            kind,
            settings: json!({}),
            flags: Vec::new(),
        }
    }

    /// A word more on the daemon's command line, such as `--default-runtime=runc`.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// A setting of daemon.json, such as `live-restore`.
    #[must_use]
    pub fn setting(mut self, name: &str, value: Value) -> Self {
        self.settings[name] = value;
        self
    }
}

/// An engine of a host. Copies are handles of the same engine.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    kind: EngineKind,
    host: Host,
    folder: PathBuf,
    binaries: Option<PathBuf>,
    flags: Vec<String>,
    running: Mutex<Option<Running>>,
}

#[derive(Clone)]
struct Running {
    daemon: Arc<Process>,
    client: Docker,
}

/// Where the engine listens in its host, as every client expects it.
pub const DOCKER_SOCKET: &str = "/run/docker.sock";
/// The same for Podman.
pub const PODMAN_SOCKET: &str = "/run/podman/podman.sock";

/// Docker 28 and later, and every Docker with nftables, refuse to make a bridge while these are 0.
const FORWARDING: [&str; 3] = [
    "net.ipv4.ip_forward",
    "net.ipv6.conf.all.forwarding",
    "net.ipv6.conf.default.forwarding",
];

impl Engine {
    /// Starts an engine in a host and waits until it answers. A host has one Docker and one Podman at
    /// most.
    ///
    /// # Errors
    /// [`LabError::EngineMissing`]; when it does not start, with its log.
    pub fn start(host: &Host, spec: &EngineSpec) -> Result<Self> {
        let folder = host.folder().join(spec.kind.folder());
        std::fs::create_dir(&folder).doing("make", folder.display())?;
        let engine = Self {
            inner: Arc::new(Inner {
                kind: spec.kind,
                flags: spec.flags.clone(),
                binaries: spec.kind.binaries()?,
                host: host.clone(),
                folder,
                running: Mutex::new(None),
            }),
        };
        match spec.kind {
            EngineKind::Podman => podman::configure(&engine)?,
            _ => engine.configure(&spec.settings)?,
        }
        for forwarding in FORWARDING {
            host.netns().set_sysctl(forwarding, "1")?;
        }
        engine.resume()?;
        Ok(engine)
    }

    fn configure(&self, extra: &Value) -> Result<()> {
        let folder = &self.inner.folder;
        let mut settings = json!({
            "hosts": [format!("unix://{DOCKER_SOCKET}"), format!("unix://{}", self.socket().display())],
            "data-root": folder.join("data"),
            "exec-root": "/run/docker",
            "pidfile": "/run/docker.pid",
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "cgroup-parent": format!("/{}", self.inner.host.lab_folder().cgroup()),
            "ipv6": true,
            "fixed-cidr-v6": "fd00:17::/64",
        });
        for more in [&self.inner.kind.settings(), extra] {
            for (name, value) in more.as_object().into_iter().flatten() {
                settings[name] = value.clone();
            }
        }
        let path = self.settings_file();
        std::fs::write(&path, format!("{settings:#}\n")).doing("write", path.display())
    }

    /// Its daemon.json, for tests that change it before [`Engine::signal`] or [`Engine::restart`].
    pub fn settings_file(&self) -> PathBuf {
        self.inner.folder.join("daemon.json")
    }

    /// A socket with the same path inside and outside of the host; clients inside find the engine
    /// at [`DOCKER_SOCKET`] or [`PODMAN_SOCKET`] too.
    pub fn socket(&self) -> PathBuf {
        self.inner.folder.join("engine.sock")
    }

    /// Which engine it is.
    pub fn kind(&self) -> EngineKind {
        self.inner.kind
    }

    /// The host it runs in.
    pub fn host(&self) -> &Host {
        &self.inner.host
    }

    /// The `docker` client that came with it; Docker 29 is built without one.
    pub fn client_program(&self) -> PathBuf {
        let folder = self.inner.binaries.clone().unwrap_or_default();
        folder.join("docker")
    }

    /// Starts it again after [`Engine::stop`] or [`Engine::kill`], and waits until it answers.
    ///
    /// # Errors
    /// When it does not start, with its log.
    pub fn resume(&self) -> Result<()> {
        // A killed engine leaves its sockets, which would be taken for the new one's.
        let _ = std::fs::remove_file(self.socket());
        let daemon = if self.inner.kind == EngineKind::Podman {
            self.inner.host.spawn("podman", podman::service(self))?
        } else {
            let _ = std::fs::remove_file(self.inner.host.path(DOCKER_SOCKET));
            self.inner.host.spawn("dockerd", self.command())?
        };
        let daemon = Arc::new(daemon);
        let client = eventually(SOON * 2, &format!("{} answers", self.inner.kind), || {
            if daemon.ended()?.is_some() {
                return Ok(Err(daemon.tail()));
            }
            self.client()
                .map(Ok)
                .map_err(|error| LabError::unexpected(format!("{error}\n{}", daemon.tail())))
        })?;
        let client = client
            .map_err(|log| LabError::unexpected(format!("{} ended:\n{log}", self.inner.kind)))?;
        *self.running() = Some(Running { daemon, client });
        Ok(())
    }

    fn command(&self) -> Command {
        let program = self
            .inner
            .binaries
            .as_ref()
            .map(|folder| folder.join("dockerd"));
        let mut command = Command::new(program.as_deref().unwrap_or(Path::new("dockerd")));
        command.arg("--config-file").arg(self.settings_file());
        command.args(&self.inner.flags);
        let path = env::var_os("PATH").unwrap_or_default();
        let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
        let folders = self
            .inner
            .binaries
            .iter()
            .cloned()
            .chain(env::split_paths(&path))
            .chain(system);
        if let Ok(path) = env::join_paths(folders) {
            command.env("PATH", path);
        }
        command
    }

    fn client(&self) -> Result<Docker, bollard::errors::Error> {
        const TIMEOUT_SECONDS: u64 = 120;
        self.inner.host.runtime().block_on(async {
            let socket = self.socket();
            let socket = socket.to_string_lossy();
            let client =
                Docker::connect_with_unix(&socket, TIMEOUT_SECONDS, bollard::API_DEFAULT_VERSION)?;
            client.negotiate_version().await
        })
    }

    /// Stops it as a service manager does, with SIGTERM: Docker's containers are stopped too, unless
    /// `live-restore` is set; Podman's go on.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&self) -> Result<()> {
        let daemon = self.daemon()?;
        daemon.signal(Signal::SIGTERM)?;
        daemon.wait(SOON * 2)?;
        *self.running() = None;
        Ok(())
    }

    /// Ends it with SIGKILL. containerd and the containers go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self) -> Result<()> {
        self.daemon()?.kill()?;
        *self.running() = None;
        Ok(())
    }

    /// [`Engine::stop`], then [`Engine::resume`].
    ///
    /// # Errors
    /// As those.
    pub fn restart(&self) -> Result<()> {
        self.stop()?;
        self.resume()
    }

    /// Sends its daemon a signal, such as SIGHUP to read daemon.json again.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.daemon()?.signal(signal)
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.inner
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Result<Running> {
        self.running().clone().ok_or_else(|| LabError::Missing {
            object: self.inner.kind.to_string(),
            what: "a running daemon: it was stopped".into(),
        })
    }

    fn daemon(&self) -> Result<Arc<Process>> {
        Ok(self.current()?.daemon)
    }

    /// Asks the engine something; `operation` and `object` say what, for the message of a failure.
    fn ask<T>(
        &self,
        operation: &'static str,
        object: &str,
        request: impl AsyncFnOnce(Docker) -> Result<T, bollard::errors::Error>,
    ) -> Result<T> {
        let client = self.current()?.client;
        self.inner
            .host
            .runtime()
            .block_on(request(client))
            .map_err(|source| LabError::Engine {
                operation,
                object: object.to_owned(),
                engine: self.inner.kind.to_string(),
                source: Box::new(source),
            })
    }

    /// The version it tells, such as `20.10.24+dfsg1`.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn version(&self) -> Result<String> {
        let version = self.ask("ask", "its version", async |docker: Docker| {
            docker.version().await
        })?;
        Ok(version.version.unwrap_or_default())
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine({})", self.inner.kind)
    }
}
