//! An engine's containers.

use std::collections::HashMap;
use std::net::IpAddr;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, EndpointSettings, HostConfig, NetworkingConfig,
    PortBinding, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, KillContainerOptions,
    RemoveContainerOptionsBuilder, RestartContainerOptions, StartContainerOptions,
    StopContainerOptions,
};
use futures_util::TryStreamExt;

use super::Engine;
use super::network::endpoint;
use crate::error::{LabError, Result};
use crate::frame::Mac;
use crate::netns::Netns;
use crate::place::Place;

/// What a container is made of: by default the busybox image, sleeping on the default bridge.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    name: String,
    image: Option<String>,
    network: Option<String>,
    addresses: Vec<String>,
    body: ContainerCreateBody,
    host: HostConfig,
}

impl ContainerSpec {
    /// A container that sleeps. Its name has two characters or more (Docker's rule).
    pub fn new(name: &str) -> Self {
        let forever = ["sleep", "2147483647"].map(str::to_owned);
        Self {
            name: name.to_owned(),
            image: None,
            network: None,
            addresses: Vec::new(),
            body: ContainerCreateBody {
                cmd: Some(forever.to_vec()),
                // As a first process it would let SIGTERM pass, and every stop take ten seconds.
                stop_signal: Some("SIGKILL".to_owned()),
                ..ContainerCreateBody::default()
            },
            host: HostConfig::default(),
        }
    }

    /// Another image than busybox.
    #[must_use]
    pub fn image(mut self, image: &str) -> Self {
        self.image = Some(image.to_owned());
        self
    }

    /// Another command than sleeping.
    #[must_use]
    pub fn command(mut self, command: &[&str]) -> Self {
        self.body.cmd = Some(command.iter().map(ToString::to_string).collect());
        self
    }

    /// A variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        let variables = self.body.env.get_or_insert_default();
        variables.push(format!("{name}={value}"));
        self
    }

    /// A label.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        let labels = self.body.labels.get_or_insert_default();
        labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Its network: the name of one, `none`, `host` or `container:NAME`.
    #[must_use]
    pub fn network(mut self, network: &str) -> Self {
        self.network = Some(network.to_owned());
        self
    }

    /// A fixed address in its network, which must have a subnet of the caller's choice.
    #[must_use]
    pub fn address(mut self, address: &str) -> Self {
        self.addresses.push(address.to_owned());
        self
    }

    /// Publishes a port of the container, such as `80/tcp`, on a port of the host.
    #[must_use]
    pub fn publish(mut self, port: &str, host_port: u16) -> Self {
        self.body
            .exposed_ports
            .get_or_insert_default()
            .push(port.to_owned());
        let binding = PortBinding {
            host_ip: None,
            host_port: Some(host_port.to_string()),
        };
        let bindings = self.host.port_bindings.get_or_insert_default();
        bindings.insert(port.to_owned(), Some(vec![binding]));
        self
    }

    /// Asks this name server, by itself or through the engine's.
    #[must_use]
    pub fn name_server(mut self, address: &str) -> Self {
        let servers = self.host.dns.get_or_insert_default();
        servers.push(address.to_owned());
        self
    }

    /// Takes a capability away, such as `NET_RAW`, which Docker gives.
    #[must_use]
    pub fn without_capability(mut self, capability: &str) -> Self {
        self.host
            .cap_drop
            .get_or_insert_default()
            .push(capability.to_owned());
        self
    }

    /// Adds a capability, such as `NET_ADMIN`, which Docker does not give.
    #[must_use]
    pub fn capability(mut self, capability: &str) -> Self {
        self.host
            .cap_add
            .get_or_insert_default()
            .push(capability.to_owned());
        self
    }

    /// Another OCI runtime than the engine's default.
    #[must_use]
    pub fn runtime(mut self, runtime: &str) -> Self {
        self.host.runtime = Some(runtime.to_owned());
        self
    }

    /// Starts again whenever it ends, and when its engine starts.
    #[must_use]
    pub fn always(mut self) -> Self {
        self.host.restart_policy = Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::ALWAYS),
            maximum_retry_count: None,
        });
        self
    }

    fn request(&self, image: String, cgroup: Option<String>) -> ContainerCreateBody {
        let mut body = self.body.clone();
        let mut host = self.host.clone();
        host.cgroup_parent = cgroup;
        body.image = Some(image);
        if let Some(network) = &self.network {
            host.network_mode = Some(network.clone());
            if !self.addresses.is_empty() {
                body.networking_config = Some(NetworkingConfig {
                    endpoints_config: Some(HashMap::from([(
                        network.clone(),
                        endpoint(&self.addresses),
                    )])),
                });
            }
        }
        body.host_config = Some(host);
        body
    }
}

/// A container of an engine. Copies are handles of the same container.
#[derive(Clone, Debug)]
pub struct Container {
    engine: Engine,
    id: String,
    name: String,
}

/// What a command inside a container left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// Its exit code.
    pub code: i64,
    /// What it wrote to standard output and standard error.
    pub output: String,
}

impl Engine {
    /// Makes a container without starting it.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn create(&self, spec: &ContainerSpec) -> Result<Container> {
        let image = match &spec.image {
            Some(image) => image.clone(),
            None => self.image_busybox()?,
        };
        let options = CreateContainerOptionsBuilder::default()
            .name(&spec.name)
            .build();
        let created = self.ask("create container", &spec.name, async |docker: Docker| {
            docker
                .create_container(
                    Some(options),
                    spec.request(image, self.cgroup_of_containers()),
                )
                .await
        })?;
        Ok(Container {
            engine: self.clone(),
            id: created.id,
            name: spec.name.clone(),
        })
    }

    /// A container that somebody else made.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn container(&self, name: &str) -> Result<Container> {
        let found = self.ask("inspect", name, async |docker: Docker| {
            docker
                .inspect_container(name, None::<InspectContainerOptions>)
                .await
        })?;
        Ok(Container {
            engine: self.clone(),
            id: found.id.unwrap_or_default(),
            name: name.to_owned(),
        })
    }

    /// Makes and starts a container.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn run(&self, spec: &ContainerSpec) -> Result<Container> {
        let container = self.create(spec)?;
        container.start()?;
        Ok(container)
    }
}

impl Container {
    /// Its id, 64 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Starts it.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn start(&self) -> Result<()> {
        self.ask("start", async |docker, id| {
            docker
                .start_container(id, None::<StartContainerOptions>)
                .await
        })
    }

    /// Stops it.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn stop(&self) -> Result<()> {
        self.ask("stop", async |docker, id| {
            docker
                .stop_container(id, None::<StopContainerOptions>)
                .await
        })
    }

    /// Ends its processes with SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self) -> Result<()> {
        self.ask("kill", async |docker, id| {
            docker
                .kill_container(id, None::<KillContainerOptions>)
                .await
        })
    }

    /// Stops and starts it.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn restart(&self) -> Result<()> {
        self.ask("restart", async |docker, id| {
            docker
                .restart_container(id, None::<RestartContainerOptions>)
                .await
        })
    }

    /// Removes it, running or not.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn remove(self) -> Result<()> {
        let options = RemoveContainerOptionsBuilder::default().force(true).build();
        self.ask("remove", async |docker, id| {
            docker.remove_container(id, Some(options)).await
        })
    }

    /// All that the engine knows of it.
    ///
    /// # Errors
    /// When there is no such container any more.
    pub fn inspect(&self) -> Result<ContainerInspectResponse> {
        self.ask("inspect", async |docker, id| {
            docker
                .inspect_container(id, None::<InspectContainerOptions>)
                .await
        })
    }

    /// The id of its first process, as its host counts.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self) -> Result<i64> {
        let state = self.inspect()?.state;
        let pid = state.and_then(|state| state.pid).filter(|pid| *pid != 0);
        pid.ok_or_else(|| self.missing("a process: it does not run"))
    }

    /// Its network namespace as it is now: another one after each start.
    ///
    /// # Errors
    /// When it does not run.
    pub fn netns(&self) -> Result<Netns> {
        let path = self
            .engine
            .host()
            .path(&format!("/proc/{}/ns/net", self.pid()?));
        Netns::open(&path, &self.name)
    }

    /// Its address in a network (`bridge` is the default one), of one family.
    ///
    /// # Errors
    /// When it has none.
    pub fn address(&self, network: &str, v6: bool) -> Result<IpAddr> {
        let endpoint = self.endpoint(network)?;
        let address = if v6 {
            endpoint.global_ipv6_address
        } else {
            endpoint.ip_address
        };
        let address = address.and_then(|address| address.parse().ok());
        address.ok_or_else(|| self.missing(&format!("such an address in network {network}")))
    }

    /// The MAC of its interface in a network.
    ///
    /// # Errors
    /// When it is not in it.
    pub fn mac(&self, network: &str) -> Result<Mac> {
        self.endpoint(network)?
            .mac_address
            .unwrap_or_default()
            .parse()
    }

    fn endpoint(&self, network: &str) -> Result<EndpointSettings> {
        let networks = self
            .inspect()?
            .network_settings
            .and_then(|settings| settings.networks);
        let endpoint = networks.and_then(|mut networks| networks.remove(network));
        endpoint.ok_or_else(|| self.missing(&format!("a place in network {network}")))
    }

    /// Runs a command inside it, with the engine's exec.
    ///
    /// # Errors
    /// When the engine refuses. An exit code other than 0 is no error.
    pub fn exec(&self, command: &[&str]) -> Result<Executed> {
        let options = CreateExecOptions {
            cmd: Some(command.iter().map(ToString::to_string).collect()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..CreateExecOptions::default()
        };
        self.ask("exec in", async |docker, id| {
            let exec = docker.create_exec(id, options).await?.id;
            let StartExecResults::Attached { output, .. } = docker.start_exec(&exec, None).await?
            else {
                return Ok(Executed {
                    code: 0,
                    output: String::new(),
                });
            };
            let parts: Vec<LogOutput> = output.try_collect().await?;
            let output: Vec<u8> = parts.into_iter().flat_map(LogOutput::into_bytes).collect();
            Ok(Executed {
                code: docker
                    .inspect_exec(&exec)
                    .await?
                    .exit_code
                    .unwrap_or_default(),
                output: String::from_utf8_lossy(&output).into_owned(),
            })
        })
    }

    fn missing(&self, what: &str) -> LabError {
        LabError::Missing {
            object: self.name.clone(),
            what: what.to_owned(),
        }
    }

    fn ask<T>(
        &self,
        operation: &'static str,
        request: impl AsyncFnOnce(&Docker, &str) -> Result<T, bollard::errors::Error>,
    ) -> Result<T> {
        let id = &self.id;
        self.engine
            .ask(operation, &self.name, async |docker: Docker| {
                request(&docker, id).await
            })
    }
}

impl Place for Container {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn place(&self) -> Result<Netns> {
        self.netns()
    }
}
