//! Counting: each frame that left, whose it is, and whether its source is one of its policy's.

use std::collections::HashMap;
use std::net::IpAddr;

use sortie_lab::frame::Transport;
use sortie_lab::{Destination, Frame, Result};

use super::sender;
use crate::stage::Stage;

/// Which sources a container may be seen with.
#[derive(Clone, Debug)]
pub(super) enum Allowed {
    /// A managed one: with these only.
    Only(Vec<IpAddr>),
    /// One that nobody manages: with whatever the engine makes of it, but for these.
    AnyBut(Vec<IpAddr>),
}

impl Allowed {
    fn allows(&self, source: IpAddr) -> bool {
        match self {
            Self::Only(sources) => sources.contains(&source),
            Self::AnyBut(sources) => !sources.contains(&source),
        }
    }
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
    first: First,
    /// Whether nothing was struck between the request to start it and the engine's answer.
    calm: bool,
}

/// How many wrong frames are kept for the message.
const EXAMPLES: usize = 20;

/// All containers so far, and their frames.
#[derive(Default)]
pub(super) struct Tally {
    owners: Vec<Owner>,
    by_destination: HashMap<IpAddr, usize>,
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
            first: First::default(),
            calm: false,
        });
        number
    }

    /// From the next frame that is counted on, a container may be seen with these.
    pub(super) fn allow(&mut self, number: usize, allowed: Allowed) {
        self.owners[number].allowed = allowed;
    }

    /// Its start was not disturbed, so its first packet counts.
    pub(super) fn was_calm(&mut self, number: usize) {
        self.owners[number].calm = true;
    }

    /// Counts what has left since the last call.
    pub(super) fn read(&mut self, stage: &Stage) -> Result<()> {
        for uplink in stage.host.uplinks() {
            for frame in uplink.capture().take()? {
                self.count(&frame);
            }
        }
        Ok(())
    }

    fn count(&mut self, frame: &Frame) {
        let Some(packet) = frame.left() else { return };
        let Some(number) = self.by_destination.get(&packet.destination) else {
            return;
        };
        let owner = &mut self.owners[*number];
        self.packets += 1;
        let right = owner.allowed.allows(packet.source);
        if !right {
            self.leaked += 1;
            if self.examples.len() < EXAMPLES {
                let (name, allowed) = (&owner.name, &owner.allowed);
                self.examples.push(format!("{name} ({allowed:?}): {frame}"));
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

    /// Managed containers that were started undisturbed, and those of them whose very first
    /// packet arrived with its address.
    pub(super) fn first(&self) -> (usize, usize) {
        let asked = self
            .owners
            .iter()
            .filter(|owner| owner.calm && matches!(owner.allowed, Allowed::Only(_)));
        let right = asked.clone().filter(|owner| owner.first == First::Right);
        (asked.clone().count(), right.count())
    }

    /// How many containers there were.
    pub(super) fn containers(&self) -> usize {
        self.owners.len()
    }
}
