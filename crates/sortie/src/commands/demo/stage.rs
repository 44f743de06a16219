//! The demo's lab: one host with a Docker engine, an agent, and workloads of every kind.

use std::env;
use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sortie_agent::api::{Status, WorkloadState};
use sortie_agent::client::{Client, DEFAULT_SOCKET};
use sortie_lab::{
    Container, ContainerSpec, Destination, Engine, EngineKind, EngineSpec, Host, HostSpec, Lab,
    LabError, NetworkSpec, Place, Process, UplinkSpec, eventually,
};
use tokio::runtime::Handle;

use super::{Stop, say};
use crate::error::CliError;

/// How long anything may take on a loaded machine.
const LIMIT: Duration = Duration::from_mins(1);

/// In place of a policy.
pub(super) const UNMANAGED: &str = "none";

/// The lab. Dropped in this order: what runs in the host goes before the host, and the lab last.
pub(super) struct Stage {
    pub(super) workloads: Vec<Workload>,
    agent: Option<Process>,
    agents: u32,
    engine: Engine,
    host: Host,
    pub(super) lab: Lab,
    pub(super) stop: Stop,
    runtime: Handle,
}

/// Something that calls out.
pub(super) struct Workload {
    pub(super) place: Box<dyn Place + Send>,
    /// What decides for it.
    pub(super) policy: &'static str,
    /// What it should be seen with.
    pub(super) source: IpAddr,
    /// It alone calls here, so that every frame tells by its destination whose it is.
    pub(super) destination: Destination,
}

impl Workload {
    /// How the agent should take it.
    pub(super) fn state(&self) -> WorkloadState {
        if self.policy == UNMANAGED {
            WorkloadState::Unmanaged
        } else {
            WorkloadState::Ready
        }
    }
}

impl Stage {
    /// A host with its uplink, and `addresses` on it besides its own; then the engine.
    pub(super) fn new(
        own: IpAddr,
        addresses: &[IpAddr],
        stop: &Stop,
        runtime: &Handle,
    ) -> Result<Self, CliError> {
        let lab = Lab::new("demo")?;
        let uplink = UplinkSpec::new(&[&format!("{own}/24")]);
        let uplink = addresses.iter().fold(uplink, |uplink, address| {
            uplink.address(&format!("{address}/32"))
        });
        let host = lab.host(&HostSpec::new("demo").uplink(uplink))?;
        say("starting a Docker engine in a lab host, all in network namespaces");
        let engine = Engine::start(&host, &EngineSpec::new(EngineKind::Installed));
        let engine = engine.map_err(|error| match error {
            LabError::EngineMissing { path, .. } => CliError::NoEngine { path },
            other => other.into(),
        })?;
        say(&format!("Docker {} runs", engine.version()?));
        Ok(Self {
            workloads: Vec::new(),
            agent: None,
            agents: 0,
            engine,
            host,
            lab,
            stop: stop.clone(),
            runtime: runtime.clone(),
        })
    }

    /// Starts the agent, and waits until it knows the engine's containers.
    pub(super) fn start_agent(&mut self) -> Result<(), CliError> {
        let folder = self.host.folder();
        // The settings may be left out, but not a file that is named.
        let settings = folder.join("agent.yaml");
        make(&settings, "", 0o644)?;
        let mut command = sortie()?;
        command.arg("agent");
        command.arg("--config").arg(&settings);
        command.arg("--policies").arg(folder.join("policies"));
        command.arg("--state").arg(folder.join("state"));
        command.arg("--docker").arg(self.engine.socket());
        self.agents += 1;
        let name = format!("agent-{}", self.agents);
        self.agent = Some(self.host.spawn(&name, command)?);
        self.wait("the agent knows the engine", |status| {
            status.engines_answer()
        })
    }

    /// Ends the holder and the agent below it as `kill -9` does.
    pub(super) fn kill_agent(&mut self) -> Result<(), CliError> {
        let worker = self.status().map_err(|detail| CliError::Demo {
            command: "sortie status".to_owned(),
            detail,
        })?;
        // The holder first: it would start another agent.
        if let Some(holder) = self.agent.take() {
            holder.kill()?;
        }
        // The shell's own: /bin/kill is not on every machine.
        self.run("sh", &["-c", &format!("kill -9 {}", worker.pid)])?;
        self.until("the agent is gone", || match self.status() {
            Ok(status) => Err(format!("process {} answers", status.pid)),
            Err(_) => Ok(()),
        })
    }

    /// A bridge as compose makes it.
    pub(super) fn network(&self, name: &str, subnet: &str) -> Result<(), CliError> {
        Ok(self
            .engine
            .network(&NetworkSpec::new(name).subnet(subnet))?)
    }

    /// A container.
    pub(super) fn container(&self, spec: &ContainerSpec) -> Result<Container, CliError> {
        self.stop.check()?;
        Ok(self.engine.run(spec)?)
    }

    /// A command in the host under `sortie run`.
    pub(super) fn process(&self, name: &str, address: IpAddr) -> Result<Process, CliError> {
        // A script of this name, because a workload is called as its command.
        let script = self.host.folder().join(name);
        make(&script, "#!/bin/sh\nexec sleep 2147483647\n", 0o755)?;
        let mut command = sortie()?;
        command.args(["run", "--address", &address.to_string(), "--"]);
        command.arg(&script);
        Ok(self.host.spawn(name, command)?)
    }

    /// `sortie ARGUMENTS` in the host, which must succeed.
    pub(super) fn sortie(&self, arguments: &[&str]) -> Result<(), CliError> {
        let mut command = sortie()?;
        command.args(arguments);
        self.finish(command)
    }

    /// A program in the host, which must succeed.
    pub(super) fn run(&self, program: &str, arguments: &[&str]) -> Result<(), CliError> {
        let mut command = Command::new(program);
        command.args(arguments);
        self.finish(command)
    }

    fn finish(&self, command: Command) -> Result<(), CliError> {
        self.stop.check()?;
        let line = format!("{command:?}");
        let outcome = self.host.run(LIMIT, command)?;
        if outcome.code() == 0 {
            return Ok(());
        }
        Err(CliError::Demo {
            command: line,
            detail: outcome.stdout + &outcome.stderr,
        })
    }

    /// Waits until the agent takes a workload to be in a state.
    pub(super) fn wait_for(&self, name: &str, state: WorkloadState) -> Result<(), CliError> {
        self.wait(&format!("{name} is {state:?}"), |status| {
            let mut workloads = status.workloads.iter();
            workloads.any(|workload| workload.name == name && workload.state == state)
        })
    }

    fn wait(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Result<(), CliError> {
        self.until(what, || {
            let status = self.status()?;
            if wanted(&status) {
                return Ok(());
            }
            Err(format!("{status:?}"))
        })
    }

    /// Waits, unless a signal ends the demo or the agent has ended by itself.
    fn until(
        &self,
        what: &str,
        mut is_so: impl FnMut() -> Result<(), String>,
    ) -> Result<(), CliError> {
        eventually(LIMIT, what, || {
            if let Err(stopped) = self.stop.check() {
                return Ok(Err(stopped));
            }
            if let Some(agent) = &self.agent
                && let Ok(Some(_)) = agent.ended()
            {
                return Ok(Err(CliError::Demo {
                    command: "sortie agent".to_owned(),
                    detail: agent.tail(),
                }));
            }
            is_so().map(Ok)
        })?
    }

    fn status(&self) -> Result<Status, String> {
        let client = Client::new(self.host.path(DEFAULT_SOCKET));
        self.runtime
            .block_on(client.status(true))
            .map_err(|error| error.to_string())
    }
}

fn make(path: &Path, text: &str, mode: u32) -> Result<(), CliError> {
    let written = fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)));
    written.map_err(|source| CliError::Make {
        path: path.to_owned(),
        source,
    })
}

/// This program.
fn sortie() -> Result<Command, CliError> {
    let program = env::current_exe().map_err(|source| CliError::Read {
        path: "/proc/self/exe".into(),
        source,
    })?;
    let mut command = Command::new(program);
    // Whoever runs the demo may have an agent elsewhere.
    command.env("SORTIE_SOCKET", DEFAULT_SOCKET);
    Ok(command)
}
