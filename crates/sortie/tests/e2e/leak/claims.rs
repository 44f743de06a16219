//! What a settled host is asked: senders of every kind, each with every claim to be somebody else,
//! while all is well, while an egress address is gone, and behind another program that translates
//! sources first. With each rule of the guard left out, something of it leaves.

use std::net::IpAddr;
use std::process::Command;

use sortie_lab::frame::Mac;
use sortie_lab::{
    Container, ContainerSpec, Destination, EngineKind, NetworkSpec, OddPackets, Place, Result,
};

use super::tally::{Allowed, Tally};
use super::wave::addresses;
use crate::stage::{HOST_V4, HOST_V6, Stage, ip};
use crate::wire;

/// The last number of the egress addresses.
const EGRESS: u8 = 13;
/// What `attach` gives.
const DIRECT: [&str; 2] = ["203.0.113.21", "2001:db8:113::21"];
/// Of the one that no engine knows, on the guarded network.
const STRANGER: [&str; 2] = ["10.77.3.99", "fd77:3::99"];
/// Of nobody around.
const FOREIGN: [&str; 2] = ["192.0.2.99", "2001:db8:2::99"];

/// One who sends, where from, and to a destination of its own.
struct Claimant {
    place: Box<dyn Place>,
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
    /// Names of the engine's, and whether Sortie manages them.
    known: Vec<(String, bool)>,
}

impl Claims {
    /// Two networks, guarded and not, with a managed and an unlabelled container in each, and in one
    /// a container whose policy names destinations, one with an address of one family and one with a
    /// wrong label; an attached container; somebody unknown on the guarded bridge, and on a wire of
    /// its own; the host.
    pub(super) fn new(stage: &Stage, tally: &mut Tally) -> Result<Self> {
        networks(stage)?;
        let applied = stage.apply(&format!(
            "apiVersion: sortie.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {{name: claims}}\nspec:\n  workloads: [{{containers: {{names: [open-bank]}}}}]\n  destinations: [{{cidrs: [198.51.100.0/24, \"2001:db8:51::/64\"]}}]\n  action: Egress\n  egress: {{addresses: [203.0.113.{EGRESS}, \"2001:db8:113::{EGRESS}\"]}}\n"
        ))?;
        assert_eq!(applied.code(), 0, "{}", applied.stderr);
        let label = format!("203.0.113.{EGRESS},2001:db8:113::{EGRESS}");
        let on = |name: &str| {
            let network = name.split('-').next().unwrap_or(name);
            ContainerSpec::new(name).network(network)
        };
        let managed = |name: &str| stage.managed(&on(name).label("sortie.egress", &label));
        let plain = |name: &str| -> Result<Container> {
            let container = stage.engine.run(&on(name))?;
            stage.wait_for(name, "Unmanaged")?;
            Ok(container)
        };
        let half = on("open-half").label("sortie.egress", &format!("203.0.113.{EGRESS}"));
        let webs = [
            managed("open-web")?,
            managed("shut-web")?,
            stage.managed(&on("open-bank"))?,
            stage.managed(&half)?,
        ];
        let wrong = on("open-wrong").label("sortie.egress", "nowhere");
        let wrong = stage.engine.run(&wrong)?;
        let plains = [plain("open-plain")?, plain("shut-plain")?];
        let none = |name: &str| stage.engine.run(&ContainerSpec::new(name).network("none"));
        let attached = none("attached")?;
        let (stranger, wired) = (none("stranger")?, none("wired")?);
        connect(stage, &stranger, &wired)?;

        let mut own = Vec::new();
        let mut sources = addresses(&[EGRESS]);
        let mut macs = Vec::new();
        for container in webs.iter().chain(&plains) {
            let name = container.name();
            let network = name.split('-').next().unwrap_or_default();
            let both = [
                container.address(network, false)?,
                container.address(network, true)?,
            ];
            if !name.ends_with("plain") {
                own.extend(both);
                macs.push(container.mac(network)?);
            }
            sources.extend(both);
        }
        let fixed = [[HOST_V4, HOST_V6], DIRECT, FOREIGN, STRANGER];
        sources.extend(fixed.iter().flatten().map(|text| ip(text)));

        let egress = addresses(&[EGRESS]);
        let direct = DIRECT.map(ip);
        let theirs = [own.clone(), egress.clone(), direct.to_vec()].concat();
        let mut known = Vec::new();
        let mut claims = Self {
            claimants: Vec::new(),
            sources,
            macs,
            known: Vec::new(),
        };
        let mut add = |place: Box<dyn Place>, allowed: Allowed| -> Result<()> {
            let to = stage.lab.destination()?;
            let managed = matches!(&allowed, Allowed::Only(sources) if *sources == egress);
            claims.claimants.push(Claimant {
                number: tally.add(&place.name(), to, allowed),
                place,
                to,
                managed,
            });
            Ok(())
        };
        for web in webs {
            known.push((web.name(), true));
            add(Box::new(web), Allowed::Only(egress.clone()))?;
        }
        for plain in plains {
            known.push((plain.name(), false));
            add(Box::new(plain), Allowed::AnyBut(theirs.clone()))?;
        }
        add(Box::new(wrong), Allowed::Only(Vec::new()))?;
        add(Box::new(attached), Allowed::Only(direct.to_vec()))?;
        add(Box::new(stranger), Allowed::Only(Vec::new()))?;
        add(Box::new(wired), Allowed::AnyBut(theirs))?;
        // The host has the egress addresses, and may use them.
        add(Box::new(stage.host.clone()), Allowed::AnyBut(own))?;
        claims.known = known;
        Ok(claims)
    }

    /// Everybody claims everything, three times over.
    pub(super) fn ask(&self, stage: &Stage, tally: &mut Tally) -> Result<()> {
        self.settles(stage, "Ready")?;
        stage.ok(&["attach", "attached", "--address", &DIRECT.join(",")]);
        self.everybody(stage)?;
        // Another program translates first.
        for (table, host, local) in [
            ("ip", HOST_V4, "10.77.0.0/16"),
            ("ip6", HOST_V6, "fd77::/16"),
        ] {
            for line in [
                format!("add table {table} first"),
                format!(
                    "add chain {table} first post {{ type nat hook postrouting priority 90; }}"
                ),
                format!("add rule {table} first post {table} saddr {local} oif up0 snat to {host}"),
            ] {
                stage.host.netns().nft(&line)?;
            }
        }
        self.everybody(stage)?;
        for table in ["ip", "ip6"] {
            stage
                .host
                .netns()
                .nft(&format!("delete table {table} first"))?;
        }
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
        self.everybody(stage)?;
        self.allow_managed(stage, tally, &addresses(&[EGRESS]))?;
        change("add", "preferred_lft 0 nodad")?;
        self.settles(stage, "Ready")?;
        tally.read(stage)
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
        stage.wait_for("open-wrong", "Error")?;
        for (name, is_managed) in &self.known {
            stage.wait_for(name, if *is_managed { managed } else { "Unmanaged" })?;
        }
        Ok(())
    }

    fn everybody(&self, stage: &Stage) -> Result<()> {
        // The same packets again must be new flows.
        let mut forget = Command::new("conntrack");
        forget.arg("-F");
        stage.host.netns().output(forget)?;
        for claimant in &self.claimants {
            let place = claimant.place.as_ref();
            for (v6, to) in [(false, claimant.to.v4), (true, claimant.to.v6)] {
                let mut sources = self.sources.iter().filter(|source| source.is_ipv6() == v6);
                let first = sources.next().expect("a source of each family");
                let packets = sources
                    .try_fold(OddPackets::new(*first, to)?, |packets, source| {
                        packets.and_from(*source)
                    })?;
                // What the host drops of its own it says, for the first packet.
                let _ = packets.send(place);
                for mac in &self.macs {
                    let _ = packets.send_as(place, *mac);
                }
            }
        }
        stage.lab.fence()
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
