//! What a settled host is asked: senders of every kind, each with every claim to be somebody else,
//! while all is well, while an egress address is gone, and behind another program that translates
//! sources first. With each rule of the guard left out, something of it leaves.

use std::env;
use std::net::IpAddr;
use std::process::Command;

use sortie_lab::frame::Mac;
use sortie_lab::{
    Container, ContainerSpec, Destination, EngineKind, NetworkSpec, OddPackets, Place, Result,
};

use super::fault::forget_flows;
use super::sender;
use super::tally::{Allowed, Tally};
use super::wave::addresses;
use crate::stage::{HOST_V4, HOST_V6, PODMAN, Stage, ip};
use crate::wire;

/// The last number of the egress addresses.
const EGRESS: u8 = 13;
/// The same of one that the host has, and that a container asks for as its own.
const ON_HOST: u8 = 12;
/// The same of one that a container has itself.
const OWN: u8 = 23;
/// What `attach` gives.
const ATTACHED: [&str; 2] = ["203.0.113.21", "2001:db8:113::21"];
/// Of the one that no engine knows, on the guarded network.
const STRANGER: [&str; 2] = ["10.77.3.99", "fd77:3::99"];
/// Of nobody around.
const FOREIGN: [&str; 2] = ["192.0.2.99", "2001:db8:2::99"];
/// The one that `sortie bypass` lets by.
const BYPASSED: &str = "open-past";

/// Where it sends from.
enum Seat {
    /// A namespace of its own.
    Apart(Container),
    /// The host's namespace, with the container's cgroup.
    Cgroup(Container),
    /// The host itself.
    Host,
}

/// One who sends, to a destination of its own.
struct Claimant {
    seat: Seat,
    to: Destination,
    /// In the tally.
    number: usize,
    /// Whether it is to leave with the egress address.
    managed: bool,
}

/// All of them, and whose addresses they claim.
pub(super) struct Claims {
    claimants: Vec<Claimant>,
    sources: Vec<IpAddr>,
    macs: Vec<Mac>,
    /// Names of the engine's, and how they stand; none for those whose address comes and goes.
    known: Vec<(String, Option<&'static str>)>,
}

/// The label's text for addresses that end with this number.
fn label(last: u8) -> String {
    format!("203.0.113.{last},2001:db8:113::{last}")
}

/// In the network that its name begins with.
fn on(name: &str) -> ContainerSpec {
    let network = name.split('-').next().unwrap_or(name);
    ContainerSpec::new(name).network(network)
}

impl Claims {
    /// Two networks, guarded and not, with a managed and an unlabelled container in each, and in one
    /// a container whose policy names destinations, one with an address of one family, one with a
    /// wrong label, one that is bypassed, one that has its address itself and one that cannot have
    /// it; on the host's network one with a label and one whose policy names destinations; an
    /// attached container; somebody unknown on the guarded bridge, and on a wire of its own; the
    /// host.
    pub(super) fn new(stage: &Stage, tally: &mut Tally) -> Result<Self> {
        networks(stage)?;
        let policy = format!(
            "apiVersion: sortie.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {{name: claims}}\nspec:\n  workloads: [{{containers: {{names: [open-bank, host-bank]}}}}]\n  destinations: [{{cidrs: [198.51.100.0/24, \"2001:db8:51::/64\"]}}]\n  action: Egress\n  egress: {{addresses: [203.0.113.{EGRESS}, \"2001:db8:113::{EGRESS}\"]}}\n"
        );
        let applied = stage.apply(&policy)?;
        assert_eq!(applied.code(), 0, "{}", applied.stderr);
        let labelled = |name: &str| on(name).label("sortie.egress", &label(EGRESS));
        let half = on("open-half").label("sortie.egress", &format!("203.0.113.{EGRESS}"));
        let direct = |name: &str, last| {
            let spec = on(name).label("sortie.egress", &label(last));
            spec.label("sortie.egress.mode", "direct")
        };
        let run = |spec: &ContainerSpec, state| -> Result<Container> {
            let container = stage.engine.run(spec)?;
            stage.wait_for(&container.name(), state)?;
            Ok(container)
        };
        let managed = [
            run(&labelled("open-web"), "Ready")?,
            run(&labelled("shut-web"), "Ready")?,
            run(&on("open-bank"), "Ready")?,
            run(&half, "Ready")?,
        ];
        let past = run(&labelled(BYPASSED), "Ready")?;
        let own = run(&direct("open-own", OWN), "Ready")?;
        let wrong = on("open-wrong").label("sortie.egress", "nowhere");
        let closed = [
            run(&wrong, "Error")?,
            run(&direct("open-taken", ON_HOST), "Error")?,
        ];
        let plains = [
            run(&on("open-plain"), "Unmanaged")?,
            run(&on("shut-plain"), "Unmanaged")?,
        ];
        let none = |name: &str| stage.engine.run(&ContainerSpec::new(name).network("none"));
        let attached = none("attached")?;
        let (stranger, wired) = (none("stranger")?, none("wired")?);
        connect(stage, &stranger, &wired)?;

        let mut claims = Self {
            claimants: Vec::new(),
            sources: addresses(&[EGRESS, OWN]),
            macs: Vec::new(),
            known: Vec::new(),
        };
        let mut inner = Vec::new();
        for (place, container) in managed.iter().chain([&own, &past]).enumerate() {
            // Of one in each network: each costs every claimant a socket that is slow to close.
            inner.extend(claims.may_be_claimed(container, place < 2)?);
        }
        for container in &closed {
            inner.extend(claims.may_be_claimed(container, false)?);
        }
        for container in &plains {
            claims.may_be_claimed(container, false)?;
        }
        let fixed = [[HOST_V4, HOST_V6], ATTACHED, FOREIGN, STRANGER];
        let fixed = fixed.iter().flatten().map(|text| ip(text));
        claims.sources.extend(fixed);

        let direct = [addresses(&[OWN]), ATTACHED.map(ip).to_vec()].concat();
        let theirs = [inner.clone(), addresses(&[EGRESS]), direct].concat();
        let egress = Allowed::Only(addresses(&[EGRESS]));
        let only_own = Allowed::Only(addresses(&[OWN]));
        for container in managed {
            claims.know(&container, None);
            claims.add(stage, tally, Seat::Apart(container), egress.clone())?;
        }
        for container in plains {
            claims.know(&container, Some("Unmanaged"));
            let allowed = Allowed::AnyBut(theirs.clone());
            claims.add(stage, tally, Seat::Apart(container), allowed)?;
        }
        for container in closed {
            claims.know(&container, Some("Error"));
            let allowed = Allowed::Only(Vec::new());
            claims.add(stage, tally, Seat::Apart(container), allowed)?;
        }
        claims.know(&own, Some("Ready"));
        claims.add(stage, tally, Seat::Apart(own), only_own)?;
        // It has the host's address while it is let by, which is all the time that it sends.
        let host = Allowed::Only([HOST_V4, HOST_V6].map(ip).to_vec());
        claims.add(stage, tally, Seat::Apart(past), host)?;
        for (container, allowed) in [
            (attached, Allowed::Only(ATTACHED.map(ip).to_vec())),
            (stranger, Allowed::Only(Vec::new())),
            (wired, Allowed::AnyBut(theirs)),
        ] {
            claims.add(stage, tally, Seat::Apart(container), allowed)?;
        }
        // The host has the egress addresses, and may use them.
        claims.add(stage, tally, Seat::Host, Allowed::AnyBut(inner))?;
        // Podman gives those on the host's network no cgroup of which the agent knows.
        if stage.engine.kind() != PODMAN {
            claims.add_on_host(stage, tally)?;
        }
        Ok(claims)
    }

    /// Both addresses of a container, and its MAC if it is to be claimed too.
    fn may_be_claimed(&mut self, container: &Container, mac: bool) -> Result<[IpAddr; 2]> {
        let name = container.name();
        let network = name.split('-').next().unwrap_or_default();
        if mac {
            self.macs.push(container.mac(network)?);
        }
        let both = [
            container.address(network, false)?,
            container.address(network, true)?,
        ];
        self.sources.extend(both);
        Ok(both)
    }

    fn know(&mut self, container: &Container, state: Option<&'static str>) {
        self.known.push((container.name(), state));
    }

    fn add(
        &mut self,
        stage: &Stage,
        tally: &mut Tally,
        seat: Seat,
        allowed: Allowed,
    ) -> Result<()> {
        let to = stage.lab.destination()?;
        let egress = addresses(&[EGRESS]);
        let managed = matches!(&allowed, Allowed::Only(sources) if *sources == egress);
        let name = match &seat {
            Seat::Apart(container) | Seat::Cgroup(container) => container.name(),
            Seat::Host => stage.host.name(),
        };
        self.claimants.push(Claimant {
            number: tally.add(&name, to, allowed),
            seat,
            to,
            managed,
        });
        Ok(())
    }

    /// One with a label, and one whose policy names destinations.
    fn add_on_host(&mut self, stage: &Stage, tally: &mut Tally) -> Result<()> {
        let image = stage
            .engine
            .image_of(&env::current_exe().expect("this program"))?;
        for (name, labels) in [("host-web", Some(label(EGRESS))), ("host-bank", None)] {
            let to = stage.lab.destination()?;
            let mut spec = sender::claiming(name, &image, to, &self.sources).network("host");
            if let Some(egress) = labels {
                spec = spec.label("sortie.egress", &egress);
            }
            let container = stage.engine.run(&spec)?;
            stage.wait_for(name, "Ready")?;
            self.know(&container, None);
            self.claimants.push(Claimant {
                number: tally.add(name, to, Allowed::Only(addresses(&[EGRESS]))),
                seat: Seat::Cgroup(container),
                to,
                managed: true,
            });
        }
        Ok(())
    }

    /// Everybody claims everything, three times over.
    pub(super) fn ask(&self, stage: &Stage, tally: &mut Tally) -> Result<()> {
        self.settles(stage, "Ready")?;
        stage.ok(&["attach", "attached", "--address", &ATTACHED.join(",")]);
        stage.wait_for(BYPASSED, "Ready")?;
        stage.ok(&["bypass", BYPASSED, "--for", "1h", "--reason", "leak test"]);
        self.everybody(stage, tally)?;
        self.behind_another(stage, true)?;
        self.everybody(stage, tally)?;
        self.behind_another(stage, false)?;
        // The egress address is not on the host: the kernel has no reason of its own any more to
        // doubt who claims it.
        let change = |verb: &str, life: &str| -> Result<()> {
            stage
                .host
                .ip(&format!("addr {verb} 203.0.113.{EGRESS}/32 dev up0"))?;
            let v6 = format!("addr {verb} 2001:db8:113::{EGRESS}/128 dev up0 {life}");
            stage.host.ip(&v6).map(drop)
        };
        change("del", "")?;
        self.settles(stage, "Blocked")?;
        self.allow_managed(stage, tally, &[])?;
        self.everybody(stage, tally)?;
        self.allow_managed(stage, tally, &addresses(&[EGRESS]))?;
        change("add", "preferred_lft 0 nodad")?;
        self.settles(stage, "Ready")?;
        stage.ok(&["bypass", BYPASSED, "--end"]);
        tally.read(stage)
    }

    /// Another program translates first, or no longer.
    fn behind_another(&self, stage: &Stage, is_there: bool) -> Result<()> {
        let netns = stage.host.netns();
        for (table, host, local) in [
            ("ip", HOST_V4, "10.77.0.0/16"),
            ("ip6", HOST_V6, "fd77::/16"),
        ] {
            if !is_there {
                netns.nft(&format!("delete table {table} first"))?;
                continue;
            }
            let rule =
                |what: String| format!("add rule {table} first post {what} oif up0 snat to {host}");
            let on_host = self.claimants.iter().filter_map(|claimant| {
                let to = match table {
                    "ip" => claimant.to.v4,
                    _ => claimant.to.v6,
                };
                let is = matches!(claimant.seat, Seat::Cgroup(_));
                is.then(|| rule(format!("{table} daddr {to}")))
            });
            for line in [
                format!("add table {table} first"),
                format!(
                    "add chain {table} first post {{ type nat hook postrouting priority 90; }}"
                ),
                rule(format!("{table} saddr {local}")),
            ]
            .into_iter()
            .chain(on_host)
            {
                netns.nft(&line)?;
            }
        }
        Ok(())
    }

    /// The managed ones may be seen with these from now on.
    fn allow_managed(&self, stage: &Stage, tally: &mut Tally, sources: &[IpAddr]) -> Result<()> {
        tally.read(stage)?;
        for claimant in self.claimants.iter().filter(|claimant| claimant.managed) {
            tally.allow(claimant.number, Allowed::Only(sources.to_vec()));
        }
        Ok(())
    }

    /// Waits until the agent knows all of the engine's, and the managed ones are in this state.
    fn settles(&self, stage: &Stage, managed: &str) -> Result<()> {
        for (name, state) in &self.known {
            stage.wait_for(name, state.unwrap_or(managed))?;
        }
        Ok(())
    }

    fn everybody(&self, stage: &Stage, tally: &mut Tally) -> Result<()> {
        // The same packets again must be new flows.
        forget_flows(stage)?;
        for claimant in &self.claimants {
            match &claimant.seat {
                Seat::Apart(container) => self.claim(container, claimant.to)?,
                Seat::Host => self.claim(&stage.host, claimant.to)?,
                Seat::Cgroup(container) => {
                    let allowed = tally.allowed(claimant.number);
                    tally.read(stage)?;
                    // The host itself begins some of the flows, which must not go on from there.
                    tally.allow(claimant.number, Allowed::AnyBut(Vec::new()));
                    for (source, to) in [(HOST_V4, claimant.to.v4), (HOST_V6, claimant.to.v6)] {
                        let _ = OddPackets::new(ip(source), to)?.send(&stage.host);
                    }
                    stage.lab.fence()?;
                    tally.read(stage)?;
                    tally.allow(claimant.number, allowed);
                    sender::claims_from(container)?;
                }
            }
        }
        stage.lab.fence()
    }

    /// From a namespace, with its own MAC and with others'.
    fn claim(&self, place: &dyn Place, to: Destination) -> Result<()> {
        for (v6, to) in [(false, to.v4), (true, to.v6)] {
            let mut sources = self.sources.iter().filter(|source| source.is_ipv6() == v6);
            let first = sources.next().expect("a source of each family");
            let packets = sources.try_fold(OddPackets::new(*first, to)?, |packets, source| {
                packets.and_from(*source)
            })?;
            // What the host drops of its own it says.
            let _ = packets.send(place);
            for mac in &self.macs {
                let _ = packets.send_as(place, *mac);
            }
        }
        Ok(())
    }
}

/// One that is guarded, whatever the agent's file says, and one that is not.
fn networks(stage: &Stage) -> Result<()> {
    for (name, number, guard) in [("open", 2, "false"), ("shut", 3, "true")] {
        let spec = NetworkSpec::new(name)
            .subnet(&format!("10.77.{number}.0/24"))
            .subnet(&format!("fd77:{number}::/64"))
            .option("com.docker.network.bridge.name", &format!("br-{name}"))
            .label("sortie.guard", guard);
        stage.engine.network(&spec)?;
    }
    Ok(())
}

/// One whom no engine knows on the guarded bridge, and one on a wire of its own.
fn connect(stage: &Stage, stranger: &Container, wired: &Container) -> Result<()> {
    wire::connect(
        stage,
        stranger,
        "strange0",
        STRANGER,
        ["10.77.3.1", "fd77:3::1"],
    )?;
    stage.host.ip("link set strange0 master br-shut")?;
    let routers = ["10.88.0.1", "fd88::1"];
    wire::connect(stage, wired, "wired0", ["10.88.0.2", "fd88::2"], routers)?;
    stage.host.ip("addr add 10.88.0.1/24 dev wired0")?;
    stage.host.ip("addr add fd88::1/64 dev wired0 nodad")?;
    // Neither the kernel nor the engine is to be what stops a claim.
    for device in ["all", "wired0"] {
        let name = format!("net.ipv4.conf.{device}.rp_filter");
        stage.host.netns().set_sysctl(&name, "0")?;
    }
    if stage.engine.kind() == EngineKind::Docker20 {
        for family in ["", "6"] {
            let mut command = Command::new(format!("ip{family}tables"));
            command.args(["-P", "FORWARD", "ACCEPT"]);
            stage.host.netns().output(command)?;
        }
    }
    Ok(())
}
