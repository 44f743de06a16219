//! A project of Docker Compose, by Compose itself: labels of services and networks, policies by
//! service and by a network's name in the file, shared network namespaces; up, scale, restart, a
//! changed file, down.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use sortie_lab::{ALL_TRAFFIC, Container, ContainerSpec, EngineKind, Result, eventually_true};

use crate::stage::{DOCKER_20, DOCKER_29_NFTABLES, HOST_V4, HOST_V6, LIMIT, Stage, ip};

const PROJECT: &str = r#"
version: "2.4"
x-service: &service
  image: lab/busybox:1
  command: sleep 2147483647
  # The first process lets SIGTERM pass.
  stop_signal: SIGKILL
services:
  web:
    <<: *service
    labels: {sortie.egress: "203.0.113.11,2001:db8:113::11"}
    networks: [front, back]
  pay:
    <<: *service
    networks: [front]
  batch:
    <<: *service
    networks: [labelled]
  queue:
    <<: *service
    networks: [jobs]
  plain:
    <<: *service
    networks: [front]
  side:
    <<: *service
    network_mode: service:web
  guest:
    <<: *service
    network_mode: container:outside
  rogue:
    <<: *service
    network_mode: service:web
    labels: {sortie.egress: 203.0.113.13}
networks:
  front: {enable_ipv6: true, ipam: {config: [{subnet: 10.77.1.0/24}, {subnet: "fd77:1::/64"}]}}
  back: {enable_ipv6: true, ipam: {config: [{subnet: 10.77.2.0/24}, {subnet: "fd77:2::/64"}]}}
  jobs: {enable_ipv6: true, ipam: {config: [{subnet: 10.77.3.0/24}, {subnet: "fd77:3::/64"}]}}
  labelled:
    labels: {sortie.egress: "203.0.113.13,2001:db8:113::13"}
    enable_ipv6: true
    ipam: {config: [{subnet: 10.77.4.0/24}, {subnet: "fd77:4::/64"}]}
"#;

/// By the service's name, and by the network's in the file.
const POLICIES: &str = r#"
apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: pay}
spec:
  workloads:
  - containers: {labels: {com.docker.compose.project: shop, com.docker.compose.service: pay}}
  action: Egress
  egress: {addresses: [203.0.113.12, "2001:db8:113::12"]}
---
apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: jobs}
spec:
  workloads: [{containers: {networks: [jobs]}}]
  action: Egress
  egress: {addresses: [203.0.113.12, "2001:db8:113::12"]}
"#;

/// The project `shop` in a file.
struct Project<'a> {
    stage: &'a Stage,
    file: PathBuf,
    /// Between the parts of a container's name.
    dash: char,
}

impl<'a> Project<'a> {
    fn new(stage: &'a Stage) -> Result<Self> {
        // Compose would ask a registry for it.
        stage.engine.image_busybox()?;
        let project = Self {
            stage,
            file: stage.folder().join("compose.yaml"),
            dash: match stage.engine.kind() {
                EngineKind::Docker20 => '_',
                _ => '-',
            },
        };
        project.write(PROJECT);
        Ok(project)
    }

    fn write(&self, text: &str) {
        fs::write(&self.file, text).expect("the project's file");
    }

    fn compose(&self, words: &[&str]) -> Result<()> {
        let mut command = Command::new(self.stage.engine.kind().compose()?);
        command.args(["--project-name", "shop", "--file"]);
        command.arg(&self.file).args(words);
        let socket = self.stage.engine.socket();
        command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
        let outcome = self.stage.host.run(LIMIT * 2, command)?;
        assert_eq!(outcome.code(), 0, "{words:?}: {}", outcome.stderr);
        Ok(())
    }

    fn name(&self, service: &str, number: u8) -> String {
        let dash = self.dash;
        format!("shop{dash}{service}{dash}{number}")
    }

    /// A container of a service, once it is in this state for Sortie.
    fn container(&self, service: &str, number: u8, state: &str) -> Result<Container> {
        let name = self.name(service, number);
        self.stage.wait_for(&name, state)?;
        self.stage.engine.container(&name)
    }

    /// The other side sees a service's container with the addresses that end so.
    fn leaves_as(&self, service: &str, number: u8, last: u8) -> Result<()> {
        let container = self.container(service, number, "Ready")?;
        leaves_as(self.stage, &container, last)
    }
}

fn leaves_as(stage: &Stage, container: &Container, last: u8) -> Result<()> {
    let to = stage.lab.destination()?;
    for traffic in ALL_TRAFFIC {
        for (to, source) in [
            (to.v4, format!("203.0.113.{last}")),
            (to.v6, format!("2001:db8:113::{last}")),
        ] {
            stage
                .lab
                .expect_source(container, traffic, to, ip(&source))?;
        }
    }
    Ok(())
}

fn a_project(engine: EngineKind) -> Result<()> {
    let stage = Stage::new("compose", engine)?;
    assert_eq!(stage.apply(POLICIES)?.code(), 0);
    let outside = ContainerSpec::new("outside");
    let outside = outside.label("sortie.egress", "203.0.113.13,2001:db8:113::13");
    stage.managed(&outside)?;
    let project = Project::new(&stage)?;
    project.compose(&["up", "--detach", "--scale", "pay=2"])?;
    let all_leave_right = |web: u8| -> Result<()> {
        project.leaves_as("web", 1, web)?;
        project.leaves_as("pay", 1, 12)?;
        project.leaves_as("pay", 2, 12)?;
        project.leaves_as("batch", 1, 13)?;
        project.leaves_as("queue", 1, 12)?;
        // As the one whose network namespace it is.
        leaves_as(
            &stage,
            &stage.engine.container(&project.name("side", 1))?,
            web,
        )?;
        leaves_as(
            &stage,
            &stage.engine.container(&project.name("guest", 1))?,
            13,
        )?;
        let plain = project.container("plain", 1, "Unmanaged")?;
        let to = stage.lab.destination()?;
        for (to, source) in [(to.v4, HOST_V4), (to.v6, HOST_V6)] {
            for traffic in ALL_TRAFFIC {
                stage.lab.expect_source(&plain, traffic, to, ip(source))?;
            }
        }
        // A label of its own there is an error, and changes nothing.
        let rogue = project.container("rogue", 1, "Error")?;
        let told = stage.workload(&project.name("rogue", 1));
        let told = told.expect("it is known").to_string();
        assert!(told.contains("differs from that one's"), "{told}");
        leaves_as(&stage, &rogue, web)
    };
    all_leave_right(11)?;

    // Not `web`: who shares its network namespace would keep the old one.
    project.compose(&[
        "restart",
        "--timeout",
        "1",
        "pay",
        "batch",
        "queue",
        "plain",
    ])?;
    all_leave_right(11)?;

    // Another address in the file: Compose makes the container anew; those in its network namespace
    // still have the old one, which leads nowhere.
    let old = "203.0.113.11,2001:db8:113::11";
    project.write(&PROJECT.replace(old, "203.0.113.12,2001:db8:113::12"));
    project.compose(&["up", "--detach", "--scale", "pay=3"])?;
    let anew = [
        "up",
        "--detach",
        "--no-deps",
        "--force-recreate",
        "side",
        "rogue",
    ];
    project.compose(&anew)?;
    all_leave_right(12)?;
    project.leaves_as("pay", 3, 12)?;

    project.compose(&["down", "--timeout", "1"])?;
    eventually_true(LIMIT, "nothing of the project is left", || {
        let status = stage.json(&["status", "--all"]);
        status.is_ok_and(|status| !status["workloads"].to_string().contains("\"shop"))
    })
}

mod a_project {
    use super::{DOCKER_20, DOCKER_29_NFTABLES, Result};

    #[test]
    fn docker_20() -> Result<()> {
        super::a_project(DOCKER_20)
    }

    #[test]
    fn docker_29_nftables() -> Result<()> {
        super::a_project(DOCKER_29_NFTABLES)
    }
}
