//! Tasks of Swarm services: those on the default bridge alone are containers like others; those on
//! an overlay reach out through a bridge that the engine tells nobody's address of.

use std::process::Command;

use sortie_lab::{ALL_TRAFFIC, Container, Result, eventually};

use crate::stage::{DOCKER_20, HOST_V4, LIMIT, Stage, ip};

const V4: &str = "203.0.113.11";
/// Nobody listens there, so the engine does not wait for a registry before it takes its own image.
const IMAGE: &str = "localhost:1/busybox:1";

fn docker(stage: &Stage, line: &str) -> Result<String> {
    let mut command = Command::new(stage.engine.client_program());
    let socket = format!("unix://{}", stage.engine.socket().display());
    command.args(["--host", &socket]).args(line.split(' '));
    let outcome = stage.host.run(LIMIT, command)?;
    assert_eq!(outcome.code(), 0, "docker {line}: {}", outcome.stderr);
    Ok(outcome.stdout)
}

/// The only task of a service, once it runs.
fn task(stage: &Stage, service: &str) -> Result<Container> {
    let filter = format!("ps --filter name={service}.1. --format {{{{.Names}}}}");
    let name = eventually(LIMIT, &format!("{service} has a task"), || {
        let names = docker(stage, &filter).map_err(|error| error.to_string())?;
        let name = names.lines().next().map(str::to_owned);
        name.ok_or("none yet".to_owned())
    })?;
    stage.engine.container(&name)
}

#[test]
fn tasks_on_a_bridge_and_on_an_overlay() -> Result<()> {
    let mut stage = Stage::new("swarm", DOCKER_20)?;
    let image = stage.engine.image_busybox()?;
    docker(&stage, &format!("tag {image} {IMAGE}"))?;
    docker(&stage, "swarm init --advertise-addr 203.0.113.5")?;
    docker(&stage, "network create --driver overlay over")?;
    for (service, network) in [("plain", ""), ("spread", "--network over ")] {
        // Without a virtual IP: that needs IPVS.
        let line = format!(
            "service create --detach --no-resolve-image --endpoint-mode dnsrr --name {service} \
             --container-label sortie.egress={V4} {network}{IMAGE} sleep 2147483647"
        );
        docker(&stage, &line)?;
    }
    let plain = task(&stage, "plain")?;
    let spread = task(&stage, "spread")?;
    let name = |container: &Container| sortie_lab::Place::name(container);
    stage.wait_for(&name(&plain), "Ready")?;
    stage.wait_for(&name(&spread), "Error")?;
    let told = stage.workload(&name(&spread)).expect("it is known");
    assert!(told.to_string().contains("driver overlay"), "{told}");
    let to = stage.lab.destination()?.v4;
    for traffic in ALL_TRAFFIC {
        stage.lab.expect_source(&plain, traffic, to, ip(V4))?;
        stage.lab.expect_source(&spread, traffic, to, ip(HOST_V4))?;
    }
    // The guard closes what it cannot tell.
    stage.stop_agent()?;
    stage.start_agent("guardedNetworks: [docker_gwbridge]\n")?;
    stage.wait_for(&name(&plain), "Ready")?;
    let to = stage.lab.destination()?.v4;
    for traffic in ALL_TRAFFIC {
        stage.lab.expect_source(&plain, traffic, to, ip(V4))?;
        stage.lab.expect_nothing(&spread, traffic, to)?;
    }
    Ok(())
}
