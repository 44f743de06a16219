//! A policy back as YAML or JSON: the fields as written in a file, defaults left out.

use std::net::IpAddr;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use super::{
    Action, Clients, Destination, Egress, EgressPolicy, Enforcement, Inspect, Mode, OnChange,
    OnUnavailable, Originate, PolicyName, PortRange, Protocol, Selector, Tls, Unlearned,
};
use crate::address::add_egress;
use crate::policy::parse::{API_VERSION, KIND};

#[derive(Serialize)]
struct Metadata<'p> {
    name: &'p PolicyName,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'p> {
    #[serde(skip_serializing_if = "is_default")]
    priority: u16,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    workloads: Vec<Workloads<'p>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    destinations: &'p [Destination],
    #[serde(flatten)]
    action: &'p Action,
    #[serde(skip_serializing_if = "is_default")]
    on_unavailable: OnUnavailable,
    #[serde(skip_serializing_if = "is_default")]
    on_change: OnChange,
    #[serde(skip_serializing_if = "is_default")]
    enforcement: Enforcement,
    #[serde(skip_serializing_if = "is_default")]
    unlearned: Unlearned,
    #[serde(skip_serializing_if = "is_default")]
    only_these_hosts: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Workloads<'p> {
    Containers(&'p Selector),
    Clients(&'p Clients),
}

impl<'p> From<&'p Selector> for Workloads<'p> {
    fn from(selector: &'p Selector) -> Self {
        match &selector.clients {
            Some(clients) => Self::Clients(clients),
            None => Self::Containers(selector),
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Serialize for EgressPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let workloads = self.workloads.iter();
        let spec = Spec {
            priority: self.priority,
            workloads: workloads.map(Workloads::from).collect(),
            destinations: &self.destinations,
            action: &self.action,
            on_unavailable: self.on_unavailable,
            on_change: self.on_change,
            enforcement: self.enforcement,
            unlearned: self.unlearned,
            only_these_hosts: self.only_these_hosts,
        };
        let mut policy = serializer.serialize_struct("EgressPolicy", 4)?;
        policy.serialize_field("apiVersion", API_VERSION)?;
        policy.serialize_field("kind", KIND)?;
        policy.serialize_field("metadata", &Metadata { name: &self.name })?;
        policy.serialize_field("spec", &spec)?;
        policy.end()
    }
}

impl EgressPolicy {
    /// The policy as one YAML document, which [`parse`](super::parse) reads back to an equal one if
    /// it came from an EgressPolicy in a file. What a label or a VirtualService says is only for
    /// people to read in this form. The error is the YAML writer's; no known policy has one.
    pub fn to_yaml(&self) -> Result<String, serde_saphyr::ser::Error> {
        let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
        serde_saphyr::to_string_with_options(self, options)
    }
}

/// `{protocol, port, endPort}`, `endPort` only where it differs.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ports {
    protocol: Protocol,
    port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end_port: Option<u16>,
}

impl From<PortRange> for Ports {
    fn from(range: PortRange) -> Self {
        Self {
            protocol: range.protocol,
            port: range.first,
            end_port: (range.last != range.first).then_some(range.last),
        }
    }
}

impl TryFrom<Ports> for PortRange {
    type Error = &'static str;

    fn try_from(ports: Ports) -> Result<Self, Self::Error> {
        let last = ports.end_port.unwrap_or(ports.port);
        if last < ports.port {
            return Err("endPort is below port");
        }
        Ok(Self {
            protocol: ports.protocol,
            first: ports.port,
            last,
        })
    }
}

/// `{connections, drainSeconds}`.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Connections {
    connections: Word,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    drain_seconds: Option<u16>,
}

/// What `connections` says.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum Word {
    Reset,
    Drain,
}

impl From<OnChange> for Connections {
    fn from(on_change: OnChange) -> Self {
        match on_change {
            OnChange::Reset => Self {
                connections: Word::Reset,
                drain_seconds: None,
            },
            OnChange::Drain { seconds } => Self {
                connections: Word::Drain,
                drain_seconds: Some(seconds),
            },
        }
    }
}

impl TryFrom<Connections> for OnChange {
    type Error = &'static str;

    fn try_from(written: Connections) -> Result<Self, Self::Error> {
        match (written.connections, written.drain_seconds) {
            (Word::Reset, None) => Ok(Self::Reset),
            (Word::Drain, Some(seconds @ 1..=3600)) => Ok(Self::Drain { seconds }),
            _ => Err("drainSeconds is for Drain, from 1 to 3600"),
        }
    }
}

/// `{addresses, mode}`, IPv4 first.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Addresses {
    addresses: Vec<IpAddr>,
    #[serde(default, skip_serializing_if = "is_default")]
    mode: Mode,
}

impl From<Egress> for Addresses {
    fn from(egress: Egress) -> Self {
        Self {
            addresses: egress.addresses().collect(),
            mode: egress.mode,
        }
    }
}

impl TryFrom<Addresses> for Egress {
    type Error = String;

    fn try_from(addresses: Addresses) -> Result<Self, Self::Error> {
        let mut egress = Self {
            mode: addresses.mode,
            ..Self::without_address()
        };
        for address in addresses.addresses {
            add_egress(&mut egress, address).map_err(|fault| fault.message)?;
        }
        Ok(egress)
    }
}

/// `{originate, port, ca, clientCertificate}`, or `{inspect, ca, clientCertificate}`.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TlsFields {
    #[serde(default, skip_serializing_if = "is_default")]
    originate: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_certificate: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    inspect: bool,
}

impl From<Tls> for TlsFields {
    fn from(tls: Tls) -> Self {
        match tls {
            Tls::Originate(Originate {
                port,
                ca,
                client_certificate,
            }) => Self {
                originate: true,
                port: Some(port),
                ca,
                client_certificate,
                ..Self::default()
            },
            Tls::Inspect(Inspect {
                ca,
                client_certificate,
            }) => Self {
                inspect: true,
                ca,
                client_certificate,
                ..Self::default()
            },
        }
    }
}

impl TryFrom<TlsFields> for Tls {
    type Error = &'static str;

    fn try_from(fields: TlsFields) -> Result<Self, Self::Error> {
        match (fields.originate, fields.inspect) {
            (false, true) => Ok(Self::Inspect(Inspect {
                ca: fields.ca,
                client_certificate: fields.client_certificate,
            })),
            (true, false) => Ok(Self::Originate(Originate {
                port: fields.port.unwrap_or(443),
                ca: fields.ca,
                client_certificate: fields.client_certificate,
            })),
            _ => Err("tls is either originated or inspected"),
        }
    }
}
