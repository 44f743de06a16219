//! A container, its namespace and the engine's networks put together: the workload.

use std::collections::BTreeMap;

use sortie_api::workload::{Endpoint, Engine, IfIndex, Workload};

use super::container::{Attachment, Container, Mode};
use super::network::EngineNetwork;
use crate::interfaces::{Found, Interface};

/// Labels that Sortie reads begin with this.
const OUR_LABELS: &str = "sortie.";
/// Links that put packets on the wire below the host's bridges and hooks.
const BELOW_THE_HOST: [&str; 4] = ["macvlan", "macvtap", "ipvlan", "ipvtap"];

/// A running container as the engine and the kernel show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) container: Container,
    /// Its namespace, or why that could not be read.
    pub(crate) found: Result<Found, String>,
}

impl Seen {
    /// Whether one of its interfaces is behind this port.
    pub(crate) fn is_behind(&self, index: IfIndex) -> bool {
        let Ok(Found::Own { interfaces, .. }) = &self.found else {
            return false;
        };
        let mut ports = interfaces.iter().filter_map(|interface| interface.port);
        ports.any(|port| port.index == index)
    }

    /// Whether a network that it is attached to has no interface, or one whose port is in no
    /// bridge: the engine is taking its cables away, or laying them anew.
    pub(crate) fn lacks_a_port(&self) -> bool {
        let (Mode::Own | Mode::Process(_), Ok(Found::Own { interfaces, .. })) =
            (&self.container.face.mode, &self.found)
        else {
            return false;
        };
        let attachments = self.container.face.attachments.iter();
        let connected = attachments.filter(|it| it.is_connected()).count();
        let mut ports = interfaces.iter().filter_map(|interface| interface.port);
        interfaces.len() < connected || ports.any(|port| port.bridge.is_none())
    }

    /// Whose namespace it shares, if that is another container's.
    pub(crate) fn shares(&self) -> Option<&str> {
        match &self.container.face.mode {
            Mode::Container(id) => Some(id),
            Mode::Own | Mode::Host | Mode::Process(_) => None,
        }
    }
}

/// 1. A container in the host's namespace has no endpoints, but a cgroup; whether it shares that
///    namespace with another one makes no difference.
/// 2. One in another one's namespace has none either: they are the owner's. Nor has one whose
///    namespace cannot be read.
/// 3. Interfaces that put packets on the wire below the host are named.
/// 4. Each attachment to a network becomes an endpoint at the port of its interface.
///
/// The addresses are those that the engine assigned, whatever else is on the interface: with
/// `NET_ADMIN` a container can give itself a neighbour's address, and would be taken for it.
///
/// `networks` is by id; `owner` is the container that this one shares a namespace with, if that
/// one runs.
pub(crate) fn describe(
    engine: Engine,
    seen: &Seen,
    networks: &BTreeMap<String, EngineNetwork>,
    owner: Option<&Seen>,
) -> Workload {
    let face = &seen.container.face;
    let mut endpoints = Vec::new();
    let mut cgroup = None;
    let mut reasons = Vec::new();
    match (&face.mode, &seen.found) {
        (_, Ok(Found::Host(found))) => match found {
            Ok(found) => cgroup = Some(*found),
            Err(reason) => reasons.push(uses_the_host(reason)),
        },
        (Mode::Container(id), _) => reasons.push(sharing(seen, id, owner)),
        (_, Err(reason)) => reasons.push(reason.clone()),
        (Mode::Host, _) => reasons.push(uses_the_host("its namespace is another one's")),
        (Mode::Own | Mode::Process(_), Ok(Found::Own { interfaces, .. })) => {
            // A network may have such a program's name.
            if let Mode::Process(program) = &face.mode
                && !face.attachments.iter().any(Attachment::is_connected)
            {
                reasons.push(sent_on(program));
            }
            reasons.extend(interfaces.iter().filter_map(below_the_host));
            let placed = place(&face.attachments, interfaces, networks);
            for (attachment, network, interface) in placed {
                match endpoint(attachment, network, interface) {
                    Ok((endpoint, astray)) => {
                        endpoints.push(endpoint);
                        reasons.extend(astray);
                    }
                    Err(reason) => reasons.extend(reason),
                }
            }
        }
    }
    endpoints.sort();
    Workload {
        id: engine.workload_id(&face.id),
        name: face.name.clone(),
        kind: engine.into(),
        labels: face.labels.clone().into(),
        pid: seen.container.pid,
        started: seen.container.started,
        endpoints,
        published_udp: seen.container.published_udp.clone(),
        cgroup,
        unmanageable: (!reasons.is_empty()).then(|| reasons.join("; ")),
    }
}

fn sharing(seen: &Seen, id: &str, owner: Option<&Seen>) -> String {
    let Some(owner) = owner else {
        let short = id.get(..12).unwrap_or(id);
        return format!("shares the network namespace of {short}, which does not run any more");
    };
    let name = &owner.container.face.name;
    let differing: Vec<String> = seen
        .container
        .face
        .labels
        .iter()
        .filter(|(key, value)| {
            key.starts_with(OUR_LABELS) && owner.container.face.labels.get(*key) != Some(value)
        })
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    if differing.is_empty() {
        format!("shares the network namespace of {name}")
    } else {
        format!(
            "shares the network namespace of {name}, and its label {} differs from that one's, \
             which is an error: write it on {name}",
            differing.join(", ")
        )
    }
}

/// Why such a container cannot be managed.
pub(crate) fn uses_the_host(without_cgroup: &str) -> String {
    format!(
        "uses the host's network namespace, and its connections cannot be told from the host's \
         own: {without_cgroup}; or give it a network"
    )
}

/// Why a container cannot be managed whose packets a process sends on.
fn sent_on(program: &str) -> String {
    format!(
        "its packets leave the host as those of {program}, a process of the host's, and with the \
         host's address; use a bridge network"
    )
}

/// Why an interface that is no end of a cable to this host cannot be managed.
pub(crate) fn below_the_host(interface: &Interface) -> Option<String> {
    let kind = interface.kind.as_deref()?;
    BELOW_THE_HOST.contains(&kind).then(|| {
        format!(
            "its interface {} is a {kind} one, whose packets do not cross the host; use a bridge \
             network",
            interface.name
        )
    })
}

type Placed<'a> = (
    &'a Attachment,
    Option<&'a EngineNetwork>,
    Option<&'a Interface>,
);

/// Finds each attachment's interface: by its MAC or one of its addresses, then, where the
/// container changed both, by being the only other one in the network's bridge.
fn place<'a>(
    attachments: &'a [Attachment],
    interfaces: &'a [Interface],
    networks: &'a BTreeMap<String, EngineNetwork>,
) -> Vec<Placed<'a>> {
    let mut free: Vec<&Interface> = interfaces.iter().collect();
    let mut placed: Vec<Placed<'a>> = attachments
        .iter()
        .filter(|attachment| attachment.is_connected())
        .map(|attachment| (attachment, networks.get(&attachment.network_id), None))
        .collect();
    for (attachment, _, interface) in &mut placed {
        let by_mac = |it: &&Interface| attachment.mac == Some(it.mac);
        let by_address = |it: &&Interface| {
            it.addresses
                .iter()
                .any(|a| attachment.addresses.contains(a))
        };
        let position = free
            .iter()
            .position(by_mac)
            .or_else(|| free.iter().position(by_address));
        *interface = position.map(|position| free.remove(position));
    }
    for (_, network, interface) in &mut placed {
        let bridge = network.and_then(|network| network.network.bridge);
        if interface.is_none() && bridge.is_some() {
            let in_bridge = |it: &Interface| bridge_of(it) == bridge;
            let only = free.iter().filter(|it| in_bridge(it)).count() == 1;
            let position = free.iter().position(|it| in_bridge(it)).filter(|_| only);
            *interface = position.map(|position| free.remove(position));
        }
    }
    placed
}

fn bridge_of(interface: &Interface) -> Option<IfIndex> {
    interface.port.and_then(|port| port.bridge)
}

/// An endpoint, and what is wrong with it; `Err(None)`: the reason was given already.
///
/// A port that is not in its network's bridge counts as if it were: were it forgotten, its packets
/// would be nobody's, and leave as without Sortie. So they are dropped where they come in, or, from
/// a bridge of another network, leave with the container's egress address.
fn endpoint(
    attachment: &Attachment,
    network: Option<&EngineNetwork>,
    interface: Option<&Interface>,
) -> Result<(Endpoint, Option<String>), Option<String>> {
    let on = &attachment.network;
    let driver = network.map_or("unknown", |network| &network.driver);
    let Some(interface) = interface else {
        return Err(Some(format!(
            "none of its interfaces is that of network {on} (driver {driver}): neither MAC, nor \
             address, nor bridge agree"
        )));
    };
    let name = &interface.name;
    let Some(port) = interface.port else {
        return Err(below_the_host(interface).is_none().then(|| {
            format!(
                "its interface {name} on network {on} (driver {driver}) ends in another network \
                 namespace than the agent's; use a bridge network, and run the agent where the \
                 engine runs"
            )
        }));
    };
    let bridge = network.and_then(|network| network.network.bridge);
    let astray = (bridge.is_some() && bridge != port.bridge).then(|| {
        format!(
            "its interface {name} passes for that of network {on}, but its port is not in that \
             network's bridge"
        )
    });
    let endpoint = Endpoint {
        network: network.map_or(on, |it| &it.network.name).clone(),
        port: port.index,
        bridge: bridge.or(port.bridge),
        mac: interface.mac,
        addresses: attachment.addresses.clone(),
        default_route: interface.default_route,
    };
    Ok((endpoint, astray))
}

#[cfg(test)]
mod tests;
