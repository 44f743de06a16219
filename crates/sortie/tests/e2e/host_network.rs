//! Containers in the host's network namespace: known by their cgroup, from their first packet on, and
//! nobody else of the host with them.

use std::io::Read as _;
use std::net::{IpAddr, TcpStream};

use sortie_lab::frame::Transport;
use sortie_lab::{
    ALL_TRAFFIC, Container, ContainerSpec, Destination, EngineKind, Mark, NetworkSpec, Place as _,
    Result, Traffic, eventually,
};

use crate::stage::{DOCKER_20, DOCKER_29_NFTABLES, HOST_V4, HOST_V6, LIMIT, PODMAN, Stage, ip};

const EGRESS: [&str; 2] = ["203.0.113.11", "2001:db8:113::11"];
const OTHER: [&str; 2] = ["203.0.113.12", "2001:db8:113::12"];
const HOST: [&str; 2] = [HOST_V4, HOST_V6];
/// Long: no test waits for it.
const PATIENT: &str = "60";

/// New flows of every protocol and family, from the first instruction, without end.
fn program(to: Destination) -> String {
    let Destination { v4, v6 } = to;
    let again = |program: String| {
        format!("while :; do {program} </dev/null >/dev/null 2>&1; usleep 20000; done")
    };
    let each = |to: IpAddr| {
        [
            format!("ping -c 1 -W 1 {to}"),
            // A connection that ended while it had nothing to say would be waited for without end.
            format!("timeout 2 nc -w 1 {to} 7"),
            format!("nslookup a {to}"),
        ]
    };
    let all = each(v4).into_iter().chain(each(v6)).map(again);
    all.collect::<Vec<_>>().join(" & ")
}

/// A container on the host's network that sends from its first instruction.
struct Sender {
    container: Container,
    to: Destination,
    beginning: Mark,
}

impl Sender {
    fn run(stage: &Stage, spec: &ContainerSpec) -> Result<Self> {
        let to = stage.lab.destination()?;
        let beginning = stage.lab.mark()?;
        let spec = spec.clone().command(&["sh", "-c", &program(to)]);
        Ok(Self {
            container: stage.engine.run(&spec)?,
            to,
            beginning,
        })
    }

    /// From now on everything arrives with these sources.
    fn arrives(&self, stage: &Stage, sources: [&str; 2]) -> Result<()> {
        arrives(stage, &stage.lab.mark()?, self.to, sources)
    }

    /// No frame since its beginning had another source.
    fn never_otherwise(&self, stage: &Stage, sources: [&str; 2]) -> Result<()> {
        stage.lab.fence()?;
        for (to, source) in [(self.to.v4, sources[0]), (self.to.v6, sources[1])] {
            stage
                .lab
                .expect_only_sources(&self.beginning, to, &[ip(source)])?;
        }
        Ok(())
    }
}

/// A container on the host's network.
fn on_host(name: &str) -> ContainerSpec {
    // Podman gives no container the right to `ping`, and the host's setting allows nobody.
    ContainerSpec::new(name)
        .network("host")
        .capability("NET_RAW")
}

fn labelled(name: &str) -> ContainerSpec {
    on_host(name).label("sortie.egress", &EGRESS.join(","))
}

/// Waits until packets of every protocol and family have left for a destination since a mark, each
/// family's with its source.
fn arrives(stage: &Stage, mark: &Mark, to: Destination, sources: [&str; 2]) -> Result<()> {
    for (to, source) in [(to.v4, sources[0]), (to.v6, sources[1])] {
        for traffic in [Traffic::Ping, Traffic::Tcp(7), Traffic::Udp(53)] {
            let what = format!("{to} sees {source} with {traffic}");
            eventually(LIMIT, &what, || {
                let frames = stage.lab.frames_since(mark).map_err(|it| it.to_string())?;
                let mut packets = frames.iter().filter_map(|(_, frame)| frame.left());
                let found = packets.any(|packet| {
                    let kind = match &packet.transport {
                        Transport::Tcp { .. } => matches!(traffic, Traffic::Tcp(_)),
                        Transport::Udp { .. } => matches!(traffic, Traffic::Udp(_)),
                        _ => packet.is_echo_request() && matches!(traffic, Traffic::Ping),
                    };
                    kind && (packet.destination, packet.source) == (to, ip(source))
                });
                let status = || format!("{:?}", stage.run(&["status", "--all"]));
                found.then_some(()).ok_or_else(status)
            })?;
        }
    }
    Ok(())
}

/// What `docker exec` starts leaves as its container does; each protocol once.
fn execs(stage: &Stage, container: &Container, sources: [&str; 2]) -> Result<()> {
    let to = stage.lab.destination()?;
    executed(stage, container, to, sources)
}

/// The same to a certain destination.
pub(crate) fn executed(
    stage: &Stage,
    container: &Container,
    to: Destination,
    sources: [&str; 2],
) -> Result<()> {
    let mark = stage.lab.mark()?;
    for to in [to.v4, to.v6] {
        let script =
            format!("ping -c 1 -W 5 {to}; echo | timeout 10 nc -w 5 {to} 7; nslookup a {to}");
        container.exec(&["sh", "-c", &script])?;
    }
    arrives(stage, &mark, to, sources)?;
    stage.lab.fence()?;
    for (to, source) in [(to.v4, sources[0]), (to.v6, sources[1])] {
        stage.lab.expect_only_sources(&mark, to, &[ip(source)])?;
    }
    Ok(())
}

/// The host's own processes.
fn host_is_itself(stage: &Stage) -> Result<()> {
    let to = stage.lab.destination()?;
    for (to, source) in [(to.v4, HOST_V4), (to.v6, HOST_V6)] {
        for traffic in ALL_TRAFFIC {
            stage
                .lab
                .expect_source(&stage.host, traffic, to, ip(source))?;
        }
    }
    Ok(())
}

/// By label, from the first packet on; what is executed in it, and who shares its namespace with a
/// label of its own; beside them another one that nobody selects, and the host itself. Restarted,
/// and without the agent, nothing changes.
fn a_container_on_the_hosts_network(engine: EngineKind) -> Result<()> {
    let mut stage = Stage::new("on-host", engine)?;
    stage.install(PATIENT);
    let other = Sender::run(&stage, &on_host("other"))?;
    let web = Sender::run(&stage, &labelled("web"))?;
    let sharer = ContainerSpec::new("sharer")
        .network("container:web")
        .capability("NET_RAW");
    let sharer = sharer.label("sortie.egress", &OTHER.join(","));
    let sharer = Sender::run(&stage, &sharer)?;
    web.arrives(&stage, EGRESS)?;
    other.arrives(&stage, HOST)?;
    sharer.arrives(&stage, OTHER)?;
    execs(&stage, &web.container, EGRESS)?;
    execs(&stage, &other.container, HOST)?;
    host_is_itself(&stage)?;
    stage.wait_for("web", "Ready")?;
    stage.wait_for("sharer", "Ready")?;
    stage.wait_for("other", "Unmanaged")?;

    let bypass = ["bypass", "web", "--for", "1m", "--reason", "a test"];
    let error = stage.refused(&bypass);
    assert!(error.contains("action: Bypass"), "{error}");
    web.container.restart()?;
    web.arrives(&stage, EGRESS)?;
    stage.kill_agent()?;
    web.arrives(&stage, EGRESS)?;
    execs(&stage, &web.container, EGRESS)?;
    stage.start_agent("")?;
    stage.wait_for("web", "Ready")?;
    web.arrives(&stage, EGRESS)?;
    for (sender, sources) in [(&web, EGRESS), (&sharer, OTHER), (&other, HOST)] {
        sender.never_otherwise(&stage, sources)?;
    }
    sharer.container.remove()?;
    web.container.remove()?;
    other.arrives(&stage, HOST)?;
    host_is_itself(&stage)
}

on_both_dockers!(a_container_on_the_hosts_network);

#[test]
fn podmans_container_on_the_hosts_network() -> Result<()> {
    a_container_on_the_hosts_network(PODMAN)
}

const TO_THE_BANK: &str = "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: bank}
spec:
  workloads:
  - containers: {names: [job]}
  destinations:
  - {name: bank, cidrs: [BANK4/32, BANK6/128]}
  action: Egress
  egress: {addresses: [203.0.113.12, \"2001:db8:113::12\"]}
";

/// Without the runtime, and by policies that come while it runs: flows of before do not go on, other
/// destinations and the host are not touched; with another address of the policy everything has that
/// one at once; without a policy everything is as it was.
#[test]
fn policies_come_and_go() -> Result<()> {
    let stage = Stage::new("on-host-policy", DOCKER_29_NFTABLES)?;
    let bank = stage.lab.destination()?;
    // One old flow of each kind, as well as new ones.
    let again = |program: String| {
        format!("while :; do {program} </dev/null >/dev/null 2>&1; usleep 20000; done")
    };
    let old = |to: IpAddr| {
        format!(
            "{} & {}",
            again(format!("ping -i 0.1 {to}")),
            again(format!(
                "sh -c 'while sleep 0.1; do echo x; done' | nc -u {to} 53"
            ))
        )
    };
    let script = [program(bank), old(bank.v4), old(bank.v6)].join(" & ");
    let job = on_host("job").command(&["sh", "-c", &script]);
    let job = stage.engine.run(&job)?;
    stage.wait_for("job", "Unmanaged")?;
    arrives(&stage, &stage.lab.mark()?, bank, HOST)?;

    let policy = TO_THE_BANK
        .replace("BANK4", &bank.v4.to_string())
        .replace("BANK6", &bank.v6.to_string());
    let other_address = policy
        .replace("203.0.113.12", EGRESS[0])
        .replace("2001:db8:113::12", EGRESS[1]);
    for (policy, sources) in [(&policy, OTHER), (&other_address, EGRESS)] {
        let applied = stage.apply(policy)?;
        assert_eq!(applied.code(), 0, "{}", applied.stderr);
        stage.lab.fence()?;
        let mark = stage.lab.mark()?;
        arrives(&stage, &mark, bank, sources)?;
        execs(&stage, &job, HOST)?;
        executed(&stage, &job, bank, sources)?;
        host_is_itself(&stage)?;
        // The old flows begin anew, each with the right source.
        for (to, source) in [(bank.v4, sources[0]), (bank.v6, sources[1])] {
            let what = format!("old flows to {to} go on");
            let mark = stage.lab.mark()?;
            eventually(LIMIT, &what, || {
                let frames = stage.lab.frames_since(&mark).map_err(|it| it.to_string())?;
                let packets = frames.iter().filter_map(|(_, frame)| frame.left());
                let to_it = packets.filter(|packet| packet.destination == to);
                let echoes = to_it.clone().filter(|it| it.is_echo_request()).count();
                let lines = to_it.filter(|it| matches!(it.transport, Transport::Udp { .. }));
                if echoes > 20 && lines.count() > 20 {
                    Ok(())
                } else {
                    Err(format!("{:?}", stage.run(&["drops"])))
                }
            })?;
            stage.lab.expect_only_sources(&mark, to, &[ip(source)])?;
        }
        for (to, source) in [(bank.v4, sources[0]), (bank.v6, sources[1])] {
            stage.lab.expect_only_sources(&mark, to, &[ip(source)])?;
        }
    }
    let explained = stage.ok(&["explain", "job", &format!("{}:7", bank.v4)]);
    assert!(explained.contains(EGRESS[0]), "{explained}");

    stage.ok(&["delete", "bank"]);
    stage.lab.fence()?;
    let mark = stage.lab.mark()?;
    arrives(&stage, &mark, bank, HOST)?;
    stage.lab.fence()?;
    for (to, source) in [(bank.v4, HOST[0]), (bank.v6, HOST[1])] {
        stage.lab.expect_only_sources(&mark, to, &[ip(source)])?;
    }
    Ok(())
}

/// The address leaves the host: nothing leaves, and `status` says why. The agent dies meanwhile, and
/// still nothing leaves. It comes back, and all is well.
#[test]
fn a_lost_address_closes() -> Result<()> {
    let mut stage = Stage::new("on-host-lost", DOCKER_20)?;
    stage.install(PATIENT);
    let web = Sender::run(&stage, &labelled("web"))?;
    web.arrives(&stage, EGRESS)?;
    web.never_otherwise(&stage, EGRESS)?;
    for line in ["203.0.113.11/32", "2001:db8:113::11/128"] {
        stage.host.ip(&format!("addr del {line} dev up0"))?;
    }
    stage.lab.fence()?;
    let lost = stage.lab.mark()?;
    stage.wait_for("web", "Blocked")?;
    web.container
        .exec(&["ping", "-c", "1", "-W", "1", &web.to.v4.to_string()])?;
    stage.kill_agent()?;
    web.container
        .exec(&["ping", "-c", "1", "-W", "1", &web.to.v6.to_string()])?;
    stage.lab.fence()?;
    for to in [web.to.v4, web.to.v6] {
        stage.lab.expect_only_sources(&lost, to, &[])?;
    }
    host_is_itself(&stage)?;
    stage.start_agent("")?;
    let status = stage.run(&["status"])?;
    assert_eq!(status.code(), 1);
    assert!(status.stdout.contains("203.0.113.11"), "{}", status.stdout);
    stage.host.ip("addr add 203.0.113.11/32 dev up0")?;
    stage
        .host
        .ip("addr add 2001:db8:113::11/128 dev up0 preferred_lft 0 nodad")?;
    stage.wait_for("web", "Ready")?;
    web.arrives(&stage, EGRESS)?;
    web.never_otherwise(&stage, EGRESS)
}

/// What the kernel still sends for sockets of one that has ended does not leave with the host's
/// address: here the end of a connection, which could not leave while the container was there.
#[test]
fn nothing_of_one_that_has_ended_leaves() -> Result<()> {
    let stage = Stage::new("on-host-ended", DOCKER_29_NFTABLES)?;
    stage.install(PATIENT);
    let to = stage.lab.destination()?;
    let mark = stage.lab.mark()?;
    // Each holds a connection until it is killed.
    let hold = |to: IpAddr| format!("sleep 1000 | nc {to} 7");
    let script = format!("{} & {}", hold(to.v4), hold(to.v6));
    let web = labelled("web").command(&["sh", "-c", &script]);
    let web = stage.engine.run(&web)?;
    for (to, source) in [(to.v4, EGRESS[0]), (to.v6, EGRESS[1])] {
        eventually(LIMIT, &format!("{to} is connected"), || {
            let frames = stage.lab.frames_since(&mark).map_err(|it| it.to_string())?;
            let mut packets = frames.iter().filter_map(|(_, frame)| frame.left());
            let acknowledged = packets.any(|packet| {
                let acknowledges = matches!(packet.transport, Transport::Tcp { flags: 16, .. });
                acknowledges && (packet.destination, packet.source) == (to, ip(source))
            });
            acknowledged.then_some(()).ok_or("no connection".to_owned())
        })?;
    }
    for line in ["203.0.113.11/32", "2001:db8:113::11/128"] {
        stage.host.ip(&format!("addr del {line} dev up0"))?;
    }
    stage.wait_for("web", "Blocked")?;
    stage.lab.fence()?;
    let mark = stage.lab.mark()?;
    web.remove()?;
    for to in [to.v4, to.v6] {
        eventually(LIMIT, &format!("the end for {to} is dropped"), || {
            let drops = stage.ok(&["drops"]);
            let to = to.to_string();
            let dropped = |line: &str| line.contains("untracked") && line.contains(&to);
            let found = drops.lines().any(dropped);
            found.then_some(()).ok_or(drops)
        })?;
    }
    stage.lab.fence()?;
    for to in [to.v4, to.v6] {
        stage.lab.expect_only_sources(&mark, to, &[])?;
    }
    host_is_itself(&stage)
}

/// While nobody can decide, whom something selects is not started, unless it allows the host's
/// address; others start.
#[test]
fn without_an_agent_the_selected_do_not_start() -> Result<()> {
    let mut stage = Stage::new("on-host-away", DOCKER_20)?;
    stage.install("1");
    stage.kill_agent()?;
    let web = stage.engine.create(&labelled("web"))?;
    let error = web.start().expect_err("nobody decides").to_string();
    for part in ["sortie does not start web", "label:web"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let allows = labelled("allows").label("sortie.egress.on-unavailable", "node-address");
    let allows = stage.engine.run(&allows)?;
    execs(&stage, &allows, HOST)?;
    let other = stage.engine.run(&on_host("other"))?;
    execs(&stage, &other, HOST)?;
    stage.start_agent("")?;
    stage.install(PATIENT);
    web.start()?;
    execs(&stage, &web, EGRESS)?;
    stage.wait_for("allows", "Ready")?;
    execs(&stage, &allows, EGRESS)?;
    execs(&stage, &other, HOST)
}

/// An agent that is killed while a start waits for it: its successor decides.
#[test]
fn a_start_waits_for_the_next_agent() -> Result<()> {
    let mut stage = Stage::new("on-host-waits", DOCKER_20)?;
    stage.install(PATIENT);
    let worker = stage.worker_pid();
    stage.signal("-STOP", worker)?;
    let to = stage.lab.destination()?;
    let mark = stage.lab.mark()?;
    let spec = labelled("web").command(&["sh", "-c", &program(to)]);
    let web = stage.engine.create(&spec)?;
    std::thread::scope(|scope| {
        let start = scope.spawn(|| web.start());
        eventually(LIMIT, "the start waits", || match stage.waiting() {
            1 => Ok(()),
            other => Err(format!("{other} wait")),
        })?;
        stage.kill_agent_of(worker)?;
        stage.start_agent("")?;
        start.join().expect("no panic")
    })?;
    arrives(&stage, &mark, to, EGRESS)?;
    stage.lab.fence()?;
    for (to, source) in [(to.v4, EGRESS[0]), (to.v6, EGRESS[1])] {
        stage.lab.expect_only_sources(&mark, to, &[ip(source)])?;
    }
    Ok(())
}

/// An egress address on another uplink than the default route's: by that one, or not at all. Who
/// asks a server of the container is answered from where it asked.
#[test]
fn by_the_uplink_of_its_address() -> Result<()> {
    let mut stage = crate::uplinks::stage("on-host-uplinks", DOCKER_20)?;
    stage.start_agent("")?;
    stage.install(PATIENT);
    let second = ["192.0.2.12", "2001:db8:2::12"];
    let to = stage.lab.destination()?;
    let mark = stage.lab.mark()?;
    let script = format!("nc -ll -p 8088 -e echo hello & {}", program(to));
    let spec = on_host("web").label("sortie.egress", &second.join(","));
    stage.engine.run(&spec.command(&["sh", "-c", &script]))?;
    arrives(&stage, &mark, to, second)?;
    host_is_itself(&stage)?;
    let outside = stage.lab.internet().netns();
    for server in [
        "203.0.113.5:8088",
        "[2001:db8:113::5]:8088",
        "203.0.113.11:8088",
    ] {
        let hello = outside.run(|| {
            let mut text = String::new();
            let mut stream = TcpStream::connect(server)?;
            stream.set_read_timeout(Some(LIMIT))?;
            stream.read_to_string(&mut text).map(|_| text)
        })?;
        assert_eq!(hello.expect(server), "hello\n");
    }
    stage.lab.fence()?;
    for (label, frame) in stage.lab.frames_since(&mark)? {
        let packet = frame.left();
        if packet.is_some_and(|packet| [to.v4, to.v6].contains(&packet.destination)) {
            assert_eq!(label, "h1 up1", "{frame}");
        }
    }
    for (to, source) in [(to.v4, second[0]), (to.v6, second[1])] {
        stage.lab.expect_only_sources(&mark, to, &[ip(source)])?;
    }
    Ok(())
}

/// What cannot be managed is not started by the runtime, and is an error in `status` without it.
#[test]
fn what_cannot_be_managed_is_refused() -> Result<()> {
    let mut stage = Stage::without_agent("on-host-refused", DOCKER_20)?;
    stage.spawn_agent("", &["--failpoints", "probe:socket-cgroup=unsupported"])?;
    stage.wait_for_engine()?;
    let lan = NetworkSpec::new("lan")
        .macvlan("up0")
        .subnet("198.51.100.0/24");
    stage.engine.network(&lan)?;
    let wire = |name| {
        let spec = ContainerSpec::new(name).network("lan");
        spec.label("sortie.egress", EGRESS[0])
    };
    let all = [
        (
            labelled("web"),
            labelled("web-2"),
            "the kernel has no socket-cgroup",
        ),
        (wire("wire"), wire("wire-2"), "is a macvlan one"),
    ];
    for (spec, _, reason) in &all {
        let container = stage.engine.run(spec)?;
        stage.wait_for(container.name().as_str(), "Error")?;
        let status = stage.run(&["status"])?;
        assert_eq!(status.code(), 1);
        assert!(status.stdout.contains(reason), "{}", status.stdout);
    }
    stage.install(PATIENT);
    for (_, spec, reason) in &all {
        let container = stage.engine.create(spec)?;
        let error = container.start().expect_err("refused").to_string();
        assert!(error.contains("sortie does not start"), "{error}");
        assert!(error.contains(reason), "{error}");
    }
    host_is_itself(&stage)
}
