//! Containers between `network connect` and `start`: who they are, and which new port is theirs.
//!
//! The engine connects a container's networks some 200 ms before its process runs. Until the
//! `start` event, inspecting it would block; but the network tells its MAC and addresses, the
//! list of containers its labels, and the kernel which new port has that MAC behind it. That is
//! enough to know the workload before its first packet.

use std::collections::{BTreeMap, BTreeSet};

use sortie_api::workload::{Families, IfIndex, MacAddress};

use super::container::{Attachment, Container, Face};
use super::describe::Seen;
use super::network::EngineNetwork;
use crate::interfaces::{Found, Interface, Port};
use crate::netns::NamespaceId;
use crate::ports::PortNews;

/// Those that are being started, and the ports that came up since we listen.
#[derive(Debug, Default)]
pub(crate) struct Starting {
    containers: BTreeMap<String, Candidate>,
    ports: BTreeMap<IfIndex, (Port, MacAddress)>,
}

#[derive(Debug)]
struct Candidate {
    /// When its network was connected, in nanoseconds since the epoch.
    since: i64,
    /// Once the engine has told; the attachments are those that were connected so far.
    face: Option<Face>,
}

impl Starting {
    /// Whether this container is being started.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.containers.contains_key(id)
    }

    /// A container that does not run was connected to a network.
    pub(crate) fn connected(&mut self, id: &str, since: i64) {
        self.containers
            .entry(id.to_owned())
            .and_modify(|candidate| candidate.since = since)
            .or_insert(Candidate { since, face: None });
    }

    /// What the engine says of it and of one network's attachment.
    pub(crate) fn told(&mut self, id: &str, face: Face) {
        let Some(candidate) = self.containers.get_mut(id) else {
            return;
        };
        let before = candidate.face.take().map(|face| face.attachments);
        let mut all: Vec<Attachment> = before
            .unwrap_or_default()
            .into_iter()
            .filter(|old| !face.attachments.iter().any(|it| it.network == old.network))
            .collect();
        all.extend(face.attachments.iter().cloned());
        candidate.face = Some(Face {
            attachments: all,
            ..face
        });
    }

    /// It has started, or will not: an attachment that is over must not wait for a port, since
    /// the next container may get the same MAC.
    pub(crate) fn remove(&mut self, id: &str) {
        self.containers.remove(id);
    }

    /// A port came up or went.
    pub(crate) fn port(&mut self, news: PortNews) {
        match news {
            PortNews::Up(port, mac) => {
                self.ports.insert(port.index, (port, mac));
            }
            // Who is being started is looked at when it has started.
            PortNews::Moved(_) => {}
            PortNews::Gone(index) => {
                self.ports.remove(&index);
            }
        }
    }

    /// All that are being started.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.containers.keys().cloned().collect()
    }

    /// The networks that a container is attached to.
    pub(crate) fn network_ids(&self, id: &str) -> impl Iterator<Item = &str> {
        self.containers
            .get(id)
            .and_then(|candidate| candidate.face.as_ref())
            .into_iter()
            .flat_map(|face| &face.attachments)
            .map(|attachment| attachment.network_id.as_str())
    }

    /// As much of the container as can be told: the attachments whose port is up. None while
    /// there is none.
    pub(crate) fn seen(
        &self,
        id: &str,
        networks: &BTreeMap<String, EngineNetwork>,
    ) -> Option<Seen> {
        let candidate = self.containers.get(id)?;
        let face = candidate.face.as_ref()?;
        let (attachments, interfaces): (Vec<Attachment>, Vec<Interface>) = face
            .attachments
            .iter()
            .filter_map(|attachment| {
                let network = networks.get(&attachment.network_id)?;
                let interface = self.interface(attachment, network.network.bridge?)?;
                Some((attachment.clone(), interface))
            })
            .unzip();
        (!interfaces.is_empty()).then(|| Seen {
            container: Container {
                face: Face {
                    attachments,
                    ..face.clone()
                },
                pid: 0,
                started: candidate.since,
                sandbox: None,
                published_udp: BTreeSet::new(),
            },
            found: Ok(Found::Own {
                namespace: NamespaceId::UNKNOWN,
                interfaces,
            }),
        })
    }

    /// The one new port of the bridge with the attachment's MAC behind it.
    fn interface(&self, attachment: &Attachment, bridge: IfIndex) -> Option<Interface> {
        let mac = attachment.mac?;
        let mut matching = self
            .ports
            .values()
            .filter(|(port, behind)| port.bridge == Some(bridge) && *behind == mac);
        let (port, _) = matching.next()?;
        // Two with one MAC: let the `start` event tell.
        matching.next().is_none().then(|| Interface {
            name: String::new(),
            kind: Some("veth".to_owned()),
            mac,
            addresses: attachment.addresses.clone(),
            // Nobody has looked inside yet.
            default_route: Families::default(),
            port: Some(*port),
        })
    }
}

#[cfg(test)]
mod tests;
