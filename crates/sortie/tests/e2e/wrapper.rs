//! Sortie's OCI runtime: a container's first process runs only once its decision is in the kernel,
//! with no guard at all.

mod podman;

use std::fs;
use std::path::PathBuf;
use std::thread;

use sortie_lab::{
    Container, ContainerSpec, Destination, Engine, EngineKind, EngineSpec, Mark, Result, eventually,
};

use crate::sender::Sender;
use crate::stage::{DOCKER_20, DOCKER_29_NFTABLES, HOST_V4, HOST_V6, LIMIT, PODMAN, Stage, ip};

const EGRESS: &str = "203.0.113.11,2001:db8:113::11";
/// Long: no test waits for it.
const PATIENT: &str = "60";
/// Short: the test waits for it.
const IMPATIENT: &str = "1";

impl Stage {
    fn with_runtime(&self, command: &str, more: &[&str]) -> String {
        let socket = self.engine.socket().display().to_string();
        let folder = self.folder().join("state").display().to_string();
        let engine: [&str; 3] = match self.engine.kind() {
            PODMAN => ["podman", "--podman", &socket],
            _ => ["docker", "--docker", &socket],
        };
        let fixed = [command, "--state", &folder];
        self.ok(&[&fixed, &engine, more].concat())
    }

    /// Lets the engine start containers through Sortie's runtime. A service of Podman that runs
    /// since before would go on with its former one.
    pub(crate) fn install(&self, limit: &str) -> String {
        let told = self.with_runtime("install", &["--time-limit", limit]);
        if told.contains("systemctl restart podman.service") {
            self.engine.restart().expect("the service starts anew");
            self.wait_for_engine().expect("the agent finds it");
        }
        told
    }

    /// The link that the engine calls.
    fn runtime_link(&self) -> PathBuf {
        let state = self.folder().join("state");
        match self.engine.kind() {
            PODMAN => state.join("podman/sortie-runtime/runc"),
            _ => state.join("docker/sortie-runtime"),
        }
    }

    /// How many processes of the runtime hold a start.
    pub(crate) fn waiting(&self) -> usize {
        let link = self.runtime_link().display().to_string();
        let processes = fs::read_dir(self.host.path("/proc")).expect("/proc");
        let lines = processes.filter_map(|it| fs::read(it.ok()?.path().join("cmdline")).ok());
        let lines = lines.filter(|line| {
            let mut words = line.split(|byte| *byte == 0);
            words.next() == Some(link.as_bytes()) && words.any(|word| word == b"start")
        });
        lines.count()
    }

    fn daemon_json(&self) -> String {
        fs::read_to_string(self.engine.settings_file()).expect("daemon.json")
    }
}

/// Twenty containers, one after the other, each of which sends with its first instruction.
fn the_first_packet_has_the_address(engine: EngineKind) -> Result<()> {
    let stage = Stage::new("first", engine)?;
    stage.install(PATIENT);
    for number in 0..20 {
        let name = format!("first-{number}");
        let spec = ContainerSpec::new(&name).label("sortie.egress", EGRESS);
        first_packets(&stage, &spec, ["203.0.113.11", "2001:db8:113::11"])?.remove()?;
    }
    // The same for whom a policy selects, on a network that did not exist a moment ago.
    let applied = stage.apply(
        "apiVersion: sortie.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: mail}\nspec:\n  \
         workloads:\n  - containers: {names: [mail]}\n  action: Egress\n  egress: {addresses: \
         [203.0.113.12, \"2001:db8:113::12\"]}\n",
    )?;
    assert_eq!(applied.code(), 0, "{}", applied.stderr);
    stage.network("new", 1, &[])?;
    let mail = ContainerSpec::new("mail").network("new");
    first_packets(&stage, &mail, ["203.0.113.12", "2001:db8:113::12"])?;
    // And nothing for whom nobody selects.
    let other = ContainerSpec::new("other").network("new");
    first_packets(&stage, &other, [HOST_V4, HOST_V6])?;
    Ok(())
}

/// Starts a container whose first instructions send UDP and TCP, and checks every frame of it.
fn first_packets(stage: &Stage, spec: &ContainerSpec, sources: [&str; 2]) -> Result<Container> {
    let to = stage.lab.destination()?;
    let mark = stage.lab.mark()?;
    let container = stage
        .engine
        .run(&spec.clone().command(&["sh", "-c", &sends(to)]))?;
    only_left_with(stage, &mark, to, sources)?;
    Ok(container)
}

/// UDP and TCP of both families, from the first instruction on.
fn sends(to: Destination) -> String {
    let Destination { v4, v6 } = to;
    let again = |program: String| {
        format!("while :; do {program} </dev/null >/dev/null 2>&1; usleep 20000; done")
    };
    let send = [
        again(format!("nslookup a {v4}")),
        again(format!("nslookup a {v6}")),
        again(format!("nc -w 1 {v4} 7")),
        again(format!("nc -w 1 {v6} 7")),
    ];
    send.join(" & ")
}

/// Waits until each of these has left, and checks the source of every frame since the mark.
fn only_left_with(stage: &Stage, mark: &Mark, to: Destination, [v4, v6]: [&str; 2]) -> Result<()> {
    for (to, source) in [(to.v4, v4), (to.v6, v6)] {
        for udp in [false, true] {
            eventually(LIMIT, &format!("{to} is sent to"), || {
                let frames = stage.lab.frames_since(mark).map_err(|it| it.to_string())?;
                let mut packets = frames.iter().filter_map(|(_, frame)| frame.left());
                let is_it = |packet: &sortie_lab::frame::Packet| {
                    packet.destination == to
                        && matches!(packet.transport, sortie_lab::frame::Transport::Udp { .. })
                            == udp
                };
                packets
                    .any(is_it)
                    .then_some(())
                    .ok_or_else(|| "nothing".to_owned())
            })?;
        }
        stage.lab.expect_only_sources(mark, to, &[ip(source)])?;
    }
    Ok(())
}

/// The engine starts its containers of before while it answers nobody, and the agent comes
/// seconds later: they wait for it, nobody for the engine.
fn containers_of_before_wait_for_the_agent(engine: EngineKind) -> Result<()> {
    let mut stage = Stage::new("before", engine)?;
    stage.install(PATIENT);
    stage.network(
        "shop",
        1,
        &[("sortie.egress", "203.0.113.12,2001:db8:113::12")],
    )?;
    let web = Sender::labelled(&stage, ContainerSpec::new("web").always(), 11)?;
    let by_network = ContainerSpec::new("mail").network("shop").always();
    let sources = ["203.0.113.12", "2001:db8:113::12"].map(ip);
    let mail = Sender::with_sources(&stage, &by_network, sources[0], sources[1])?;
    let all = [web, mail];
    for sender in &all {
        sender.arrives(&stage)?;
    }
    // With the agent there.
    stage.engine.restart()?;
    for sender in &all {
        sender.arrives(&stage)?;
    }
    stage.engine.stop()?;
    stage.kill_agent()?;
    let engine = stage.engine.clone();
    thread::scope(|scope| {
        let starts = scope.spawn(|| engine.resume());
        eventually(LIMIT, "two containers wait", || match stage.waiting() {
            2 => Ok(()),
            other => Err(format!("{other} wait")),
        })?;
        stage.start_agent("")?;
        starts.join().expect("no panic")
    })?;
    for sender in &all {
        sender.arrives(&stage)?;
        sender.never_otherwise(&stage)?;
    }
    Ok(())
}

/// Without an agent: whom something selects is not started, unless it allows the host's address;
/// for all others nothing changes.
fn without_an_agent_only_the_selected_do_not_start(engine: EngineKind) -> Result<()> {
    let mut stage = Stage::new("away", engine)?;
    stage.install(IMPATIENT);
    stage.network("closed", 1, &[("sortie.guard", "true")])?;
    let noted = stage.folder().join("state/networks.json");
    eventually(LIMIT, "the agent knows the network", || {
        let text = fs::read_to_string(&noted).unwrap_or_default();
        if text.contains("closed") {
            Ok(())
        } else {
            Err(text)
        }
    })?;
    stage.kill_agent()?;
    let web = ContainerSpec::new("web").label("sortie.egress", EGRESS);
    let web = stage.engine.create(&web)?;
    let error = web.start().expect_err("nobody decides").to_string();
    for part in ["sortie does not start web", "label:web", "no agent answers"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let closed = stage
        .engine
        .create(&ContainerSpec::new("closed").network("closed"))?;
    let error = closed.start().expect_err("guarded").to_string();
    assert!(error.contains("network closed is guarded"), "{error}");

    first_packets(&stage, &ContainerSpec::new("other"), [HOST_V4, HOST_V6])?;
    let allows = ContainerSpec::new("allows")
        .label("sortie.egress", EGRESS)
        .label("sortie.egress.on-unavailable", "node-address");
    first_packets(&stage, &allows, [HOST_V4, HOST_V6])?;

    stage.start_agent("")?;
    stage.install(PATIENT);
    web.start()?;
    stage.wait_for("web", "Ready")
}

/// An agent that hangs is as one that is away, once the time is up.
fn a_hanging_agent_is_waited_for_in_vain(engine: EngineKind) -> Result<()> {
    let stage = Stage::new("hangs", engine)?;
    stage.install(IMPATIENT);
    let worker = stage.worker_pid();
    stage.signal("-STOP", worker)?;
    let web = ContainerSpec::new("web").label("sortie.egress", EGRESS);
    let web = stage.engine.create(&web)?;
    let error = web.start().expect_err("nobody decides").to_string();
    assert!(error.contains("does not answer"), "{error}");
    first_packets(&stage, &ContainerSpec::new("other"), [HOST_V4, HOST_V6])?;
    stage.signal("-CONT", worker)?;
    stage.install(PATIENT);
    web.start()?;
    stage.wait_for("web", "Ready")
}

/// The IP of a managed container goes to one that nobody selects.
fn a_recycled_ip_inherits_nothing(engine: EngineKind) -> Result<()> {
    let stage = Stage::new("recycled", engine)?;
    stage.install(PATIENT);
    stage.network("shop", 1, &[])?;
    let web = ContainerSpec::new("web").network("shop");
    let web = Sender::labelled(&stage, web, 11)?;
    web.arrives(&stage)?;
    let v4 = web.container.address("shop", false)?.to_string();
    let v6 = web.container.address("shop", true)?.to_string();
    web.never_otherwise(&stage)?;
    web.container.remove()?;
    let heir = ContainerSpec::new("heir").network("shop");
    let heir = heir.address(&v4).address(&v6);
    let heir = Sender::with_sources(&stage, &heir, ip(HOST_V4), ip(HOST_V6))?;
    heir.arrives(&stage)?;
    heir.never_otherwise(&stage)?;
    heir.container.remove()?;
    let again = ContainerSpec::new("again").network("shop");
    let again = again.address(&v4).address(&v6);
    let again = Sender::labelled(&stage, again, 12)?;
    again.arrives(&stage)?;
    again.never_otherwise(&stage)
}

/// In, twice, and out, with a container that runs all the while, and one that is stopped.
fn uninstall_leaves_what_containers_need(engine: EngineKind) -> Result<()> {
    let stage = Stage::new("out", engine)?;
    let found = stage.daemon_json();
    let old = stage.engine.run(&ContainerSpec::new("old"))?;
    let told = stage.with_runtime("install", &["--dry-run"]);
    assert!(told.contains("\"default-runtime\": \"sortie\""), "{told}");
    assert_eq!(stage.daemon_json(), found, "a dry run changes nothing");
    let told = stage.install(PATIENT);
    assert!(told.contains("  old\n"), "{told}");
    let installed = stage.daemon_json();
    let again = stage.install(PATIENT);
    assert!(again.contains("is as it should be"), "{again}");
    assert_eq!(stage.daemon_json(), installed);
    assert_eq!(old.exec(&["true"])?.code, 0, "it goes on");
    old.remove()?;

    let web = stage.labelled("web", EGRESS)?;
    let told = stage.with_runtime("uninstall", &[]);
    assert!(told.contains("  web\n"), "{told}");
    assert_eq!(web.exec(&["true"])?.code, 0, "its runtime is still there");
    web.restart()?;
    stage.wait_for("web", "Ready")?;
    let next = stage.engine.run(&ContainerSpec::new("next"))?;
    let runtime = next.inspect()?.host_config.and_then(|host| host.runtime);
    assert_eq!(runtime.as_deref(), Some("runc"));
    web.remove()?;
    stage.with_runtime("uninstall", &[]);
    assert_eq!(stage.daemon_json(), found);
    assert!(!stage.folder().join("state/docker").exists());
    stage.engine.restart()?;
    next.start()
}

on_both_dockers!(
    the_first_packet_has_the_address,
    containers_of_before_wait_for_the_agent,
    without_an_agent_only_the_selected_do_not_start,
    uninstall_leaves_what_containers_need,
);

#[test]
fn hanging() -> Result<()> {
    a_hanging_agent_is_waited_for_in_vain(DOCKER_29_NFTABLES)
}

#[test]
fn recycled() -> Result<()> {
    a_recycled_ip_inherits_nothing(DOCKER_20)
}

/// What became of the runtime since it was installed is found by name, and mended by the line.
#[test]
fn the_doctor_looks_at_it() -> Result<()> {
    let stage = Stage::new("runtime-doctor", DOCKER_20)?;
    let folder = stage.folder().join("state/docker");
    let found = |name: &str| -> Result<Option<String>> {
        let socket = stage.engine.socket().display().to_string();
        let notes = stage.folder().join("state").display().to_string();
        let findings = stage.json(&["doctor", "--docker", &socket, "--state", &notes])?;
        let mut findings = findings.as_array().into_iter().flatten();
        let finding = findings.find(|finding| finding["name"] == name);
        Ok(finding.map(|finding| finding["object"].as_str().unwrap_or_default().to_owned()))
    };
    let link = folder.join("sortie-runtime");
    let path = Some(link.display().to_string());
    stage.engine.run(&ContainerSpec::new("old"))?;
    assert_eq!(found("runtime-unused")?, None, "it is not installed");
    stage.install(PATIENT);
    assert_eq!(found("runtime-unused")?.as_deref(), Some("old"));

    for target in [None, Some("/no/such/program"), Some("/bin/true")] {
        fs::remove_file(&link).expect("the link");
        if let Some(target) = target {
            std::os::unix::fs::symlink(target, &link).expect("a link");
        }
        let name = match target {
            Some("/bin/true") => "runtime-another",
            _ => "runtime-broken",
        };
        assert_eq!(found(name)?, path, "{target:?}");
        stage.install(PATIENT);
        assert_eq!(found(name)?, None, "{target:?}");
    }

    let text = stage.daemon_json();
    let changed = text.replace(
        "\"default-runtime\": \"sortie\"",
        "\"default-runtime\": \"runc\"",
    );
    assert_ne!(changed, text);
    fs::write(stage.engine.settings_file(), changed).expect("daemon.json");
    stage.engine.signal(nix::sys::signal::Signal::SIGHUP)?;
    eventually(LIMIT, "the other default is found", || {
        match found("runtime-not-default").map_err(|error| error.to_string())? {
            Some(object) if object == "runc" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    stage.install(PATIENT);
    assert_eq!(found("runtime-not-default")?, None);
    Ok(())
}

/// What the daemon would not survive, or is somebody else's, is refused, and nothing changes.
#[test]
fn install_refuses_what_it_must_not_touch() -> Result<()> {
    let stage = Stage::without_agent("refused", DOCKER_20)?;
    let found = stage.daemon_json();
    let refused = || {
        let socket = stage.engine.socket().display().to_string();
        let folder = stage.folder().join("state").display().to_string();
        let words = ["install", "docker", "--docker", &socket, "--state", &folder];
        let error = stage.refused(&words);
        assert!(!stage.folder().join("state").exists(), "{error}");
        error
    };
    for (text, why) in [
        (
            found.trim_end().trim_end_matches('}').to_owned(),
            "JSON object",
        ),
        (
            found.replacen('{', "{\"runtimes\": {\"sortie\": {\"path\": \"/x\"}},", 1),
            "the path /x",
        ),
    ] {
        fs::write(stage.engine.settings_file(), &text).expect("daemon.json");
        let error = refused();
        assert!(error.contains(why), "{error}");
        assert_eq!(stage.daemon_json(), text);
    }
    Ok(())
}

/// A daemon with the flag would refuse the file at its next start.
#[test]
fn install_refuses_a_daemon_with_the_flag() -> Result<()> {
    let lab = sortie_lab::Lab::new("flag")?;
    let host = lab.host(&sortie_lab::HostSpec::new("h1"))?;
    let spec = EngineSpec::new(DOCKER_20).flag("--default-runtime=runc");
    let engine = Engine::start(&host, &spec)?;
    let mut command = crate::stage::sortie();
    command.args(["install", "docker", "--docker"]);
    command.arg(engine.socket());
    command.arg("--state").arg(host.folder().join("state"));
    let error = crate::stage::refusal(&host.run(LIMIT, command)?);
    assert!(error.contains("--default-runtime"), "{error}");
    Ok(())
}
