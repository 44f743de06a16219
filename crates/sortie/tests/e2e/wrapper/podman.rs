//! The same for Podman, whose command line needs no service and no agent's leave, and tells on
//! standard error why a container does not start.

use std::fs;
use std::process::Command;
use std::thread;

use sortie_lab::{Container, LabError, Outcome, Result, eventually};

use super::{EGRESS, IMPATIENT, PATIENT, only_left_with, sends};
use crate::stage::{HOST_V4, HOST_V6, LIMIT, PODMAN, Stage, refusal, sortie};

const IMAGE: &str = "lab/busybox:1";
const DROP_IN: &str = "/etc/containers/containers.conf.d/99-sortie.conf";
const LABEL: &str = "sortie.egress=203.0.113.11,2001:db8:113::11";
const ITS: [&str; 2] = ["203.0.113.11", "2001:db8:113::11"];
const HOSTS: [&str; 2] = [HOST_V4, HOST_V6];

impl Stage {
    /// `podman run` with these arguments of a container that sends with its first instruction; every
    /// frame of it must have one of these sources.
    fn podman_run(&self, arguments: &[&str], sources: [&str; 2]) -> Result<()> {
        let to = self.lab.destination()?;
        let mark = self.lab.mark()?;
        let command = sends(to);
        let fixed = [IMAGE, "sh", "-c", &command];
        self.engine
            .podman(&[&["run", "-d"], arguments, &fixed].concat())?;
        only_left_with(self, &mark, to, sources)
    }

    /// What `podman start` says on standard error when it fails.
    fn not_started(&self, name: &str) -> String {
        match self.engine.podman(&["start", name]) {
            Err(LabError::Failed { stderr, .. }) => stderr,
            other => panic!("{other:?}"),
        }
    }

    /// What Podman says of a container's runtime.
    fn runtime_of(&self, name: &str) -> Result<String> {
        let told = self
            .engine
            .podman(&["inspect", "--format", "{{.OCIRuntime}}", name])?;
        Ok(told.trim().to_owned())
    }

    fn file(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.host.path(path)).ok()
    }
}

#[test]
fn the_first_packet_has_the_address() -> Result<()> {
    super::the_first_packet_has_the_address(PODMAN)
}

#[test]
fn a_recycled_ip_inherits_nothing() -> Result<()> {
    super::a_recycled_ip_inherits_nothing(PODMAN)
}

/// With `slirp4netns` its packets would be those of a process of the host's.
#[test]
fn who_cannot_be_managed_does_not_start() -> Result<()> {
    let stage = Stage::new("slirp-start", PODMAN)?;
    stage.engine.image_busybox()?;
    stage.install(PATIENT);
    let create = |name: &str, label: &[&str]| {
        let create = ["create", "--network", "slirp4netns", "--name", name];
        stage
            .engine
            .podman(&[&create[..], label, &[IMAGE, "sleep", "3600"]].concat())
    };
    create("web", &["--label", LABEL])?;
    let told = stage.not_started("web");
    assert!(told.contains("a process of the host's"), "{told}");
    create("plain", &[])?;
    stage.engine.podman(&["start", "plain"]).map(drop)
}

/// Whatever starts a container, it waits; what is none of the agent's business does not.
#[test]
fn all_that_the_command_line_starts() -> Result<()> {
    let stage = Stage::new("cli", PODMAN)?;
    stage.engine.image_busybox()?;
    stage.install(PATIENT);
    stage.podman_run(&["--name", "web", "--label", LABEL], ITS)?;
    stage.podman_run(&["--name", "other"], HOSTS)?;
    // It has no network of its own.
    let shares = ["--name", "shares", "--network", "container:web"];
    stage.podman_run(&shares, ITS)?;
    // A pod's label is its infra container's.
    let pod = ["pod", "create", "--name", "pod", "--label", LABEL];
    let infra = ["--infra-image", IMAGE, "--infra-command"];
    let forever = ["/bin/sleep 2147483647"];
    stage
        .engine
        .podman(&[&pod[..], &infra, &forever].concat())?;
    stage.podman_run(&["--name", "member", "--pod", "pod"], ITS)?;
    // Again, and in one with a new IP.
    for verb in ["restart", "start"] {
        if verb == "start" {
            stage.engine.podman(&["stop", "--time", "0", "web"])?;
        }
        let mark = stage.lab.mark()?;
        stage.engine.podman(&[verb, "web"])?;
        let web = stage.engine.container("web")?;
        let to = sent_to(&web)?;
        only_left_with(&stage, &mark, to, ITS)?;
    }
    // Steps of a build have the runtime too.
    let folder = stage.folder().join("build");
    fs::create_dir(&folder).expect("a folder");
    let steps = format!("FROM {IMAGE}\nRUN true\n");
    fs::write(folder.join("Containerfile"), steps).expect("a file");
    let folder = folder.display().to_string();
    stage.engine.podman(&["build", "--no-cache", &folder])?;
    Ok(())
}

/// The destination that a container was told to send to.
fn sent_to(container: &Container) -> Result<sortie_lab::Destination> {
    let config = container.inspect()?.config.unwrap_or_default();
    let words = config.cmd.unwrap_or_default().join(" ");
    let mut addresses = words
        .split_whitespace()
        .filter_map(|word| word.trim_end_matches('<').parse::<std::net::IpAddr>().ok());
    let v4 = addresses.clone().find(std::net::IpAddr::is_ipv4);
    let v6 = addresses.find(std::net::IpAddr::is_ipv6);
    Ok(sortie_lab::Destination {
        v4: v4.expect("an IPv4 address"),
        v6: v6.expect("an IPv6 address"),
    })
}

/// Without an agent, and without a service: whom something selects is not started, unless it allows
/// the host's address; for all others nothing changes.
#[test]
fn without_an_agent_only_the_selected_do_not_start() -> Result<()> {
    let mut stage = Stage::new("away", PODMAN)?;
    stage.engine.image_busybox()?;
    stage.network("closed", 1, &[("sortie.guard", "true")])?;
    let create = |name: &str, more: &[&str]| {
        let command = [IMAGE, "sleep", "2147483647"];
        let fixed = ["create", "--name", name];
        stage.engine.podman(&[&fixed, more, &command].concat())
    };
    create("web", &["--label", LABEL])?;
    create("closed", &["--network", "closed"])?;
    // Both were made with another runtime, and keep it.
    let told = stage.install(IMPATIENT);
    assert!(told.contains("  closed\n  web\n"), "{told}");
    stage.engine.podman(&["rm", "web", "closed"])?;
    create("web", &["--label", LABEL])?;
    create("closed", &["--network", "closed"])?;
    let noted = stage.folder().join("state/networks-podman.json");
    eventually(LIMIT, "the agent knows the network", || {
        let text = fs::read_to_string(&noted).unwrap_or_default();
        text.contains("closed").then_some(()).ok_or(text)
    })?;
    // One that hangs is as one that is away.
    let worker = stage.worker_pid();
    stage.signal("-STOP", worker)?;
    let error = stage.not_started("web");
    assert!(error.contains("does not answer"), "{error}");
    stage.signal("-CONT", worker)?;
    stage.kill_agent()?;
    stage.engine.stop()?;

    let error = stage.not_started("web");
    for part in ["sortie does not start web", "label:web", "no agent answers"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let error = stage.not_started("closed");
    let why = "network podman/closed is guarded";
    assert!(error.contains(why), "{error}");
    stage.podman_run(&["--name", "other"], HOSTS)?;
    let allows = ["--label", "sortie.egress.on-unavailable=node-address"];
    let allows = [&["--name", "allows", "--label", LABEL], &allows[..]].concat();
    stage.podman_run(&allows, HOSTS)?;

    stage.engine.resume()?;
    stage.start_agent("")?;
    stage.install(PATIENT);
    stage.engine.podman(&["start", "web"])?;
    stage.wait_for("web", "Ready")
}

/// At a boot containers are started before agent and service are there. While they wait Podman tells
/// nobody about them, nor its version: the agent must do without.
#[test]
fn containers_wait_for_the_agent_and_not_for_podman() -> Result<()> {
    let mut stage = Stage::new("boot", PODMAN)?;
    stage.engine.image_busybox()?;
    stage.install(PATIENT);
    stage.network("shop", 1, &[("sortie.egress", EGRESS)])?;
    let noted = stage.folder().join("state/networks-podman.json");
    stage.podman_run(&["--name", "first", "--network", "shop"], ITS)?;
    eventually(LIMIT, "the agent has noted the network", || {
        let text = fs::read_to_string(&noted).unwrap_or_default();
        text.contains("shop").then_some(()).ok_or(text)
    })?;
    stage
        .engine
        .podman(&["rm", "--force", "--time", "0", "first"])?;
    stage.kill_agent()?;
    stage.engine.stop()?;
    let engine = stage.engine.clone();
    let (web, mail) = (stage.lab.destination()?, stage.lab.destination()?);
    let mark = stage.lab.mark()?;
    thread::scope(|scope| {
        let start = |name: &'static str, more: [&'static str; 2], to| {
            let engine = engine.clone();
            scope.spawn(move || {
                let command = sends(to);
                let fixed = [IMAGE, "sh", "-c", &command];
                engine.podman(&[&["run", "-d", "--name", name], &more[..], &fixed].concat())
            })
        };
        let starts = [
            start("web", ["--label", LABEL], web),
            start("mail", ["--network", "shop"], mail),
        ];
        eventually(LIMIT, "two containers wait", || match stage.waiting() {
            2 => Ok(()),
            other => Err(format!("{other} wait")),
        })?;
        stage.spawn_agent("", &[])?;
        for start in starts {
            start.join().expect("no panic")?;
        }
        Ok::<_, LabError>(())
    })?;
    only_left_with(&stage, &mark, web, ITS)?;
    only_left_with(&stage, &mark, mail, ITS)?;
    stage.engine.resume()?;
    stage.wait_for_engine()?;
    stage.wait_for("web", "Ready")?;
    stage.wait_for("mail", "Ready")
}

/// In, twice, and out, with a container that runs all the while, and a service of before.
#[test]
fn uninstall_leaves_what_containers_need() -> Result<()> {
    let stage = Stage::new("out", PODMAN)?;
    stage.engine.image_busybox()?;
    stage.podman_run(&["--name", "old"], HOSTS)?;
    let told = stage.with_runtime("install", &["--dry-run"]);
    assert!(told.contains("+ runtime = "), "{told}");
    assert_eq!(stage.file(DROP_IN), None, "a dry run changes nothing");
    let link = stage.runtime_link().display().to_string();
    let socket = stage.engine.socket().display().to_string();
    let told = stage.with_runtime("install", &["--time-limit", PATIENT]);
    for part in ["  old\n", "systemctl restart podman.service"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let installed = stage.file(DROP_IN).expect("a file");
    assert!(installed.contains(&link), "{installed}");
    let again = stage.with_runtime("install", &["--time-limit", PATIENT]);
    assert!(again.contains("is as it should be"), "{again}");
    assert_eq!(stage.file(DROP_IN), Some(installed));

    // The service of before knows what to do with containers of the runtime, and makes others.
    stage.podman_run(&["--name", "web", "--label", LABEL], ITS)?;
    assert_eq!(stage.runtime_of("web")?, link);
    let web = stage.engine.container("web")?;
    assert_eq!(web.exec(&["true"])?.code, 0);
    web.stop()?;
    web.start()?;
    stage.wait_for("web", "Ready")?;
    let findings = stage.json(&[
        "doctor",
        "--podman",
        &socket,
        "--state",
        &stage.folder().join("state").display().to_string(),
    ])?;
    let mut findings = findings.as_array().into_iter().flatten();
    let older = findings.any(|it| it["name"] == "runtime-not-default");
    assert!(older, "the service is of before");
    stage.engine.restart()?;
    stage.wait_for_engine()?;

    // Started while Sortie's runtime is the default: what ends its network names that runtime.
    stage.engine.podman(&["restart", "--time", "0", "old"])?;
    let told = stage.with_runtime("uninstall", &[]);
    for part in ["  old\n", "  web\n", "systemctl restart podman.service"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(stage.file(DROP_IN), None);
    assert_eq!(web.exec(&["true"])?.code, 0, "its runtime is still there");
    stage
        .engine
        .podman(&["restart", "--time", "0", "web", "old"])?;
    stage.wait_for("web", "Ready")?;
    stage.podman_run(&["--name", "next"], HOSTS)?;
    assert_eq!(stage.runtime_of("next")?, "runc");
    web.remove()?;
    stage.engine.restart()?;
    stage.wait_for_engine()?;
    let told = stage.with_runtime("uninstall", &[]);
    assert!(!told.contains("re-create"), "{told}");
    assert!(!stage.folder().join("state/podman").exists());
    assert!(
        !stage
            .host
            .path("/etc/containers/containers.conf.d")
            .exists()
    );
    stage
        .engine
        .podman(&["restart", "--time", "0", "old", "next"])?;
    Ok(())
}

/// What would do nothing, or is somebody else's, is refused, and nothing changes.
#[test]
fn install_refuses_what_would_do_nothing() -> Result<()> {
    let stage = Stage::without_agent("refused", PODMAN)?;
    let install = |variable: Option<&str>| -> Result<Outcome> {
        let mut command = sortie();
        command.args(["install", "podman", "--podman"]);
        command.arg(stage.engine.socket());
        command.arg("--state").arg(stage.folder().join("state"));
        if let Some(variable) = variable {
            command.env(variable, "/etc/containers/containers.conf");
        }
        stage.host.run(LIMIT, command)
    };
    let error = refusal(&install(Some("CONTAINERS_CONF"))?);
    assert!(error.contains("CONTAINERS_CONF is set"), "{error}");

    let folder = stage.host.path("/etc/containers/containers.conf.d");
    fs::create_dir(&folder).expect("a folder");
    let later = folder.join("zz.conf");
    fs::write(&later, "[engine]\nruntime = \"runc\"\n").expect("a file");
    let error = refusal(&install(None)?);
    assert!(error.contains("what is read later"), "{error}");
    assert_eq!(stage.file(DROP_IN), None);
    assert!(!stage.folder().join("state/podman").exists());

    fs::remove_file(&later).expect("the file");
    fs::write(folder.join("99-sortie.conf"), "[engine]\n").expect("a file");
    let error = refusal(&install(None)?);
    assert!(error.contains("somebody else's"), "{error}");
    assert_eq!(stage.file(DROP_IN).as_deref(), Some("[engine]\n"));
    fs::remove_file(folder.join("99-sortie.conf")).expect("the file");

    stage.engine.stop()?;
    let mut service = Command::new("podman");
    service.args(["--runtime", "runc", "system", "service", "--time=0"]);
    service.arg(format!("unix://{}", stage.engine.socket().display()));
    let service = stage.host.spawn("service", service)?;
    let refused = || {
        let outcome = install(None).map_err(|error| error.to_string())?;
        let error = outcome.stderr.clone();
        error.contains("--runtime").then_some(()).ok_or(error)
    };
    eventually(LIMIT, "the flag is seen", refused)?;
    service.kill()?;
    Ok(())
}
