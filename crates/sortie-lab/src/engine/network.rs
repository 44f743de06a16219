//! An engine's networks.

use std::collections::HashMap;

use bollard::Docker;
use bollard::models::{
    EndpointIpamConfig, EndpointSettings, Ipam, IpamConfig, NetworkConnectRequest,
    NetworkCreateRequest, NetworkDisconnectRequest,
};

use super::{Container, Engine};
use crate::error::Result;

/// What a network is made of: a bridge, unless it says otherwise.
#[derive(Clone, Debug, Default)]
pub struct NetworkSpec {
    name: String,
    subnets: Vec<String>,
    labels: HashMap<String, String>,
    options: HashMap<String, String>,
    parent: Option<String>,
}

impl NetworkSpec {
    /// A bridge network whose IPv4 subnet the engine chooses.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// A subnet, such as `172.30.0.0/24` or `fd00:30::/64`; with an IPv6 one the network has IPv6.
    #[must_use]
    pub fn subnet(mut self, subnet: &str) -> Self {
        self.subnets.push(subnet.to_owned());
        self
    }

    /// A label.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// An option of the bridge driver, such as `com.docker.network.bridge.name`.
    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.options.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A macvlan network on this interface of the host instead.
    #[must_use]
    pub fn macvlan(mut self, parent: &str) -> Self {
        self.parent = Some(parent.to_owned());
        self
    }

    fn request(&self) -> NetworkCreateRequest {
        let config = |subnet: &String| IpamConfig {
            subnet: Some(subnet.clone()),
            ..IpamConfig::default()
        };
        let mut options = self.options.clone();
        let parent = self.parent.iter().cloned();
        options.extend(parent.map(|parent| ("parent".to_owned(), parent)));
        let driver = self.parent.as_ref().map_or("bridge", |_| "macvlan");
        NetworkCreateRequest {
            name: self.name.clone(),
            driver: Some(driver.to_owned()),
            enable_ipv6: Some(self.subnets.iter().any(|subnet| subnet.contains(':'))),
            ipam: Some(Ipam {
                config: Some(self.subnets.iter().map(config).collect()),
                ..Ipam::default()
            }),
            labels: Some(self.labels.clone()),
            options: Some(options),
            ..NetworkCreateRequest::default()
        }
    }
}

/// The part of a request that asks for fixed addresses in a network.
pub(super) fn endpoint(addresses: &[String]) -> EndpointSettings {
    let of_family = |v6| {
        addresses
            .iter()
            .find(|address| address.contains(':') == v6)
            .cloned()
    };
    EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: of_family(false),
            ipv6_address: of_family(true),
            ..EndpointIpamConfig::default()
        }),
        ..EndpointSettings::default()
    }
}

impl Engine {
    /// Makes a network.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn network(&self, spec: &NetworkSpec) -> Result<()> {
        self.ask("create network", &spec.name, async |docker: Docker| {
            docker.create_network(spec.request()).await
        })?;
        Ok(())
    }

    /// Removes a network.
    ///
    /// # Errors
    /// When the engine refuses, as while a container is in it.
    pub fn remove_network(&self, name: &str) -> Result<()> {
        self.ask("remove network", name, async |docker: Docker| {
            docker.remove_network(name).await
        })
    }

    /// Joins a container to one more network, with addresses of the caller's choice or none.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn connect(&self, network: &str, container: &Container, addresses: &[&str]) -> Result<()> {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let request = NetworkConnectRequest {
            container: container.id().to_owned(),
            endpoint_config: Some(endpoint(&addresses)),
        };
        self.ask("connect to", network, async |docker: Docker| {
            docker.connect_network(network, request).await
        })
    }

    /// Takes a container out of a network.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn disconnect(&self, network: &str, container: &Container) -> Result<()> {
        let request = NetworkDisconnectRequest {
            container: container.id().to_owned(),
            force: None,
        };
        self.ask("disconnect from", network, async |docker: Docker| {
            docker.disconnect_network(network, request).await
        })
    }
}
