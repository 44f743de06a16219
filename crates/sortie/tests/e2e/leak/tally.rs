//! Counting: each frame that left and each request that came, whose it is, and whether its source is
//! one of its policy's.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use sortie_lab::frame::{Packet, Transport};
use sortie_lab::{Destination, Frame, Requested, Result};

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
    /// What any of these allows.
    AnyOf(Vec<Allowed>),
}

/// Which sources requests may have.
#[derive(Clone, Debug)]
pub(super) struct Asks {
    /// Those whose path is `/api`, or below it.
    pub(super) api: Allowed,
    pub(super) other: Allowed,
}

/// What a policy gives.
#[derive(Default)]
struct Given {
    /// During a change two things.
    now: Vec<Allowed>,
    /// What it gave before, and until when somebody may not know yet that it no longer does.
    before: Vec<(Allowed, SystemTime)>,
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
    /// TCP ports of which something else is right.
    ports: Vec<(u16, Allowed)>,
    /// Where it sends requests.
    asks: Option<Asks>,
    /// Whose other destination this is.
    of: Option<usize>,
    /// When `sortie bypass` lets it by: then it may have the host's addresses too.
    bypass: Option<Range<SystemTime>>,
    first: First,
    /// Whether nothing was struck between the request to start it and the engine's answer.
    calm: bool,
}

/// The flag bits of an end, of a beginning, and of a reset that answers.
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
/// ICMP's types and codes (RFC 792, RFC 4443).
const HOST_UNREACHABLE: (u8, u8) = (3, 1);
const PORT_UNREACHABLE: (u8, u8) = (3, 3);
const ADDRESS_UNREACHABLE_V6: (u8, u8) = (1, 3);
const PORT_UNREACHABLE_V6: (u8, u8) = (1, 4);

/// What a request may need from the uplink until the observer has read it and taken its time: it is
/// a thread of a process that runs much else.
const READING: Duration = Duration::from_secs(1);

/// For how long the gateway's connections may go on as they began: what is on its way may reach its
/// end.
const ENDS: Duration = Duration::from_secs(36);
/// For how long the kernel may repeat the end of what a killed gateway has left
/// (`tcp_orphan_retries` in Documentation/networking/ip-sysctl.rst): nobody is asked about that.
const REPEATS: Duration = Duration::from_mins(2);

/// How many wrong frames are kept for the message.
const EXAMPLES: usize = 20;

/// All containers so far, and their frames.
#[derive(Default)]
pub(super) struct Tally {
    owners: Vec<Owner>,
    containers: usize,
    by_destination: HashMap<IpAddr, usize>,
    policies: HashMap<usize, Given>,
    /// Requests that came: those for `/api`, and others.
    pub(super) requests: [u64; 2],
    /// Frames of any container.
    pub(super) packets: u64,
    /// Frames and requests whose source was outside policy.
    pub(super) leaked: u64,
    /// The first wrong ones, as text.
    pub(super) examples: Vec<String>,
}

impl Tally {
    /// One more container: its number here.
    pub(super) fn add(&mut self, name: &str, to: Destination, allowed: Allowed) -> usize {
        self.containers += 1;
        self.add_destination(name, to, allowed)
    }

    /// Another destination of a container's: its number here.
    pub(super) fn add_to(&mut self, of: usize, to: Destination, allowed: Allowed) -> usize {
        let name = self.owners[of].name.clone();
        let number = self.add_destination(&name, to, allowed);
        self.owners[number].of = Some(of);
        number
    }

    fn add_destination(&mut self, name: &str, to: Destination, allowed: Allowed) -> usize {
        let number = self.owners.len();
        self.by_destination
            .extend([(to.v4, number), (to.v6, number)]);
        self.owners.push(Owner {
            name: name.to_owned(),
            allowed,
            ports: Vec::new(),
            asks: None,
            of: None,
            bypass: None,
            first: First::default(),
            calm: false,
        });
        number
    }

    /// On this TCP port something else is right.
    pub(super) fn on_port(&mut self, number: usize, port: u16, allowed: Allowed) {
        self.owners[number].ports.push((port, allowed));
    }

    /// Requests are right by themselves, and the frames of port 80 where any of them may be.
    pub(super) fn asks(&mut self, number: usize, asks: Asks) {
        let any = Allowed::AnyOf(vec![asks.api.clone(), asks.other.clone()]);
        self.on_port(number, 80, any);
        self.owners[number].asks = Some(asks);
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
    pub(super) fn policy_gives(&mut self, number: usize, now: Vec<Allowed>) {
        self.policies.entry(number).or_default().now = now;
    }

    /// What a policy gave is right for what left before this time.
    pub(super) fn policy_gave(&mut self, number: usize, before: Allowed, until: SystemTime) {
        let given = self.policies.entry(number).or_default();
        given.before.push((before, until));
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
        for request in stage.lab.internet().observer().take_requested() {
            self.count_request(&request);
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
        let owner = &self.owners[number];
        let allowed = owner.allowed_on(packet);
        let bypass = self.bypass(owner);
        let changes = allowed.changes() || bypass.is_some();
        if changes && Self::is_the_hosts_answer(packet) {
            return;
        }
        let began = frame.at - owner.goes_on(packet);
        let right = self.allows(allowed, bypass, packet.source, frame.at)
            || self.allows(allowed, None, packet.source, began);
        let wrong = (!right).then(|| {
            let at = evidence::time(frame.at);
            format!("{at} {} ({allowed:?}): {frame}", owner.name)
        });
        self.packets += 1;
        self.leaks(wrong);
        let owner = &mut self.owners[number];
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

    /// A request is looked at when the observer has read it, and so a while behind its frames.
    fn count_request(&mut self, request: &Requested) {
        let Some(number) = self.by_destination.get(&request.destination) else {
            return;
        };
        let owner = &self.owners[*number];
        let Some(asks) = &owner.asks else { return };
        let path = request.path.split(['?', '#']).next().unwrap_or_default();
        let is_api = path == "/api" || path.starts_with("/api/");
        let allowed = if is_api { &asks.api } else { &asks.other };
        let late = |time: Range<SystemTime>| time.start..time.end + READING;
        let bypass = self.bypass(owner).map(late);
        let right = self.allows(allowed, bypass, request.source, request.at);
        let wrong = (!right).then(|| format!("{} ({allowed:?}): {request:?}", owner.name));
        self.requests[usize::from(!is_api)] += 1;
        self.leaks(wrong);
    }

    fn leaks(&mut self, wrong: Option<String>) {
        let Some(example) = wrong else { return };
        self.leaked += 1;
        if self.examples.len() < EXAMPLES {
            // At once: who looks on can see what was done last.
            println!("  wrong: {example}");
            self.examples.push(example);
        }
    }

    fn bypass(&self, owner: &Owner) -> Option<Range<SystemTime>> {
        let owner = owner.of.map_or(owner, |of| &self.owners[of]);
        owner.bypass.clone()
    }

    fn allows(
        &self,
        allowed: &Allowed,
        bypass: Option<Range<SystemTime>>,
        source: IpAddr,
        at: SystemTime,
    ) -> bool {
        let let_by = bypass.is_some_and(|time| time.contains(&at));
        let_by && [HOST_V4, HOST_V6].map(ip).contains(&source) || self.gives(allowed, source, at)
    }

    /// Whether the host itself may be who sent it. Where a container had one of the host's addresses
    /// and has another one now, the other side may still send to the former, and the host answers
    /// that there is no such connection (RFC 9293, section 3.5.2) or port; and as its router it says
    /// that a container with an address of its own is gone.
    fn is_the_hosts_answer(packet: &Packet) -> bool {
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
        on_host && answers
    }

    fn gives(&self, allowed: &Allowed, source: IpAddr, at: SystemTime) -> bool {
        match allowed {
            Allowed::Only(sources) => sources.contains(&source),
            Allowed::AnyBut(sources) => !sources.contains(&source),
            Allowed::Given(policy) => self.policies.get(policy).is_some_and(|given| {
                let before = given.before.iter().filter(|(_, until)| at < *until);
                let mut all = given.now.iter().chain(before.map(|(before, _)| before));
                all.any(|allowed| self.gives(allowed, source, at))
            }),
            Allowed::AnyOf(all) => all.iter().any(|allowed| self.gives(allowed, source, at)),
        }
    }

    /// Managed containers that were started undisturbed, and those of them whose very first
    /// packet arrived with its address.
    pub(super) fn first(&self) -> (usize, usize) {
        let managed = |owner: &&Owner| match owner.allowed {
            Allowed::Only(_) | Allowed::AnyOf(_) => true,
            Allowed::AnyBut(_) => false,
            // Audited only, a container's first packet is nobody's business.
            Allowed::Given(policy) => policy != policies::ENFORCEMENT,
        };
        let asked = self.owners.iter().filter(|owner| owner.calm);
        // Who asks by name has no packet before its first answer.
        let asked = asked.filter(|owner| owner.asks.is_none()).filter(managed);
        let right = asked.clone().filter(|owner| owner.first == First::Right);
        (asked.clone().count(), right.count())
    }

    /// How many containers there were.
    pub(super) fn containers(&self) -> usize {
        self.containers
    }
}

impl Allowed {
    /// Whether it is something else at times.
    fn changes(&self) -> bool {
        match self {
            Self::Only(_) | Self::AnyBut(_) => false,
            Self::Given(_) => true,
            Self::AnyOf(all) => all.iter().any(Self::changes),
        }
    }
}

impl Owner {
    /// How long ago a packet may have been right, because it is of a connection of the gateway that is
    /// there already.
    fn goes_on(&self, packet: &Packet) -> Duration {
        match packet.transport {
            Transport::Tcp {
                destination_port,
                flags,
                ..
            } if self.ports.iter().any(|(port, _)| *port == destination_port) => {
                match flags & (FIN | SYN) {
                    0 => ENDS,
                    FIN => REPEATS,
                    _ => Duration::ZERO,
                }
            }
            _ => Duration::ZERO,
        }
    }

    fn allowed_on(&self, packet: &Packet) -> &Allowed {
        let port = match packet.transport {
            Transport::Tcp {
                destination_port, ..
            } => Some(destination_port),
            _ => None,
        };
        let other = self.ports.iter().find(|(on, _)| Some(*on) == port);
        other.map_or(&self.allowed, |(_, allowed)| allowed)
    }
}

#[cfg(test)]
mod tests;
