//! A listener that keeps the rules of the stream: what is said in which order.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use bollard::Docker;
use bollard::models::{ContainerCreateBody, Ipam, IpamConfig, NetworkCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, RenameContainerOptionsBuilder, StartContainerOptions,
};
use serde_json::{Value, json};
use sortie_api::workload::{Change, Network, Snapshot, Workload, WorkloadId};
use sortie_lab::{Engine, Host, Process, SOON, eventually};
use sortie_workloads::docker::{EngineConfig, watch};
use tokio::runtime::Builder;

/// Names the socket for the follower's process.
const SOCKET: &str = "SORTIE_TEST_SOCKET";
/// Set to anything where the engine is Podman.
const PODMAN: &str = "SORTIE_TEST_PODMAN";

pub(crate) type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// What a listener knows.
pub(crate) struct Follower {
    process: Process,
    /// Lines of its output that were read.
    read: usize,
    pub(crate) workloads: BTreeMap<WorkloadId, Workload>,
    pub(crate) networks: BTreeMap<String, Network>,
    pub(crate) log: Vec<Change>,
    away: Option<String>,
    connected: bool,
}

impl Follower {
    /// Follows an engine from inside a host, as an agent does: process ids are the host's.
    pub(crate) fn new(host: &Host, socket: &Path) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["--exact", "prints_changes", "--ignored", "--nocapture"])
            .env(SOCKET, socket);
        Ok(Self {
            process: host.spawn(&format!("follower-{number}"), command)?,
            read: 0,
            workloads: BTreeMap::new(),
            networks: BTreeMap::new(),
            log: Vec::new(),
            away: None,
            connected: false,
        })
    }

    /// Reads changes, one at a time, until a condition is met.
    pub(crate) fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) -> Result<()> {
        let met = eventually(SOON, what, || {
            let output = self.process.stdout().map_err(|error| error.to_string())?;
            let complete = output.rfind('\n').map_or("", |end| &output[..end]);
            for line in complete.lines().skip(self.read) {
                if condition(self) {
                    return Ok(Ok(()));
                }
                self.read += 1;
                if let Err(error) = self.read(line) {
                    return Ok(Err(error.to_string()));
                }
            }
            let met = condition(self).then_some(Ok(()));
            met.ok_or_else(|| format!("{:#?}\n{}", self.log, self.process.tail()))
        })?;
        Ok(met?)
    }

    fn read(&mut self, line: &str) -> Result<()> {
        // The test harness prints lines of its own.
        let Ok(value) = serde_json::from_str::<Value>(line) else {
            return Ok(());
        };
        let (kind, value) = serde_json::from_value::<(String, Value)>(value)?;
        self.apply(match kind.as_str() {
            "snapshot" => {
                let (workloads, networks) = serde_json::from_value(value)?;
                Change::Snapshot(Snapshot {
                    workloads,
                    networks,
                })
            }
            "workload" => Change::Workload(serde_json::from_value(value)?),
            "workload-gone" => Change::WorkloadGone(serde_json::from_value(value)?),
            "network" => Change::Network(serde_json::from_value(value)?),
            "network-gone" => Change::NetworkGone(serde_json::from_value(value)?),
            "absent" => Change::Absent(serde_json::from_value(value)?),
            _ => Change::Away(serde_json::from_value(value)?),
        })
    }

    /// A running workload with this name.
    pub(crate) fn workload(&self, name: &str) -> Option<&Workload> {
        self.workloads.values().find(|it| it.name == name)
    }

    /// Waits for a workload.
    pub(crate) fn running(
        &mut self,
        name: &str,
        condition: impl Fn(&Workload) -> bool,
    ) -> Result<Workload> {
        self.until(name, |it| it.workload(name).is_some_and(&condition))?;
        Ok(self.workload(name).ok_or("gone again")?.clone())
    }

    /// Waits until a workload is gone.
    pub(crate) fn gone(&mut self, name: &str) -> Result<()> {
        self.until(&format!("{name} is gone"), |it| it.workload(name).is_none())
    }

    /// Waits until the engine is away, and says why.
    pub(crate) fn away(&mut self) -> Result<String> {
        self.until("away", Self::is_away)?;
        Ok(self.away.clone().unwrap_or_default())
    }

    pub(crate) fn is_away(&self) -> bool {
        self.away.is_some()
    }

    fn apply(&mut self, change: Change) -> Result<()> {
        self.log.push(change.clone());
        match change {
            Change::Snapshot(snapshot) => {
                self.connected = true;
                self.away = None;
                self.workloads = snapshot
                    .workloads
                    .into_iter()
                    .map(|it| (it.id.clone(), it))
                    .collect();
                self.networks = snapshot
                    .networks
                    .into_iter()
                    .map(|it| (it.name.clone(), it))
                    .collect();
            }
            Change::Away(reason) => {
                if self.away.is_some() {
                    return Err("said to be away twice".into());
                }
                self.connected = false;
                self.away = Some(reason);
            }
            Change::Absent(reason) => {
                self.connected = false;
                self.away = Some(reason);
            }
            _ if !self.connected => return Err(format!("before a snapshot: {change:?}").into()),
            Change::Workload(workload) => {
                for endpoint in &workload.endpoints {
                    if !self.networks.contains_key(&endpoint.network) {
                        return Err(format!("said before its network: {workload:?}").into());
                    }
                }
                self.workloads.insert(workload.id.clone(), workload);
            }
            Change::WorkloadGone(id) => {
                if self.workloads.remove(&id).is_none() {
                    return Err(format!("gone without having been there: {id:?}").into());
                }
            }
            Change::Network(network) => {
                self.networks.insert(network.name.clone(), network);
            }
            Change::NetworkGone(name) => {
                if self.networks.remove(&name).is_none() {
                    return Err(format!("gone without having been there: {name}").into());
                }
            }
        }
        Ok(())
    }
}

/// What the follower's process does: one JSON line for each change.
pub(crate) fn print_changes() -> Result<()> {
    let socket = std::env::var_os(SOCKET).ok_or("only the other tests start this")?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let engine = match std::env::var_os(PODMAN) {
            Some(_) => sortie_api::workload::Engine::Podman,
            None => sortie_api::workload::Engine::Docker,
        };
        let config = EngineConfig {
            engine,
            socket: socket.into(),
            others: Vec::new(),
        };
        let (mut changes, _task) = watch(config)?;
        let mut output = std::io::stdout();
        while let Some(change) = changes.recv().await {
            let line = match change {
                Change::Snapshot(it) => json!(["snapshot", [it.workloads, it.networks]]),
                Change::Workload(it) => json!(["workload", it]),
                Change::WorkloadGone(it) => json!(["workload-gone", it]),
                Change::Network(it) => json!(["network", it]),
                Change::NetworkGone(it) => json!(["network-gone", it]),
                Change::Away(it) => json!(["away", it]),
                Change::Absent(it) => json!(["absent", it]),
            };
            writeln!(output, "{line}")?;
        }
        Ok(())
    })
}

fn ask<T>(
    engine: &Engine,
    request: impl AsyncFnOnce(Docker) -> Result<T, bollard::errors::Error>,
) -> Result<T> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(async {
        let socket = engine.socket();
        let version = bollard::API_DEFAULT_VERSION;
        let client = Docker::connect_with_unix(&socket.to_string_lossy(), 60, version)?;
        request(client.negotiate_version().await?).await
    })?)
}

pub(crate) fn rename(engine: &Engine, from: &str, to: &str) -> Result<()> {
    let options = RenameContainerOptionsBuilder::default().name(to).build();
    ask(engine, async |docker| {
        docker.rename_container(from, options).await
    })
}

/// A macvlan network on an interface of the host.
pub(crate) fn macvlan(engine: &Engine, name: &str, parent: &str) -> Result<()> {
    let request = NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some("macvlan".to_owned()),
        options: Some([("parent".to_owned(), parent.to_owned())].into()),
        ipam: Some(Ipam {
            config: Some(vec![IpamConfig {
                subnet: Some("172.31.0.0/24".to_owned()),
                ..IpamConfig::default()
            }]),
            ..Ipam::default()
        }),
        ..NetworkCreateRequest::default()
    };
    ask(engine, async |docker| docker.create_network(request).await)?;
    Ok(())
}

/// Makes and starts a container whose program is not there: the engine has to refuse.
pub(crate) fn try_to_start(engine: &Engine, name: &str, command: &[&str]) -> Result<()> {
    let started = ask(engine, async |docker| {
        let images = docker
            .list_images(None::<bollard::query_parameters::ListImagesOptions>)
            .await?;
        let image = images
            .into_iter()
            .find_map(|image| image.repo_tags.into_iter().next());
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        let body = ContainerCreateBody {
            image,
            cmd: Some(command.iter().map(ToString::to_string).collect()),
            ..ContainerCreateBody::default()
        };
        docker.create_container(Some(options), body).await?;
        Ok(docker
            .start_container(name, None::<StartContainerOptions>)
            .await)
    })?;
    match started {
        Err(_) => Ok(()),
        Ok(()) => Err(format!("{name} started").into()),
    }
}
