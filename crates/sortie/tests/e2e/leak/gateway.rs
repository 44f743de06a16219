//! The gateway of a leak test, and what else may be on its host: it is killed, halted and told to end,
//! and another one takes its place.

use std::time::Duration;

use fastrand::Rng;
use nix::sys::signal::Signal;
use sortie_lab::{Place as _, Process, Result};

use super::fault::{of_any, pause};
use super::wave::Running;
use crate::stage::Stage;

/// What can happen to who asks by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Killed,
    Stopped,
    Terminated,
    NameServerGone,
    /// What leads one container's connections to the gateway.
    RedirectDeleted,
}

/// No server of the internet's answers look-ups.
const AWAY: [&str; 4] = [
    "add table inet away",
    "add chain inet away input { type filter hook input priority 0; }",
    "add rule inet away input udp dport 53 drop",
    "add rule inet away input tcp dport 53 drop",
];

/// The one that runs, and those that still end.
#[derive(Default)]
pub(super) struct Gateways {
    running: Option<Process>,
    ending: Vec<Process>,
    started: u32,
}

impl Gateways {
    /// Starts one.
    pub(super) fn start(&mut self, stage: &Stage) -> Result<()> {
        self.started += 1;
        let name = format!("gateway-{}", self.started);
        self.running = Some(stage.spawn(&name, &["gateway"])?);
        Ok(())
    }

    /// Ends it as `kill -9` does.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.running.take().map_or(Ok(()), |gateway| gateway.kill())
    }

    /// One of the faults, mended after a moment.
    pub(super) fn suffer(
        &mut self,
        fault: Fault,
        moment: Duration,
        stage: &Stage,
        running: &Running,
        random: &mut Rng,
    ) -> Result<()> {
        match fault {
            Fault::Killed => {
                self.kill()?;
                pause(moment);
                self.start(stage)
            }
            Fault::Stopped => {
                self.signal(Signal::SIGSTOP)?;
                pause(moment);
                self.signal(Signal::SIGCONT)
            }
            Fault::Terminated => {
                self.terminate()?;
                // The next one may come while it still ends.
                pause(moment / 2);
                self.start(stage)
            }
            Fault::NameServerGone => {
                let internet = stage.lab.internet().netns();
                for rule in AWAY {
                    internet.nft(rule)?;
                }
                pause(moment);
                internet.nft("delete table inet away").map(drop)
            }
            Fault::RedirectDeleted => {
                // As who has `NET_ADMIN` in there may. It may have none, or be gone; the agent mends it.
                of_any(running, random, |container| {
                    let inside = container.place()?;
                    inside.nft("delete table inet sortie").map(drop)
                });
                Ok(())
            }
        }
    }

    /// Tells it to end as a service manager does: it may still finish what it has begun.
    fn terminate(&mut self) -> Result<()> {
        let mut still = Vec::new();
        for gateway in self.ending.drain(..) {
            if gateway.ended()?.is_none() {
                still.push(gateway);
            }
        }
        self.ending = still;
        if let Some(gateway) = self.running.take() {
            gateway.signal(Signal::SIGTERM)?;
            self.ending.push(gateway);
        }
        Ok(())
    }

    /// Sends it a signal that it survives.
    fn signal(&self, signal: Signal) -> Result<()> {
        let running = self.running.as_ref();
        running.map_or(Ok(()), |gateway| gateway.signal(signal))
    }
}

/// What else there may be on the host.
pub(super) struct Neighbours {
    /// Bridges call iptables.
    calls: bool,
    /// A firewall that lets nothing new in, and another program's translation.
    rules: bool,
}

impl Neighbours {
    pub(super) fn any(random: &mut Rng) -> Self {
        Self {
            calls: random.bool(),
            rules: random.bool(),
        }
    }

    pub(super) fn settle(&self, stage: &Stage) -> Result<()> {
        for call in ["iptables", "ip6tables"].iter().filter(|_| self.calls) {
            let name = format!("net.bridge.bridge-nf-call-{call}");
            // Where the module is not there bridges call nobody.
            let _ = stage.host.netns().set_sysctl(&name, "1");
        }
        self.rules(stage)
    }

    /// The rules again, where they were taken away.
    pub(super) fn rules(&self, stage: &Stage) -> Result<()> {
        const RULES: [&str; 6] = [
            "add table inet other",
            "add chain inet other input { type filter hook input priority 0; policy drop; }",
            "add rule inet other input ct state established,related accept",
            "add rule inet other input meta l4proto ipv6-icmp accept",
            "add chain inet other post { type nat hook postrouting priority 100; }",
            "add rule inet other post oifname up0 masquerade",
        ];
        for rule in RULES.iter().filter(|_| self.rules) {
            stage.host.netns().nft(rule)?;
        }
        Ok(())
    }
}
