//! What is struck: agent, gateway, engine, addresses, uplink, tables, routes, policies, name servers and
//! containers. Each fault mends what it broke, so that the next one meets a working host.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use sortie_lab::{Container, Engine, EngineKind, OddPackets, Place as _, Result, eventually};

use super::evidence;
use super::gateway::{Fault as GatewayFault, Gateways, Neighbours};
use super::policies::{self, Policies};
use super::tally::Tally;
use super::wave::{DIRECT, EGRESS, Running, addresses};
use crate::stage::{GUARD_ALL, HOST_V4, HOST_V6, LIMIT, Stage, ip};

/// What a frame that passed the guard in time may need until its time is taken at the other end of
/// the uplink, with the kernel's tick, by which a bypass ends.
const CROSSING: Duration = Duration::from_millis(100);

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    AgentKilled,
    AgentAndHolderKilled,
    AgentStopped,
    Gateway(GatewayFault),
    EngineKilled,
    EngineRestarted,
    AddressGone,
    UplinkDown,
    TablesDeleted,
    RulesetFlushed,
    RulesFlushed,
    RoutesFlushed,
    ConntrackFlushed,
    PolicyChanged,
    HttpPolicyChanged,
    ModeChanged,
    EnforcementChanged,
    Bypassed,
    ContainerRestarted,
    ContainerKilled,
    NetworkSwapped,
    OddPackets,
}

/// Each with its weight: what takes the engine seconds comes seldom.
const FAULTS: [(Fault, &str, u32); 26] = [
    (Fault::AgentKilled, "agentKilled", 4),
    (Fault::AgentAndHolderKilled, "agentAndHolderKilled", 3),
    (Fault::AgentStopped, "agentStopped", 3),
    (Fault::Gateway(GatewayFault::Killed), "gatewayKilled", 6),
    (Fault::Gateway(GatewayFault::Stopped), "gatewayStopped", 4),
    (
        Fault::Gateway(GatewayFault::Terminated),
        "gatewayTerminated",
        3,
    ),
    (
        Fault::Gateway(GatewayFault::NameServerGone),
        "nameServerGone",
        2,
    ),
    (
        Fault::Gateway(GatewayFault::RedirectDeleted),
        "redirectDeleted",
        4,
    ),
    (Fault::EngineKilled, "engineKilled", 1),
    (Fault::EngineRestarted, "engineRestarted", 1),
    (Fault::AddressGone, "addressGone", 4),
    (Fault::UplinkDown, "uplinkDown", 3),
    (Fault::TablesDeleted, "tablesDeleted", 3),
    (Fault::RulesetFlushed, "rulesetFlushed", 1),
    (Fault::RulesFlushed, "rulesFlushed", 2),
    (Fault::RoutesFlushed, "routesFlushed", 2),
    (Fault::ConntrackFlushed, "conntrackFlushed", 4),
    (Fault::PolicyChanged, "policyChanged", 4),
    (Fault::HttpPolicyChanged, "httpPolicyChanged", 5),
    (Fault::ModeChanged, "modeChanged", 5),
    (Fault::EnforcementChanged, "enforcementChanged", 3),
    (Fault::Bypassed, "bypassed", 6),
    (Fault::ContainerRestarted, "containerRestarted", 6),
    (Fault::ContainerKilled, "containerKilled", 6),
    (Fault::NetworkSwapped, "networkSwapped", 4),
    (Fault::OddPackets, "oddPackets", 10),
];

/// Strikes, and counts what was struck.
pub(super) struct Faults {
    config: &'static str,
    arguments: Vec<String>,
    struck: BTreeMap<&'static str, u32>,
    /// Odd while something is struck.
    strikes: Arc<AtomicU64>,
    policies: Policies,
    gateways: Gateways,
    neighbours: Neighbours,
}

impl Faults {
    pub(super) fn new(guard: bool, failpoints: &str, random: &mut Rng) -> Self {
        Self {
            config: if guard { GUARD_ALL } else { "" },
            arguments: vec!["--failpoints".to_owned(), failpoints.to_owned()],
            struck: BTreeMap::new(),
            strikes: Arc::default(),
            policies: Policies::default(),
            gateways: Gateways::default(),
            neighbours: Neighbours::any(random),
        }
    }

    /// Starts agent and gateway, with the policies, on a host with whatever else is there.
    pub(super) fn begin(&mut self, stage: &mut Stage, tally: &mut Tally) -> Result<()> {
        self.neighbours.settle(stage)?;
        self.start_agent(stage)?;
        stage.wait_for_engine()?;
        self.policies.begin(stage, tally)?;
        self.gateways.start(stage)
    }

    fn start_agent(&self, stage: &mut Stage) -> Result<()> {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        stage.spawn_agent(self.config, &arguments)
    }

    /// How often something was struck, times two; odd while something is.
    pub(super) fn strikes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.strikes)
    }

    /// How often each kind was struck.
    pub(super) fn struck(&self) -> impl Iterator<Item = (&'static str, u32)> {
        self.struck.iter().map(|(kind, count)| (*kind, *count))
    }

    /// Strikes once, and mends it.
    pub(super) fn strike(
        &mut self,
        stage: &mut Stage,
        running: &Running,
        random: &mut Rng,
        tally: &mut Tally,
    ) -> Result<()> {
        let (fault, name) = choose(random);
        self.strikes.fetch_add(1, Ordering::SeqCst);
        evidence::note(stage, name);
        let done = self.inflict(fault, stage, running, random, tally);
        evidence::note(stage, &format!("{name} is over"));
        self.strikes.fetch_add(1, Ordering::SeqCst);
        *self.struck.entry(name).or_default() += 1;
        done
    }

    fn inflict(
        &mut self,
        fault: Fault,
        stage: &mut Stage,
        running: &Running,
        random: &mut Rng,
        tally: &mut Tally,
    ) -> Result<()> {
        let moment = Duration::from_millis(random.u64(20..800));
        match fault {
            Fault::AgentKilled => {
                stage.wait_for_engine()?;
                stage.signal("-9", stage.worker_pid())
            }
            Fault::AgentAndHolderKilled => {
                stage.wait_for_engine()?;
                stage.kill_agent()?;
                pause(moment);
                self.start_agent(stage)
            }
            Fault::AgentStopped => {
                stage.wait_for_engine()?;
                let worker = stage.worker_pid();
                stage.signal("-STOP", worker)?;
                pause(moment);
                stage.signal("-CONT", worker)
            }
            Fault::Gateway(fault) => self.gateways.suffer(fault, moment, stage, running, random),
            Fault::EngineKilled => {
                stage.engine.kill()?;
                pause(moment);
                stage.engine.resume()
            }
            Fault::EngineRestarted => stage.engine.restart(),
            Fault::AddressGone => {
                let last = random.u8(11..=13);
                change_address(stage, "del", last)?;
                pause(moment);
                change_address(stage, "add", last)
            }
            Fault::UplinkDown => {
                stage.host.uplinks()[0].down()?;
                pause(moment);
                uplink_up(stage)
            }
            Fault::TablesDeleted => {
                for table in ["bridge sortie", "inet sortie", "netdev sortie"] {
                    // The kernel refuses: they have an owner, or had one and nobody has it yet.
                    let _ = stage.host.netns().nft(&format!("delete table {table}"));
                }
                Ok(())
            }
            Fault::RulesetFlushed => {
                stage.host.netns().nft("flush ruleset")?;
                pause(moment);
                self.neighbours.rules(stage)?;
                // Its own rules went with it, and it makes them at its start only, or when told to.
                if stage.engine.kind() == EngineKind::Podman {
                    return stage
                        .engine
                        .podman(&["network", "reload", "--all"])
                        .map(drop);
                }
                stage.engine.restart()
            }
            Fault::RulesFlushed => {
                for family in ["-4", "-6"] {
                    stage.host.ip(&format!("{family} rule flush"))?;
                }
                pause(moment);
                rules(stage)
            }
            Fault::RoutesFlushed => {
                for family in ["-4", "-6"] {
                    stage.host.ip(&format!("{family} route flush default"))?;
                }
                pause(moment);
                default_routes(stage)
            }
            Fault::ConntrackFlushed => forget_flows(stage),
            Fault::PolicyChanged => self.change(policies::ADDRESS, stage, tally),
            Fault::HttpPolicyChanged => self.change(policies::PATHS, stage, tally),
            Fault::ModeChanged => self.change(policies::MODE, stage, tally),
            Fault::EnforcementChanged => self.change(policies::ENFORCEMENT, stage, tally),
            Fault::Bypassed => {
                stage.wait_for_engine()?;
                bypass(stage, running, random, tally)
            }
            Fault::ContainerRestarted => {
                of_any(running, random, Container::restart);
                Ok(())
            }
            Fault::ContainerKilled => {
                of_any(running, random, |container| {
                    container.kill()?;
                    container.start()
                });
                Ok(())
            }
            Fault::OddPackets => {
                odd_packets(stage, running, random);
                Ok(())
            }
            Fault::NetworkSwapped => {
                let engine = &stage.engine;
                of_any(running, random, |container| swap_network(engine, container));
                Ok(())
            }
        }
    }

    fn change(&mut self, policy: usize, stage: &Stage, tally: &mut Tally) -> Result<()> {
        stage.wait_for_engine()?;
        self.policies.change(policy, stage, tally)
    }
}

/// Waits until agent and engine work together again.
pub(super) fn heal(stage: &Stage) -> Result<()> {
    eventually(LIMIT, "the engine answers", || stage.engine.version())?;
    stage.wait_for_engine()
}

fn choose(random: &mut Rng) -> (Fault, &'static str) {
    let tickets: u32 = FAULTS.iter().map(|(_, _, weight)| weight).sum();
    let mut ticket = random.u32(..tickets);
    for (fault, name, weight) in FAULTS {
        match ticket.checked_sub(weight) {
            Some(left) => ticket = left,
            None => return (fault, name),
        }
    }
    (FAULTS[0].0, FAULTS[0].1)
}

/// Lets a fault last: there is nothing to wait for but the time.
pub(super) fn pause(moment: Duration) {
    let (_open, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(moment);
}

/// One of the containers, if it is managed, leaves as without Sortie for seconds; what strikes next
/// may be the end of who should end it.
fn bypass(stage: &Stage, running: &Running, random: &mut Rng, tally: &mut Tally) -> Result<()> {
    let Some(member) = running.any(random) else {
        return Ok(());
    };
    let seconds = random.u64(1..=3);
    tally.read(stage)?;
    let begin = SystemTime::now();
    let (name, time) = (member.container.name(), format!("{seconds}s"));
    let outcome = stage.run(&["bypass", &name, "--for", &time, "--reason", "leak test"])?;
    if outcome.code() == 0 {
        let end = SystemTime::now() + Duration::from_secs(seconds) + CROSSING;
        tally.bypasses(member.number, begin..end);
    }
    Ok(())
}

/// Does something to one of the containers; it may have ended, or be in the state that is asked
/// for already, and then the engine refuses.
pub(super) fn of_any(
    running: &Running,
    random: &mut Rng,
    work: impl FnOnce(&Container) -> Result<()>,
) {
    if let Some(member) = running.any(random) {
        let _ = work(&member.container);
    }
}

fn swap_network(engine: &Engine, container: &Container) -> Result<()> {
    engine.connect("shop", container, &[])?;
    engine.disconnect(engine.kind().default_network(), container)
}

/// Packets that conntrack does not follow, as itself, as a neighbour, as the host, as an egress
/// address and as a stranger; with its own MAC and with the neighbour's.
fn odd_packets(stage: &Stage, running: &Running, random: &mut Rng) {
    let (Some(sender), Some(neighbour)) = (running.any(random), running.any(random)) else {
        return;
    };
    // From the host's namespace it would be the host that sends.
    if sender.on_host {
        return;
    }
    let (sender, to, neighbour) = (sender.container, sender.to, neighbour.container);
    // Either may have ended, or have no address in this network.
    let claimed = |container: &Container| {
        let mut networks = ["shop", "bridge"].into_iter();
        networks.find_map(|network| {
            let v4 = container.address(network, false).ok()?;
            let v6 = container.address(network, true).ok()?;
            Some(([v4, v6], container.mac(network).ok()?))
        })
    };
    let Some((theirs, mac)) = claimed(&neighbour) else {
        return;
    };
    let own = claimed(&sender).map_or(theirs, |(own, _)| own);
    let public = [HOST_V4, HOST_V6, "192.0.2.99", "2001:db8:2::99"].map(ip);
    let egress = addresses(&EGRESS).into_iter().chain(addresses(&DIRECT));
    for source in own.into_iter().chain(theirs).chain(public).chain(egress) {
        let to = if source.is_ipv4() { to.v4 } else { to.v6 };
        if let Ok(packets) = OddPackets::new(source, to) {
            let _ = packets.send(&sender);
            let _ = packets.send_as(&sender, mac);
        }
    }
    let _ = stage.lab.fence();
}

/// Without their entries, packets of old flows begin new ones.
pub(super) fn forget_flows(stage: &Stage) -> Result<()> {
    let mut flush = Command::new("conntrack");
    flush.arg("-F");
    stage.host.netns().output(flush).map(drop)
}

fn change_address(stage: &Stage, verb: &str, last: u8) -> Result<()> {
    let life = if verb == "add" {
        "preferred_lft 0 nodad"
    } else {
        ""
    };
    stage
        .host
        .ip(&format!("addr {verb} 203.0.113.{last}/32 dev up0"))?;
    stage.host.ip(&format!(
        "addr {verb} 2001:db8:113::{last}/128 dev up0 {life}"
    ))?;
    Ok(())
}

/// A link that goes down loses its IPv6 addresses and all routes through it.
fn uplink_up(stage: &Stage) -> Result<()> {
    stage.host.ip("link set up0 up")?;
    stage
        .host
        .ip("addr replace 2001:db8:113::5/64 dev up0 nodad")?;
    for last in EGRESS {
        stage.host.ip(&format!(
            "addr replace 2001:db8:113::{last}/128 dev up0 preferred_lft 0 nodad"
        ))?;
    }
    default_routes(stage)
}

fn default_routes(stage: &Stage) -> Result<()> {
    for gateway in stage.host.uplinks()[0].gateways() {
        stage.host.ip(&format!(
            "route replace default via {gateway} dev up0 metric 100"
        ))?;
    }
    Ok(())
}

/// The rules that every namespace begins with (net/ipv4/fib_rules.c, net/ipv6/fib6_rules.c).
fn rules(stage: &Stage) -> Result<()> {
    for (family, priority, table) in [
        ("-4", 32766, "main"),
        ("-4", 32767, "default"),
        ("-6", 32766, "main"),
    ] {
        stage.host.ip(&format!(
            "{family} rule add priority {priority} lookup {table}"
        ))?;
    }
    Ok(())
}
