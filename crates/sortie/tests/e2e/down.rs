//! `sortie down` takes away all that Sortie made, and only that.

use sortie_lab::{Container, ContainerSpec, EngineKind, Process, Result, Snapshot, Traffic};

use crate::stage::{
    DOCKER_20, DOCKER_29_IPTABLES, DOCKER_29_NFTABLES, HOST_V4, LIMIT, Stage, ip, refusal, snapshot,
};

const POLICY: &str = "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: shop}
spec:
  workloads:
  - containers: {names: [plain]}
  destinations:
  - cidrs: [198.51.100.0/24]
    ports: [{protocol: TCP, port: 7}]
  action: Egress
  egress: {addresses: [203.0.113.12]}
";

/// A host with containers, before Sortie and with all of it.
///
/// Dropped in this order.
struct Scene {
    /// Of `sortie run`.
    _run: Process,
    containers: Vec<(Container, Snapshot)>,
    before: Snapshot,
    stage: Stage,
}

impl Scene {
    /// Containers are there before the agent is, so that theirs can be compared too.
    fn new(name: &str, engine: EngineKind) -> Result<Self> {
        let mut stage = Stage::without_agent(name, engine)?;
        stage.network("shop", 1, &[])?;
        let web = ContainerSpec::new("web").network("shop");
        let mut containers = Vec::new();
        for spec in [
            web.label("sortie.egress", "203.0.113.11,2001:db8:113::11"),
            ContainerSpec::new("plain"),
            ContainerSpec::new("container1").network("none"),
        ] {
            let container = stage.engine.run(&spec)?;
            let before = snapshot(&container)?;
            containers.push((container, before));
        }
        let before = snapshot(&stage.host)?;
        stage.start_agent("guard: All\n")?;
        stage.wait_for("web", "Ready")?;
        let outcome = stage.apply(POLICY)?;
        assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
        let both = "203.0.113.21,2001:db8:113::21";
        stage.ok(&["attach", "container1", "--address", both]);
        let run = ["run", "--address", "203.0.113.22", "--", "sleep", "1000"];
        let run = stage.spawn("run", &run)?;
        stage.wait_for("sleep", "Ready")?;
        let scene = Self {
            _run: run,
            containers,
            before,
            stage,
        };
        scene.is_in_force()?;
        Ok(scene)
    }

    /// Every kind of thing that Sortie makes is there, or there would be nothing to take away.
    fn is_in_force(&self) -> Result<()> {
        let to = self.stage.lab.destination()?.v4;
        let addresses = ["203.0.113.11", "203.0.113.12", "203.0.113.21"];
        for ((container, _), address) in self.containers.iter().zip(addresses) {
            self.stage
                .lab
                .expect_source(container, Traffic::Tcp(7), to, ip(address))?;
        }
        let changes = self.before.diff(&Snapshot::take(&self.stage.host)?);
        for section in [
            "links",
            "routes, IPv4",
            "proxy neighbours",
            "nft",
            "sysctls",
        ] {
            assert!(changes.contains(section), "nothing in {section}: {changes}");
        }
        Ok(())
    }

    /// Nothing of ours is left, in the host and in containers; the engine's own rules work.
    fn is_as_before(&self) -> Result<()> {
        let left = self.before.diff(&Snapshot::take(&self.stage.host)?);
        assert_eq!(left, "", "the host differs: {left}");
        for (container, before) in &self.containers {
            let left = before.diff(&Snapshot::take(container)?);
            assert_eq!(left, "", "{container:?} differs: {left}");
        }
        let to = self.stage.lab.destination()?.v4;
        for (container, _) in &self.containers[..2] {
            self.stage
                .lab
                .expect_source(container, Traffic::Tcp(7), to, ip(HOST_V4))?;
        }
        Ok(())
    }
}

fn down_asks_the_agent(engine: EngineKind) -> Result<()> {
    let scene = Scene::new("down", engine)?;
    scene.stage.ok(&["down"]);
    let ended = scene.stage.agent().wait(LIMIT)?;
    assert_eq!(ended.code(), Some(0), "the agent ends with it");
    scene.is_as_before()?;
    let again = scene.stage.ok(&["down"]);
    assert_eq!(again, "nothing of Sortie's was there\n");
    Ok(())
}

#[test]
fn down_asks_the_agent_docker_20() -> Result<()> {
    down_asks_the_agent(DOCKER_20)
}

#[test]
fn down_asks_the_agent_docker_29_nftables() -> Result<()> {
    down_asks_the_agent(DOCKER_29_NFTABLES)
}

#[test]
fn down_asks_the_agent_docker_29_iptables() -> Result<()> {
    down_asks_the_agent(DOCKER_29_IPTABLES)
}

fn down_works_without_an_agent(engine: EngineKind) -> Result<()> {
    let mut scene = Scene::new("dead", engine)?;
    scene.stage.kill_agent()?;
    scene.stage.ok(&["down"]);
    scene.is_as_before()
}

#[test]
fn down_works_without_an_agent_docker_20() -> Result<()> {
    down_works_without_an_agent(DOCKER_20)
}

#[test]
fn down_works_without_an_agent_docker_29() -> Result<()> {
    down_works_without_an_agent(DOCKER_29_NFTABLES)
}

/// `run` turned forwarding on, and an engine that came afterwards found it on: its containers keep
/// their way out when `down` gives back what else there is.
#[test]
fn forwarding_stays_on_for_an_engine_that_came_later() -> Result<()> {
    let mut stage = Stage::without_agent("forward", DOCKER_20)?;
    stage.engine.stop()?;
    stage.host.ip("link del docker0")?;
    let forwarding = "net.ipv4.ip_forward";
    stage.host.netns().set_sysctl(forwarding, "0")?;
    stage.spawn_agent("", &[])?;
    stage.wait_for_agent()?;
    let run = ["run", "--address", "203.0.113.22", "--", "sleep", "1000"];
    let run = stage.spawn("run", &run)?;
    stage.wait_for("sleep", "Ready")?;
    let to = stage.lab.destination()?.v4;
    stage
        .lab
        .expect_source(&run, Traffic::Tcp(7), to, ip("203.0.113.22"))?;
    stage.engine.resume()?;
    stage.wait_for_engine()?;
    let plain = stage.unmanaged("plain")?;
    let leaves = || {
        stage
            .lab
            .expect_source(&plain, Traffic::Tcp(7), to, ip(HOST_V4))
    };
    leaves()?;
    let said = stage.ok(&["down"]);
    assert!(said.contains("ip_forward stays as it is"), "{said}");
    assert!(said.contains("docker0"), "{said}");
    leaves()
}

/// An agent that does not answer: `down` says what is the matter, `down --force` helps.
#[test]
fn down_by_force_ends_an_agent_that_does_not_answer() -> Result<()> {
    let scene = Scene::new("force", DOCKER_20)?;
    let socket = scene.stage.host.path("/run/sortie/agent.sock");
    std::fs::remove_file(socket).expect("the agent's socket");
    let refused = refusal(&scene.stage.run(&["down"])?);
    assert!(refused.contains("another agent runs"), "{refused}");
    scene.stage.ok(&["down", "--force"]);
    scene.stage.agent().wait(LIMIT)?;
    scene.is_as_before()
}
