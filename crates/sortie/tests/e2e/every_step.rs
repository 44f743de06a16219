//! The agent killed before and after every kind of step in the kernel: its holder starts another,
//! which ends up where the first was going, and no frame has a wrong source meanwhile.

use std::fs;
use std::path::{Path, PathBuf};

use sortie_kernel::failpoint::Step;
use sortie_lab::{
    Container, ContainerSpec, EngineKind, Result, Snapshot, Traffic, UplinkSpec, eventually,
    eventually_true,
};

use crate::host_network::executed;
use crate::sender::Sender;
use crate::stage::{DOCKER_20, GUARD_ALL, HOST_V4, LIMIT, PODMAN, Stage, ip, snapshot};

/// What `attach` gives, on the second uplink: so there are routing rules too.
const DIRECT: &str = "192.0.2.21";
const WEB: &str = "203.0.113.11/32";

/// How the containers stand in between.
const IDLE: [(&str, &str); 5] = [
    ("web", "Ready"),
    ("plain", "Unmanaged"),
    ("own", "Unmanaged"),
    ("named", "Unmanaged"),
    ("past", "Ready"),
];

const POLICY: &str = "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: shop}
spec:
  workloads:
  - containers: {names: [plain]}
  action: Egress
  egress: {addresses: [203.0.113.12]}
";

const DIRECT_POLICY: &str = "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: own}
spec:
  workloads:
  - containers: {names: [own]}
  action: Egress
  egress: {addresses: [203.0.113.22], mode: Direct}
";

const NAMES_POLICY: &str = "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: named}
spec:
  workloads:
  - containers: {names: [named]}
  destinations: [{hosts: [bank.example]}]
  action: Egress
  egress: {addresses: [203.0.113.12]}
";

/// Dropped in this order.
struct Scene {
    web: Sender,
    lonely: Container,
    own: Container,
    past: Container,
    before: Snapshot,
    stage: Stage,
}

impl Scene {
    fn on(name: &str, engine: EngineKind) -> Result<Self> {
        let uplinks = [
            UplinkSpec::new(&["203.0.113.5/24", "2001:db8:113::5/64"]),
            UplinkSpec::new(&["192.0.2.5/24", "2001:db8:2::5/64"]),
        ];
        let stage = Stage::with_uplinks(name, engine, uplinks)?;
        for address in [WEB, "203.0.113.12/32", "2001:db8:113::11/128 nodad"] {
            stage.host.ip(&format!("addr add {address} dev up0"))?;
        }
        stage.engine.run(&ContainerSpec::new("plain"))?;
        stage.engine.run(&ContainerSpec::new("named"))?;
        let own = stage.engine.run(&ContainerSpec::new("own"))?;
        let lonely = ContainerSpec::new("lonely").network("none");
        let lonely = stage.engine.run(&lonely)?;
        let past = ContainerSpec::new("past").label("sortie.egress", "203.0.113.12");
        let past = stage.engine.run(&past)?;
        // The last: Podman's bridge takes the lowest MAC of its ports, and who has asked for another
        // one before is lost until he asks again.
        let web = Sender::labelled(&stage, ContainerSpec::new("web"), 11)?;
        let before = snapshot(&stage.host)?;
        Ok(Self {
            web,
            lonely,
            own,
            past,
            before,
            stage,
        })
    }

    /// Waits until an agent has done all, and these containers stand so.
    fn settles(&self, wanted: &[(&str, &str)]) -> Result<()> {
        eventually(LIMIT, &format!("all is done, {wanted:?}"), || {
            let outcome = self
                .stage
                .run(&["status", "--all", "-o", "json"])
                .map_err(|error| error.to_string())?;
            let status: serde_json::Value = serde_json::from_str(&outcome.stdout)
                .map_err(|_| format!("{}{}", outcome.stderr, self.stage.agent().tail()))?;
            let workloads = status["workloads"].as_array().into_iter().flatten();
            let is_so = |(name, state): &(&str, &str)| {
                workloads
                    .clone()
                    .any(|workload| workload["name"] == *name && workload["state"] == *state)
            };
            let failing = status["problems"].to_string().contains("\"kernel\"");
            let mut engines = status["engines"].as_array().into_iter().flatten();
            let connected = engines.any(|engine| engine["state"] == "Connected");
            if connected && !failing && wanted.iter().all(is_so) {
                Ok(())
            } else {
                Err(outcome.stdout)
            }
        })
    }

    /// Runs a command until it succeeds, or says that it was done already: the agent may die under
    /// it, also before it can answer.
    fn until_done(&self, arguments: &[&str], already: &str) -> Result<()> {
        eventually(LIMIT, &format!("{arguments:?} succeeds"), || {
            match self
                .stage
                .run(arguments)
                .map_err(|error| error.to_string())?
            {
                outcome if outcome.code() == 0 || outcome.stderr.contains(already) => Ok(()),
                outcome => Err(outcome.stderr),
            }
        })
    }

    /// Something of every kind of step, made and taken away again.
    fn play(&self) -> Result<()> {
        let policy = self.stage.policies().join("shop.yaml");
        let direct = self.stage.policies().join("own.yaml");
        let names = self.stage.policies().join("named.yaml");
        self.settles(&IDLE)?;
        let attach = ["attach", "lonely", "--address", DIRECT, "--via", "up1"];
        self.until_done(&attach, "has an interface already")?;
        fs::write(&policy, POLICY).expect("the policy");
        fs::write(&direct, DIRECT_POLICY).expect("the policy");
        fs::write(&names, NAMES_POLICY).expect("the policy");
        self.stage.host.ip(&format!("addr del {WEB} dev up0"))?;
        self.settles(&[
            ("web", "Blocked"),
            ("plain", "Ready"),
            ("lonely", "Ready"),
            ("own", "Ready"),
            ("named", "Ready"),
        ])?;
        let to = self.stage.lab.destination()?.v4;
        for (container, source) in [(&self.lonely, DIRECT), (&self.own, "203.0.113.22")] {
            self.stage
                .lab
                .expect_source(container, Traffic::Tcp(7), to, ip(source))?;
        }
        self.stage.host.ip(&format!("addr add {WEB} dev up0"))?;
        fs::remove_file(&policy).expect("the policy");
        fs::remove_file(&direct).expect("the policy");
        fs::remove_file(&names).expect("the policy");
        self.until_done(&["detach", "lonely"], "nothing is attached")?;
        self.settles(&IDLE)?;
        self.web_leaves_right()
    }

    /// An agent that died in it made everything anew: it must succeed.
    fn until_down(&self) -> Result<()> {
        eventually(LIMIT, "down succeeds", || {
            match self
                .stage
                .run(&["down"])
                .map_err(|error| error.to_string())?
            {
                outcome if outcome.code() == 0 => Ok(()),
                outcome => Err(outcome.stderr),
            }
        })
    }

    fn web_leaves_right(&self) -> Result<()> {
        let Sender { container, to, .. } = &self.web;
        let v6 = ip("2001:db8:113::11");
        for (to, source) in [(to.v4, ip("203.0.113.11")), (to.v6, v6)] {
            self.stage
                .lab
                .expect_source(container, Traffic::Tcp(7), to, source)?;
        }
        Ok(())
    }

    /// An agent that dies once before a step of this kind, and once after one.
    fn agent_that_dies_at(&mut self, step: Step, during: &str) -> Result<[PathBuf; 2]> {
        let folder = self.stage.folder();
        let died = ["before", "after"].map(|when| folder.join(format!("{during}-{when}-{step}")));
        let at = |when: &str, died: &Path| format!("{when}:{step}=abort-unless:{}", died.display());
        let failpoints = [at("before", &died[0]), at("after", &died[1])].join(",");
        self.stage
            .spawn_agent(GUARD_ALL, &["--failpoints", &failpoints])?;
        Ok(died)
    }
}

/// The agent has died at both points, or does so soon: the last step of all may be the one.
fn reached(died: &[PathBuf; 2]) -> Result<()> {
    for died in died {
        let what = format!(
            "the agent dies at {}, which some step must reach",
            died.display()
        );
        eventually_true(LIMIT, &what, || died.exists())?;
    }
    Ok(())
}

#[test]
fn at_every_kind_of_step() -> Result<()> {
    // Its forward chain drops, so that there are accept rules of ours to be taken away.
    let mut scene = Scene::on("killed", DOCKER_20)?;
    // The first one of all finds a host without anything of ours; what `web` sent before counts
    // from then on.
    scene.stage.start_agent(GUARD_ALL)?;
    scene.settles(&[("web", "Ready")])?;
    scene.web.begins_anew(&scene.stage)?;
    scene.stage.stop_agent()?;
    // The gate is of `sortie run` without an agent, which alone.rs kills.
    let of_agent = |step: &&Step| !matches!(step, Step::AddGate | Step::DeleteGate);
    for step in Step::ALL.iter().filter(of_agent) {
        let died = scene.agent_that_dies_at(*step, "life")?;
        scene.play()?;
        reached(&died)?;
        scene.settles(&IDLE)?;
        scene.stage.stop_agent()?;
    }
    scene.web.never_otherwise(&scene.stage)?;

    // What `down` does it does again, until it was done.
    for step in [Step::Nft, Step::RestoreSysctl] {
        scene.stage.spawn_agent(GUARD_ALL, &[])?;
        scene.settles(&[("web", "Ready")])?;
        scene.stage.stop_agent()?;
        let died = scene.agent_that_dies_at(step, "down")?;
        scene.settles(&[("web", "Ready")])?;
        scene.until_down()?;
        reached(&died)?;
        scene.stage.agent().wait(LIMIT)?;
        let left = scene.before.diff(&snapshot(&scene.stage.host)?);
        assert_eq!(left, "", "after {step}: {left}");
    }
    Ok(())
}

/// A change that begins with a transaction, and how all stands behind it.
struct Act<'a> {
    what: &'a str,
    /// Does it, again if need be.
    doing: &'a dyn Fn(&Scene) -> Result<()>,
    standing: &'a [(&'a str, &'a str)],
}

impl Scene {
    /// The agent dies before this change's first transaction, or behind it; its heir ends where it
    /// was going.
    fn dies_in(&self, act: &Act<'_>, died: &Path) -> Result<()> {
        fs::remove_file(died).expect("it was there");
        (act.doing)(self)?;
        let what = format!("the agent dies at {}: {}", died.display(), act.what);
        eventually_true(LIMIT, &what, || died.exists())?;
        self.settles(act.standing)
    }
}

/// Changes of containers on the host's network, whose chains come with the first and go with the
/// last, and bypasses: their transactions are not the first that an agent makes.
fn in_later_transactions(engine: EngineKind) -> Result<()> {
    let mut scene = Scene::on("later", engine)?;
    scene.stage.start_agent(GUARD_ALL)?;
    scene.settles(&IDLE)?;
    scene.web.begins_anew(&scene.stage)?;
    scene.stage.stop_agent()?;
    let folder = scene.stage.folder();
    let died = ["before", "after"].map(|when| folder.join(format!("later-{when}")));
    let at = |when: &str, died: &Path| format!("{when}:nft=abort-unless:{}", died.display());
    let failpoints = [at("before", &died[0]), at("after", &died[1])].join(",");
    for died in &died {
        fs::write(died, "").expect("a file");
    }
    scene
        .stage
        .spawn_agent(GUARD_ALL, &["--failpoints", &failpoints])?;
    scene.settles(&IDLE)?;

    let bypass = ["bypass", "past", "--for", "1h", "--reason", "test"];
    let begin = |scene: &Scene| scene.until_done(&bypass, "nothing");
    let end = |scene: &Scene| {
        let end = ["bypass", "past", "--end"];
        scene.until_done(&end, "is not bypassed")
    };
    // Podman gives those on the host's network no cgroup here that a label could go by.
    let host = ContainerSpec::new("host")
        .network("host")
        .capability("NET_RAW")
        .label("sortie.egress", "203.0.113.11,2001:db8:113::11");
    let run = |scene: &Scene| scene.stage.engine.run(&host).map(drop);
    let remove = |scene: &Scene| scene.stage.engine.container("host")?.remove();
    let by = |doing, what, standing| Act {
        what,
        doing,
        standing,
    };
    let bypassed = [("past", "Bypassed"), ("web", "Ready")];
    let with_host = [("host", "Ready"), ("past", "Ready"), ("web", "Ready")];
    let to = scene.stage.lab.destination()?.v4;
    let past_leaves_with = |scene: &Scene, source| {
        let lab = &scene.stage.lab;
        lab.expect_source(&scene.past, Traffic::Tcp(7), to, ip(source))
    };
    for died in &died {
        scene.dies_in(&by(&begin, "a bypass begins", &bypassed), died)?;
        past_leaves_with(&scene, HOST_V4)?;
        scene.dies_in(&by(&end, "a bypass ends", &IDLE), died)?;
        past_leaves_with(&scene, "203.0.113.12")?;
        if engine != PODMAN {
            scene.dies_in(&by(&run, "socket chains come", &with_host), died)?;
            let to = scene.stage.lab.destination()?;
            let host = scene.stage.engine.container("host")?;
            executed(
                &scene.stage,
                &host,
                to,
                ["203.0.113.11", "2001:db8:113::11"],
            )?;
            scene.dies_in(&by(&remove, "a container of theirs ends", &IDLE), died)?;
        }
        scene.web_leaves_right()?;
    }
    scene.stage.stop_agent()?;
    scene.web.never_otherwise(&scene.stage)
}

mod in_later_transactions {
    use crate::stage::{DOCKER_20, PODMAN};

    #[test]
    fn docker_20() -> sortie_lab::Result<()> {
        super::in_later_transactions(DOCKER_20)
    }

    #[test]
    fn podman() -> sortie_lab::Result<()> {
        super::in_later_transactions(PODMAN)
    }
}
