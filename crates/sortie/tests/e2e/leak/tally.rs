//! Counting: each frame that left, whose it is, and whether its source is one of its policy's.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;
use std::time::SystemTime;

use sortie_lab::frame::{Packet, Transport};
use sortie_lab::{Destination, Frame, Result};

use super::wave::{EGRESS, addresses};
use super::{evidence, policies, sender};
use crate::stage::{HOST_V4, HOST_V6, Stage, ip};

/// Which sources a container may be seen with.
#[derive(Clone, Debug)]
pub(super) enum Allowed {
    /// A managed one: with these only.
    Only(Vec<IpAddr>),
    /// One that nobody manages: with whatever the engine makes of it, but for these.
    AnyBut(Vec<IpAddr>),
    /// What the policy of this number gives at the time.
    Given(usize),
}

/// What became of a container's very first packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum First {
    #[default]
    NotSeen,
    Right,
    Wrong,
}

struct Owner {
    name: String,
    allowed: Allowed,
    /// When `sortie bypass` lets it by: then it may have the host's addresses too.
    bypass: Option<Range<SystemTime>>,
    first: First,
    /// Whether nothing was struck between the request to start it and the engine's answer.
    calm: bool,
}

/// The flag bits of a reset that answers.
const RST: u8 = 4;
/// ICMP's types and codes (RFC 792, RFC 4443).
const HOST_UNREACHABLE: (u8, u8) = (3, 1);
const PORT_UNREACHABLE: (u8, u8) = (3, 3);
const ADDRESS_UNREACHABLE_V6: (u8, u8) = (1, 3);
const PORT_UNREACHABLE_V6: (u8, u8) = (1, 4);

/// How many wrong frames are kept for the message.
const EXAMPLES: usize = 20;

/// All containers so far, and their frames.
#[derive(Default)]
pub(super) struct Tally {
    owners: Vec<Owner>,
    by_destination: HashMap<IpAddr, usize>,
    /// What each policy that changes gives now; during a change two things.
    policies: HashMap<usize, Vec<Allowed>>,
    /// Frames of any container.
    pub(super) packets: u64,
    /// Those whose source was outside policy.
    pub(super) leaked: u64,
    /// The first wrong ones, as text.
    pub(super) examples: Vec<String>,
}

impl Tally {
    /// One more container: its number here.
    pub(super) fn add(&mut self, name: &str, to: Destination, allowed: Allowed) -> usize {
        let number = self.owners.len();
        self.by_destination
            .extend([(to.v4, number), (to.v6, number)]);
        self.owners.push(Owner {
            name: name.to_owned(),
            allowed,
            bypass: None,
            first: First::default(),
            calm: false,
        });
        number
    }

    /// What a container may be seen with.
    pub(super) fn allowed(&self, number: usize) -> Allowed {
        self.owners[number].allowed.clone()
    }

    /// From the next frame that is counted on, a container may be seen with these.
    pub(super) fn allow(&mut self, number: usize, allowed: Allowed) {
        self.owners[number].allowed = allowed;
    }

    /// From the next frame that is counted on, a policy gives these.
    pub(super) fn policy_gives(&mut self, number: usize, allowed: Vec<Allowed>) {
        self.policies.insert(number, allowed);
    }

    /// A container is let by between these times, whatever else it may.
    pub(super) fn bypasses(&mut self, number: usize, time: Range<SystemTime>) {
        self.owners[number].bypass = Some(time);
    }

    /// Its start was not disturbed, so its first packet counts.
    pub(super) fn was_calm(&mut self, number: usize) {
        self.owners[number].calm = true;
    }

    /// Counts what has left since the last call.
    pub(super) fn read(&mut self, stage: &Stage) -> Result<()> {
        let before = self.leaked;
        for uplink in stage.host.uplinks() {
            for frame in uplink.capture().take()? {
                self.count(&frame);
            }
        }
        if before == 0 && self.leaked > 0 {
            evidence::keep(stage)?;
        }
        Ok(())
    }

    fn count(&mut self, frame: &Frame) {
        let Some(packet) = frame.left() else { return };
        let Some(number) = self.by_destination.get(&packet.destination) else {
            return;
        };
        let number = *number;
        if Self::is_the_hosts_answer(&self.owners[number], packet) {
            return;
        }
        let right = self.allows(&self.owners[number], packet.source, frame.at);
        let owner = &mut self.owners[number];
        self.packets += 1;
        if !right {
            self.leaked += 1;
            if self.examples.len() < EXAMPLES {
                let (name, allowed) = (&owner.name, &owner.allowed);
                let at = evidence::time(frame.at);
                let example = format!("{at} {name} ({allowed:?}): {frame}");
                // At once: who looks on can see what was done last.
                println!("  wrong: {example}");
                self.examples.push(example);
            }
        }
        if matches!(
            packet.transport,
            Transport::Udp {
                destination_port: sender::FIRST,
                ..
            }
        ) && packet.destination.is_ipv4()
        {
            owner.first = if right { First::Right } else { First::Wrong };
        }
    }

    fn allows(&self, owner: &Owner, source: IpAddr, at: SystemTime) -> bool {
        let let_by = owner.bypass.as_ref().is_some_and(|time| time.contains(&at));
        let_by && [HOST_V4, HOST_V6].map(ip).contains(&source) || self.gives(&owner.allowed, source)
    }

    /// Whether the host itself may be who sent it. Where a container had one of the host's addresses
    /// and has another one now, the other side may still send to the former, and the host answers
    /// that there is no such connection (RFC 9293, section 3.5.2) or port; and as its router it says
    /// that a container with an address of its own is gone.
    fn is_the_hosts_answer(owner: &Owner, packet: &Packet) -> bool {
        let changes = matches!(owner.allowed, Allowed::Given(_)) || owner.bypass.is_some();
        let on_host = addresses(&EGRESS).contains(&packet.source)
            || [HOST_V4, HOST_V6].map(ip).contains(&packet.source);
        let answers = match packet.transport {
            Transport::Tcp { flags, .. } => flags == RST,
            Transport::Icmp { kind, code, .. } if packet.source.is_ipv4() => {
                (kind, code) == PORT_UNREACHABLE || (kind, code) == HOST_UNREACHABLE
            }
            Transport::Icmp { kind, code, .. } => {
                (kind, code) == PORT_UNREACHABLE_V6 || (kind, code) == ADDRESS_UNREACHABLE_V6
            }
            _ => false,
        };
        changes && on_host && answers
    }

    fn gives(&self, allowed: &Allowed, source: IpAddr) -> bool {
        match allowed {
            Allowed::Only(sources) => sources.contains(&source),
            Allowed::AnyBut(sources) => !sources.contains(&source),
            Allowed::Given(policy) => {
                let given = self.policies.get(policy).into_iter().flatten();
                given.into_iter().any(|allowed| self.gives(allowed, source))
            }
        }
    }

    /// Managed containers that were started undisturbed, and those of them whose very first
    /// packet arrived with its address.
    pub(super) fn first(&self) -> (usize, usize) {
        let managed = |owner: &&Owner| match owner.allowed {
            Allowed::Only(_) => true,
            Allowed::AnyBut(_) => false,
            // Audited only, a container's first packet is nobody's business.
            Allowed::Given(policy) => policy != policies::ENFORCEMENT,
        };
        let asked = self.owners.iter().filter(|owner| owner.calm);
        let asked = asked.filter(managed);
        let right = asked.clone().filter(|owner| owner.first == First::Right);
        (asked.clone().count(), right.count())
    }

    /// How many containers there were.
    pub(super) fn containers(&self) -> usize {
        self.owners.len()
    }
}

#[cfg(test)]
mod tests;
