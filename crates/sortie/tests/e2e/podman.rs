//! What only Podman does: containers without a daemon, bridges that come and go, pods, and a second
//! engine beside it.

use std::fs;
use std::process::Command;

use sortie_lab::{
    ALL_TRAFFIC, Container, ContainerSpec, Destination, Engine, EngineSpec, Result, Traffic,
    eventually,
};

use crate::sender::Sender;
use crate::stage::{DOCKER_20, LIMIT, PODMAN, Stage, ip};

const V4: &str = "203.0.113.11";
const V6: &str = "2001:db8:113::11";
const LABEL: &str = "sortie.egress=203.0.113.11,2001:db8:113::11";

/// Both sources of one place, with every kind of traffic.
fn leaves_with(
    stage: &Stage,
    container: &Container,
    to: Destination,
    [v4, v6]: [&str; 2],
) -> Result<()> {
    for traffic in ALL_TRAFFIC {
        for (to, source) in [(to.v4, v4), (to.v6, v6)] {
            stage
                .lab
                .expect_source(container, traffic, to, ip(source))?;
        }
    }
    Ok(())
}

/// The packets that were dropped for a reason.
fn dropped(stage: &Stage, reason: &str) -> u64 {
    let status = stage.json(&["status"]).expect("the status");
    let drops = status["drops"].as_array().into_iter().flatten();
    let mut counts = drops.filter(|drop| drop["reason"] == reason);
    counts
        .next()
        .and_then(|drop| drop["packets"].as_u64())
        .unwrap_or(0)
}

/// `podman run` while nobody serves the API: guarded, and known once somebody does.
#[test]
fn started_while_no_service_runs() -> Result<()> {
    let stage = Stage::guarded("cli", PODMAN)?;
    stage.engine.image_busybox()?;
    stage.engine.stop()?;
    let to = stage.lab.destination()?;
    let beginning = stage.lab.mark()?;
    let command = format!(
        "while :; do ping -c 1 -W 1 {} & ping -c 1 -W 1 {} & nc -w 1 {} 7 </dev/null; usleep 20000; done",
        to.v4, to.v6, to.v4
    );
    let run = [
        "run",
        "-d",
        "--cap-add",
        "NET_RAW",
        "--name",
        "web",
        "--label",
        LABEL,
    ];
    let run = [&run[..], &["lab/busybox:1", "sh", "-c", &command]].concat();
    stage.engine.podman(&run)?;
    eventually(LIMIT, "it is seen to send", || {
        match dropped(&stage, "unidentified") {
            0 => Err("no drop"),
            _ => Ok(()),
        }
    })?;
    stage.lab.fence()?;
    stage.lab.expect_only_sources(&beginning, to.v4, &[])?;
    stage.lab.expect_only_sources(&beginning, to.v6, &[])?;
    assert_eq!(stage.run(&["status"])?.code(), 1, "Podman is away");

    stage.engine.resume()?;
    stage.wait_for("web", "Ready")?;
    let web = stage.engine.container("web")?;
    leaves_with(&stage, &web, to, [V4, V6])?;
    stage.lab.fence()?;
    stage
        .lab
        .expect_only_sources(&beginning, to.v4, &[ip(V4)])?;
    stage.lab.expect_only_sources(&beginning, to.v6, &[ip(V6)])
}

/// A network's bridge is made with its first container and removed with its last, and is another
/// one each time: the guard of a network that is known holds from its first packet on, and while no
/// agent runs.
#[test]
fn a_network_is_guarded_whenever_its_bridge_comes() -> Result<()> {
    let mut stage = Stage::new("bridge", PODMAN)?;
    let label = [("sortie.egress", "203.0.113.11,2001:db8:113::11")];
    stage.network("shop", 1, &label)?;
    let spec = ContainerSpec::new("web").network("shop");
    // Podman tells nothing of a network that is made, only of a container on it.
    let first = stage
        .engine
        .create(&ContainerSpec::new("first").network("shop"))?;
    eventually(LIMIT, "its guard waits for the bridge", || {
        let mut list = Command::new("nft");
        list.args(["list", "set", "inet", "sortie", "guarded"]);
        let listed = stage
            .host
            .run(LIMIT, list)
            .map_err(|error| error.to_string())?;
        let is_there = listed.stdout.contains("podman1");
        is_there.then_some(()).ok_or(listed.stdout)
    })?;
    first.remove()?;
    let web = Sender::with_sources(&stage, &spec, ip(V4), ip(V6))?;
    web.arrives(&stage)?;
    web.container.restart()?;
    web.arrives(&stage)?;
    stage.kill_agent()?;
    web.container.restart()?;
    // A neighbour on another network comes and goes meanwhile, as it would without Sortie.
    let plain = stage.engine.run(&ContainerSpec::new("plain"))?;
    let to = stage.lab.destination()?;
    leaves_with(
        &stage,
        &plain,
        to,
        [crate::stage::HOST_V4, crate::stage::HOST_V6],
    )?;
    web.never_otherwise(&stage)?;
    stage.start_agent("")?;
    web.arrives(&stage)?;
    web.never_otherwise(&stage)
}

/// Podman's own rules are taken away and come back; ours stand before them.
#[test]
fn its_rules_made_anew() -> Result<()> {
    let stage = Stage::guarded("reload", PODMAN)?;
    let web = Sender::labelled(&stage, ContainerSpec::new("web"), 11)?;
    web.arrives(&stage)?;
    for program in ["iptables", "ip6tables"] {
        for table in ["filter", "nat"] {
            let mut flush = Command::new(program);
            flush.args(["-w", "-t", table, "-F"]);
            let flushed = stage.host.run(LIMIT, flush)?;
            assert_eq!(flushed.code(), 0, "{}", flushed.stderr);
        }
    }
    web.arrives(&stage)?;
    stage.engine.podman(&["network", "reload", "--all"])?;
    web.arrives(&stage)?;
    web.never_otherwise(&stage)
}

/// What cannot be done for one container keeps nothing of another's back, and is no error of those who
/// asked for something else: a bridge that went under a container with an address of its own, and
/// another program's route where one must be.
#[test]
fn what_one_container_waits_for_keeps_no_other_back() -> Result<()> {
    let stage = Stage::guarded("waits", PODMAN)?;
    stage.network("shop", 1, &[])?;
    let web = stage.labelled("web", &format!("{V4},{V6}"))?;
    let direct = |name: &str, address: &str| {
        let spec = ContainerSpec::new(name).label("sortie.egress", address);
        spec.label("sortie.egress.mode", "direct")
    };
    let to = stage.lab.destination()?;
    let own = stage.managed(&direct("own", "203.0.113.21").network("shop"))?;
    let tcp = Traffic::Tcp(7);
    stage
        .lab
        .expect_source(&own, tcp, to.v4, ip("203.0.113.21"))?;
    // It waits for the link, and nobody is told of an error.
    let bridge = stage.host.ip("-o -4 addr show to 10.77.1.0/24")?;
    let bridge = bridge.split_whitespace().nth(1).expect("a bridge");
    stage.host.ip(&format!("link del {bridge}"))?;
    let change = |last: u8| -> Result<String> {
        stage.ok(&["bypass", "web", "--for", "1h", "--reason", "test"]);
        let host = [crate::stage::HOST_V4, crate::stage::HOST_V6];
        leaves_with(&stage, &web, to, host)?;
        let ended = stage.run(&["bypass", "web", "--end"])?;
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        leaves_with(&stage, &web, to, [V4, V6])?;
        let job = format!("job-{last}");
        let applied = stage.apply(&format!(
            "apiVersion: sortie.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {{name: {job}}}\nspec:\n  \
             workloads: [{{containers: {{names: [{job}]}}}}]\n  action: Egress\n  egress: {{addresses: \
             [203.0.113.{last}, \"2001:db8:113::{last}\"]}}\n"
        ))?;
        assert_eq!(applied.code(), 0, "{}", applied.stderr);
        assert_eq!(applied.stderr, ended.stderr);
        let job = stage.managed(&ContainerSpec::new(&job))?;
        let sources = [format!("203.0.113.{last}"), format!("2001:db8:113::{last}")];
        leaves_with(&stage, &job, to, [&sources[0], &sources[1]])?;
        Ok(applied.stderr)
    };
    assert_eq!(change(12)?, "");
    let problems = || -> Result<String> {
        let status = stage.json(&["status"])?;
        Ok(status["problems"].to_string())
    };
    assert!(!problems()?.contains("cannot"), "{}", problems()?);

    stage.host.ip("route add 203.0.113.22/32 dev up0")?;
    let taken = stage.unmanaged("taken")?;
    let policy = "apiVersion: sortie.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: taken}\nspec:\n  \
                  workloads: [{containers: {names: [taken]}}]\n  action: Egress\n  egress: {addresses: \
                  [203.0.113.22], mode: Direct}\n";
    let file = stage.folder().join("taken.yaml");
    fs::write(&file, policy).expect("a policy file");
    let refused = stage.refused(&["apply", &file.display().to_string()]);
    assert!(
        refused.contains("the policies are kept, but the kernel refused a step: cannot add route"),
        "{refused}"
    );
    let is_told = |wanted: bool| {
        eventually(
            LIMIT,
            &format!("a route in the way is told: {wanted}"),
            || {
                let problems = problems().map_err(|error| error.to_string())?;
                let told = problems.contains("another program has a route");
                (told == wanted).then_some(()).ok_or(problems)
            },
        )
    };
    is_told(true)?;
    let warned = change(13)?;
    assert!(
        warned.starts_with("warning: something else cannot be done yet"),
        "{warned}"
    );
    assert!(warned.contains("203.0.113.22/32"), "{warned}");
    stage.host.ip("route del 203.0.113.22/32 dev up0")?;
    is_told(false)?;
    stage
        .lab
        .expect_source(&taken, tcp, to.v4, ip("203.0.113.22"))
}

/// A pod's label is its infra container's, whose network namespace all of the pod share.
#[test]
fn a_pod() -> Result<()> {
    let stage = Stage::guarded("pod", PODMAN)?;
    let image = stage.engine.image_busybox()?;
    stage.engine.podman(&[
        "pod",
        "create",
        "--name",
        "shop",
        "--label",
        LABEL,
        "--infra-image",
        &image,
        "--infra-command",
        "/bin/sleep 2147483647",
    ])?;
    let member = ["run", "-d", "--pod", "shop", "--name", "web"];
    let member = [&member[..], &[&image, "sleep", "2147483647"]].concat();
    stage.engine.podman(&member)?;
    let web = stage.engine.container("web")?;
    let infra = eventually(LIMIT, "the infra container is managed", || {
        let status = stage
            .json(&["status", "--all"])
            .map_err(|e| e.to_string())?;
        let workloads = status["workloads"].as_array().cloned().unwrap_or_default();
        let mut infra = workloads.iter().filter(|it| it["state"] == "Ready");
        let infra = infra.next().ok_or_else(|| status.to_string())?;
        Ok::<_, String>(infra["name"].as_str().unwrap_or_default().to_owned())
    })?;
    assert!(infra.ends_with("-infra"), "{infra}");
    let to = stage.lab.destination()?;
    leaves_with(&stage, &web, to, [V4, V6])
}

/// Docker and Podman on one host, with a container of one name each. One of them goes away, and the
/// agent starts anew meanwhile.
#[test]
fn beside_docker() -> Result<()> {
    let mut stage = Stage::without_agent("both", PODMAN)?;
    let docker = Engine::start(&stage.host, &EngineSpec::new(DOCKER_20))?;
    stage.start_agent("guard: All\n")?;
    let of_docker = docker
        .run(&ContainerSpec::new("web").label("sortie.egress", "203.0.113.12,2001:db8:113::12"))?;
    let of_podman = stage.labelled("web", &format!("{V4},{V6}"))?;
    for name in ["docker/web", "podman/web"] {
        let to = stage.lab.destination()?;
        eventually(LIMIT, &format!("{name} is known"), || {
            let explained = stage.run(&["explain", name, &to.v4.to_string()]);
            let explained = explained.map_err(|error| error.to_string())?;
            match explained.code() {
                0 => Ok(()),
                _ => Err(explained.stderr),
            }
        })?;
    }
    let both = stage.refused(&["explain", "web", "198.51.100.1"]);
    assert!(both.contains("docker/web or podman/web"), "{both}");
    let to = stage.lab.destination()?;
    let docker_s = ["203.0.113.12", "2001:db8:113::12"];
    leaves_with(&stage, &of_podman, to, [V4, V6])?;
    leaves_with(&stage, &of_docker, to, docker_s)?;

    // Podman's container is known to nobody when the agent comes back: its rules are.
    let place = of_podman.netns()?;
    stage.engine.stop()?;
    stage.kill_agent()?;
    stage.spawn_agent("guard: All\n", &[])?;
    stage.wait_for_agent()?;
    eventually(
        LIMIT,
        "the agent knows Docker's containers",
        || match stage.workload("web") {
            Some(web) if web["kind"] == "docker" && web["state"] == "Ready" => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )?;
    leaves_with(&stage, &of_docker, to, docker_s)?;
    for traffic in ALL_TRAFFIC {
        stage.lab.expect_source(&place, traffic, to.v4, ip(V4))?;
        stage.lab.expect_source(&place, traffic, to.v6, ip(V6))?;
    }
    let status = stage.run(&["status"])?;
    assert_eq!(status.code(), 1, "Podman is away: {}", status.stdout);
    stage.engine.resume()?;
    stage.wait_for_engine()?;
    leaves_with(&stage, &of_podman, to, [V4, V6])
}

/// Podman's list of what runs leaves out what is being stopped, and a container may take its time.
#[test]
fn what_is_being_stopped_still_has_its_address() -> Result<()> {
    let mut stage = Stage::new("stopping", PODMAN)?;
    let image = stage.engine.image_busybox()?;
    let to = stage.lab.destination()?;
    // A shell as the first process does not heed SIGTERM.
    let send = format!(
        "while :; do nc -w 1 {} 7 </dev/null; usleep 20000; done",
        to.v4
    );
    let run = ["run", "-d", "--name", "web", "--label", LABEL, &image];
    stage
        .engine
        .podman(&[&run[..], &["sh", "-c", &send]].concat())?;
    stage.wait_for("web", "Ready")?;
    stage.lab.fence()?;
    let beginning = stage.lab.mark()?;
    let mut stop = Command::new("podman");
    stop.args(["stop", "--time", "20", "web"]);
    let stop = stage.host.spawn("stop", stop)?;
    let is_stopping = || {
        let asked = ["ps", "--all", "--format", "json"];
        let listed = stage.engine.podman(&asked).map_err(|it| it.to_string())?;
        listed.contains("\"stopping\"").then_some(()).ok_or(listed)
    };
    eventually(LIMIT, "it is being stopped", is_stopping)?;
    // An event of another one makes the agent look at all, and so does its start.
    stage.unmanaged("other")?;
    stage.stop_agent()?;
    stage.start_agent("")?;
    stage.wait_for("web", "Ready")?;
    stop.wait(LIMIT)?;
    stage.lab.fence()?;
    stage.lab.expect_only_sources(&beginning, to.v4, &[ip(V4)])
}

/// Policy files select by name, by network, which has two names, and by labels.
#[test]
fn policies_select_its_containers() -> Result<()> {
    let stage = Stage::guarded("select", PODMAN)?;
    stage.network("shop", 1, &[])?;
    stage.network("back", 2, &[])?;
    let policy = |name: &str, containers: &str, last: u8| {
        format!(
            "apiVersion: sortie.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
             workloads:\n  - containers: {{{containers}}}\n  action: Egress\n  egress: {{addresses: \
             [203.0.113.{last}, \"2001:db8:113::{last}\"]}}\n---\n"
        )
    };
    let all = [
        policy("by-name", "names: [\"pay-*\"]", 11),
        policy("by-network", "networks: [podman/shop]", 12),
        policy("by-label", "networks: [back], labels: {app: mail}", 13),
        policy("not-docker", "networks: [docker/back]", 12),
    ];
    let applied = stage.apply(&all.concat())?;
    assert_eq!(applied.code(), 0, "{}", applied.stderr);
    let to = stage.lab.destination()?;
    let host = [crate::stage::HOST_V4, crate::stage::HOST_V6];
    let last = |last: u8| [format!("203.0.113.{last}"), format!("2001:db8:113::{last}")];
    for (spec, last) in [
        (ContainerSpec::new("pay-1"), last(11)),
        (ContainerSpec::new("web").network("shop"), last(12)),
        (
            ContainerSpec::new("mail")
                .network("back")
                .label("app", "mail"),
            last(13),
        ),
    ] {
        let container = stage.managed(&spec)?;
        leaves_with(&stage, &container, to, [&last[0], &last[1]])?;
    }
    let other = ContainerSpec::new("other").network("back");
    let other = stage.engine.run(&other)?;
    stage.wait_for("other", "Unmanaged")?;
    leaves_with(&stage, &other, to, host)?;
    Ok(())
}

/// The packets of `slirp4netns` are those of a process of the host's: who shall leave with an address is
/// told so.
#[test]
fn what_a_process_sends_on_is_refused() -> Result<()> {
    let stage = Stage::guarded("slirp", PODMAN)?;
    stage.engine.image_busybox()?;
    let runs = |name: &str, label: &[&str]| {
        let run = ["run", "-d", "--network", "slirp4netns", "--name", name];
        let sleeps = ["lab/busybox:1", "sleep", "3600"];
        stage.engine.podman(&[&run[..], label, &sleeps].concat())
    };
    runs("web", &["--label", LABEL])?;
    stage.wait_for("web", "Error")?;
    let status = stage.json(&["status"])?;
    let reason = status["workloads"][0]["reason"].as_str();
    assert!(
        reason.is_some_and(|it| it.contains("those of slirp4netns") && it.contains("bridge")),
        "{}",
        status["workloads"]
    );
    // Nobody asks for anything of this one.
    runs("plain", &[])?;
    stage.wait_for("plain", "Unmanaged")
}
