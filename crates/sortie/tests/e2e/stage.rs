//! A lab host with a real engine and a running agent: what every test starts from.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use sortie_lab::{
    Container, ContainerSpec, DOCKER_SOCKET, Engine, EngineKind, EngineSpec, Firewall, Host,
    HostSpec, Lab, NetworkSpec, Outcome, Place, Process, Result, Snapshot, UplinkSpec, eventually,
    eventually_true,
};

/// Long enough for a loaded machine; nothing waits that long when all is well.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// The host's own addresses: what packets leave with that nobody manages.
pub(crate) const HOST_V4: &str = "203.0.113.5";
/// The same in IPv6.
pub(crate) const HOST_V6: &str = "2001:db8:113::5";

/// An agent's configuration with the guard on every bridge.
pub(crate) const GUARD_ALL: &str = "guard: All\n";

/// Every engine that a test may run on.
pub(crate) const DOCKER_20: EngineKind = EngineKind::Docker20;
/// Docker 29 with its nftables rules.
pub(crate) const DOCKER_29_NFTABLES: EngineKind = EngineKind::Docker29(Firewall::Nftables);
/// Docker 29 with its iptables rules.
pub(crate) const DOCKER_29_IPTABLES: EngineKind = EngineKind::Docker29(Firewall::Iptables);

/// Podman, with its iptables rules.
pub(crate) const PODMAN: EngineKind = EngineKind::Podman;

/// Makes a test on each engine of a function that takes one.
macro_rules! on_every_engine {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use crate::stage::{DOCKER_20, DOCKER_29_IPTABLES, DOCKER_29_NFTABLES};

            #[test]
            fn docker_20() -> sortie_lab::Result<()> {
                super::$name(DOCKER_20)
            }

            #[test]
            fn docker_29_nftables() -> sortie_lab::Result<()> {
                super::$name(DOCKER_29_NFTABLES)
            }

            #[test]
            fn docker_29_iptables() -> sortie_lab::Result<()> {
                super::$name(DOCKER_29_IPTABLES)
            }
        }
    )+};
}

/// The same for each engine and Podman.
macro_rules! on_every_engine_and_podman {
    ($($name:ident),+ $(,)?) => {
        on_every_engine!($($name),+);

        mod podman {$(
            #[test]
            fn $name() -> sortie_lab::Result<()> {
                super::$name(crate::stage::PODMAN)
            }
        )+}
    };
}

/// Makes a test on Docker 20.10 and on 29, each with a runc of its own: 20.10 connects networks in
/// `create`, 29 before `start`.
macro_rules! on_both_dockers {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn docker_20() -> sortie_lab::Result<()> {
                super::$name(crate::stage::DOCKER_20)
            }

            #[test]
            fn docker_29() -> sortie_lab::Result<()> {
                super::$name(crate::stage::DOCKER_29_NFTABLES)
            }
        }
    )+};
}

/// A lab with one host, an engine in it, and an agent.
///
/// Dropped in this order: what runs in a host goes before the host, and the lab last.
pub(crate) struct Stage {
    agent: Option<Process>,
    pub(crate) engine: Engine,
    pub(crate) host: Host,
    pub(crate) lab: Lab,
    agents: u32,
    /// What the agent is started from.
    pub(crate) program: PathBuf,
}

/// An address that must be one.
pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse()
        .unwrap_or_else(|_| panic!("{text} is no address"))
}

impl Stage {
    /// Host and engine, the egress addresses .11 to .13 on the uplink, and the agent, which knows
    /// the engine's containers.
    pub(crate) fn new(name: &str, engine: EngineKind) -> Result<Self> {
        let mut stage = Self::without_agent(name, engine)?;
        stage.start_agent("")?;
        Ok(stage)
    }

    /// The same with the guard on every bridge: whom the agent does not know may send nothing.
    pub(crate) fn guarded(name: &str, engine: EngineKind) -> Result<Self> {
        let mut stage = Self::without_agent(name, engine)?;
        stage.start_agent(GUARD_ALL)?;
        Ok(stage)
    }

    /// The same before the agent is started.
    pub(crate) fn without_agent(name: &str, engine: EngineKind) -> Result<Self> {
        let uplink = UplinkSpec::new(&["203.0.113.5/24", "2001:db8:113::5/64"]);
        let stage = Self::with_uplinks(name, engine, [uplink])?;
        for last in 11..=13 {
            stage
                .host
                .ip(&format!("addr add 203.0.113.{last}/32 dev up0"))?;
            // Deprecated, or the kernel would choose it for others too (RFC 6724, rule 3).
            stage.host.ip(&format!(
                "addr add 2001:db8:113::{last}/128 dev up0 preferred_lft 0 nodad"
            ))?;
        }
        Ok(stage)
    }

    /// A host with these uplinks and an engine; no egress addresses and no agent.
    pub(crate) fn with_uplinks(
        name: &str,
        engine: EngineKind,
        uplinks: impl IntoIterator<Item = UplinkSpec>,
    ) -> Result<Self> {
        let lab = Lab::new(name)?;
        let spec = uplinks
            .into_iter()
            .fold(HostSpec::new("h1"), HostSpec::uplink);
        let host = lab.host(&spec)?;
        let engine = Engine::start(&host, &EngineSpec::new(engine))?;
        Ok(Self {
            lab,
            host,
            engine,
            agent: None,
            agents: 0,
            program: PathBuf::from(env!("CARGO_BIN_EXE_sortie")),
        })
    }

    /// Starts an agent with this configuration, and waits until it knows the engine's containers.
    pub(crate) fn start_agent(&mut self, config: &str) -> Result<()> {
        self.spawn_agent(config, &[])?;
        self.wait_for_engine()
    }

    /// Starts an agent with more arguments, and waits for nothing.
    pub(crate) fn spawn_agent(&mut self, config: &str, more: &[&str]) -> Result<()> {
        // Podman is found where it is by default.
        let docker = match self.engine.kind() {
            EngineKind::Podman => PathBuf::from(DOCKER_SOCKET),
            _ => self.engine.socket(),
        };
        self.spawn_agent_for(&docker, config, more)
    }

    /// The same with another socket for the engine's.
    pub(crate) fn spawn_agent_for(
        &mut self,
        engine: &Path,
        config: &str,
        more: &[&str],
    ) -> Result<()> {
        let folder = self.folder();
        fs::write(folder.join("agent.yaml"), config).expect("the configuration");
        let mut command = Command::new(&self.program);
        command.arg("agent");
        command.arg("--config").arg(folder.join("agent.yaml"));
        command.arg("--policies").arg(self.policies());
        command.arg("--state").arg(folder.join("state"));
        command.arg("--docker").arg(engine);
        command.args(more);
        self.agents += 1;
        self.agent = Some(
            self.host
                .spawn(&format!("agent-{}", self.agents), command)?,
        );
        Ok(())
    }

    /// Waits until the agent answers, whether it knows the engine or not.
    pub(crate) fn wait_for_agent(&self) -> Result<()> {
        eventually(LIMIT, "the agent answers", || {
            match self.run(&["status"]).map_err(|error| error.to_string())? {
                outcome if outcome.stdout.is_empty() => Err(outcome.stderr),
                _ => Ok(()),
            }
        })
    }

    /// Waits until the agent has heard from the engine.
    pub(crate) fn wait_for_engine(&self) -> Result<()> {
        eventually(LIMIT, "the agent knows the engine", || {
            let status = self
                .run(&["status", "-o", "json"])
                .map_err(|error| error.to_string())?;
            let answer: serde_json::Value = serde_json::from_str(&status.stdout)
                .map_err(|_| format!("{}{}", status.stderr, self.agent().tail()))?;
            let engines = answer["engines"].as_array().into_iter().flatten();
            let found: Vec<_> = engines.map(|engine| &engine["state"]).collect();
            let is = |wanted: &'static str| move |state: &&serde_json::Value| *state == wanted;
            // Of the engine that this host does not have, too, the agent knows by then.
            if found.iter().any(is("Connected")) && !found.iter().any(is("Away")) {
                Ok(())
            } else {
                Err(status.stdout)
            }
        })
    }

    pub(crate) fn agent(&self) -> &Process {
        self.agent.as_ref().expect("an agent")
    }

    /// The agent itself, not its holder: the child that does the work.
    pub(crate) fn worker_pid(&self) -> u32 {
        let status = self.json(&["status"]).expect("the status");
        u32::try_from(status["pid"].as_u64().expect("a pid")).expect("a pid")
    }

    /// Ends the agent as a service manager does, and waits until it is gone.
    pub(crate) fn stop_agent(&mut self) -> Result<()> {
        let agent = self.agent.take().expect("an agent");
        agent.signal(Signal::SIGTERM)?;
        let status = agent.wait(LIMIT)?;
        assert!(status.success(), "{status}: {}", agent.tail());
        Ok(())
    }

    /// Kills the agent and its holder as `kill -9` does, and waits until both are gone.
    pub(crate) fn kill_agent(&mut self) -> Result<()> {
        let worker = self.worker_pid();
        self.kill_agent_of(worker)
    }

    /// The same where the worker cannot be asked for its id.
    pub(crate) fn kill_agent_of(&mut self, worker: u32) -> Result<()> {
        let holder = self.agent.take().expect("an agent");
        // The holder first: it would start another worker.
        holder.kill()?;
        self.signal("-9", worker)?;
        // The lock goes with the last of the agent's threads (unix(7), abstract sockets).
        let sockets = || fs::read_to_string("/proc/thread-self/net/unix");
        eventually_true(LIMIT, "the agent is gone", || {
            let sockets = self.host.netns().run(sockets);
            sockets.is_ok_and(|text| text.is_ok_and(|text| !text.contains("@sortie-agent")))
        })
    }

    /// Starts `sortie ARGUMENTS` in the host, and waits for nothing.
    pub(crate) fn spawn(&self, name: &str, arguments: &[&str]) -> Result<Process> {
        let mut command = sortie();
        command.args(arguments);
        self.host.spawn(name, command)
    }

    /// Sends a process of the host a signal, such as `-STOP`, by the id that the host knows it by.
    pub(crate) fn signal(&self, signal: &str, pid: u32) -> Result<()> {
        let mut command = Command::new("kill");
        command.args([signal, &pid.to_string()]);
        let outcome = self.host.run(LIMIT, command)?;
        assert_eq!(outcome.code(), 0, "kill {signal} {pid}: {}", outcome.stderr);
        Ok(())
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.host.folder().to_owned()
    }

    pub(crate) fn policies(&self) -> PathBuf {
        self.folder().join("policies")
    }

    /// Runs `sortie ARGUMENTS` in the host.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<Outcome> {
        let mut command = sortie();
        command.args(arguments);
        self.host.run(LIMIT, command)
    }

    /// Runs `sortie ARGUMENTS`, which must succeed.
    #[track_caller]
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let outcome = self.run(arguments).expect("sortie runs");
        assert_eq!(outcome.code(), 0, "{arguments:?}: {}", outcome.stderr);
        outcome.stdout
    }

    /// Runs `sortie ARGUMENTS`, which must fail with exit code 1 and one error: its text.
    #[track_caller]
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let outcome = self.run(arguments).expect("sortie runs");
        refusal(&outcome)
    }

    /// Runs `sortie ARGUMENTS -o json`, whatever its exit code.
    pub(crate) fn json(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        let outcome = self.run(&[arguments, &["-o", "json"]].concat())?;
        Ok(serde_json::from_str(&outcome.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", outcome.stdout, outcome.stderr)))
    }

    /// The state of a workload as `sortie status` tells it; none while it is unknown.
    pub(crate) fn workload(&self, name: &str) -> Option<serde_json::Value> {
        let status = self.json(&["status", "--all"]).ok()?;
        status["workloads"]
            .as_array()?
            .iter()
            .rfind(|workload| workload["name"] == name)
            .cloned()
    }

    /// Waits until a workload is in a state.
    pub(crate) fn wait_for(&self, name: &str, state: &str) -> Result<()> {
        eventually(LIMIT, &format!("{name} is {state}"), || {
            match self.workload(name) {
                Some(workload) if workload["state"] == state => Ok(()),
                Some(workload) => Err(workload.to_string()),
                None => Err("unknown".to_owned()),
            }
        })
    }

    /// Runs a labelled container and waits until the agent manages it.
    pub(crate) fn labelled(&self, name: &str, egress: &str) -> Result<Container> {
        self.managed(&ContainerSpec::new(name).label("sortie.egress", egress))
    }

    /// Runs a container and waits until the agent manages it.
    pub(crate) fn managed(&self, spec: &ContainerSpec) -> Result<Container> {
        let container = self.engine.run(spec)?;
        self.wait_for(&container.name(), "Ready")?;
        Ok(container)
    }

    /// Runs a container and waits until the agent knows it, managed or not.
    pub(crate) fn unmanaged(&self, name: &str) -> Result<Container> {
        let container = self.engine.run(&ContainerSpec::new(name))?;
        self.wait_for(name, "Unmanaged")?;
        Ok(container)
    }

    /// A network with both families.
    pub(crate) fn network(&self, name: &str, number: u8, labels: &[(&str, &str)]) -> Result<()> {
        let mut spec = NetworkSpec::new(name)
            .subnet(&format!("10.77.{number}.0/24"))
            .subnet(&format!("fd77:{number}::/64"));
        for (label, value) in labels {
            spec = spec.label(label, value);
        }
        self.engine.network(&spec)
    }

    /// Writes a policy and applies it.
    pub(crate) fn apply(&self, yaml: &str) -> Result<Outcome> {
        let file = self.folder().join("policy.yaml");
        fs::write(&file, yaml).expect("a policy file");
        self.run(&["apply", &file.display().to_string()])
    }

    /// Applies policies, which must succeed.
    #[track_caller]
    pub(crate) fn applied(&self, yaml: &str) -> Result<Outcome> {
        let outcome = self.apply(yaml)?;
        assert_eq!(outcome.code(), 0, "{}{}", outcome.stdout, outcome.stderr);
        Ok(outcome)
    }
}

/// The built binary.
pub(crate) fn sortie() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sortie"))
}

/// The one error of a command that must have failed with exit code 1.
#[track_caller]
pub(crate) fn refusal(outcome: &Outcome) -> String {
    assert_eq!(outcome.code(), 1, "{}{}", outcome.stdout, outcome.stderr);
    let errors = outcome.stderr.matches("sortie: ").count();
    assert_eq!(errors, 1, "one error: {}", outcome.stderr);
    outcome.stderr.clone()
}

/// The network settings of a place, once its kernel has settled its link-local addresses.
pub(crate) fn snapshot(place: &dyn Place) -> Result<Snapshot> {
    let netns = place.place()?;
    let unsettled = || -> Result<Vec<String>> {
        let links = netns.ip("-o link")?;
        let tentative = netns.ip("-o addr show tentative")?;
        // Without a carrier it stays so.
        let waits = |line: &&str| {
            let device = line.split_whitespace().nth(1).unwrap_or_default();
            links
                .lines()
                .any(|link| link.contains(&format!(" {device}")) && !link.contains("NO-CARRIER"))
        };
        Ok(tentative.lines().filter(waits).map(str::to_owned).collect())
    };
    eventually(LIMIT, "no address is tentative", || match unsettled() {
        Ok(lines) if lines.is_empty() => Ok(()),
        Ok(lines) => Err(lines.join("; ")),
        Err(error) => Err(error.to_string()),
    })?;
    Snapshot::take(place)
}
