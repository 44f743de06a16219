//! The stream of changes against real engines, checked against what the kernel shows.

mod follower;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use follower::{Follower, Result, rename, try_to_start};
use serde_json::json;
use sortie_api::workload::{IfIndex, Workload};
use sortie_lab::{
    Container, ContainerSpec, Engine, EngineKind, EngineSpec, Firewall, Host, HostSpec, Lab,
    NetworkSpec, SOON, eventually_true,
};

const DOCKER_29: [EngineKind; 2] = [
    EngineKind::Docker29(Firewall::Nftables),
    EngineKind::Docker29(Firewall::Iptables),
];

#[test]
#[ignore = "a process that the other tests start inside of a host"]
fn prints_changes() -> Result<()> {
    follower::print_changes()
}

fn host(lab: &Lab) -> Result<Host> {
    Ok(lab.host(&HostSpec::new("h1"))?)
}

fn engine(host: &Host, kind: EngineKind) -> Result<Engine> {
    Ok(Engine::start(host, &EngineSpec::new(kind))?)
}

/// The number of the host's end of an interface, as the container's own kernel files have it.
fn port(container: &Container, interface: &str) -> Result<IfIndex> {
    let file = format!("/sys/class/net/{interface}/iflink");
    let printed = container.exec(&["cat", &file])?;
    Ok(IfIndex(printed.output.trim().parse()?))
}

/// With its containerd, which gets SIGKILL from the kernel when dockerd ends. An engine that is
/// started while the id in its file is still taken, be it by a zombie, waits for it in vain.
fn kill(engine: &Engine, host: &Host) -> Result<()> {
    let file = host.path("/run/docker/containerd/containerd.pid");
    let pid = std::fs::read_to_string(&file)?;
    let command_line = host.path(&format!("/proc/{}/cmdline", pid.trim()));
    engine.kill()?;
    eventually_true(SOON, "containerd ends", || {
        std::fs::read(&command_line).unwrap_or_default().is_empty()
    })?;
    Ok(std::fs::remove_file(file)?)
}

fn bridge(host: &Host, name: &str) -> Result<IfIndex> {
    let line = host.ip(&format!("-o link show {name}"))?;
    Ok(IfIndex(line.split(':').next().unwrap_or_default().parse()?))
}

/// The addresses of a workload on a network, once it is said to have them.
fn addresses(workload: &Workload, network: &str) -> Vec<IpAddr> {
    let mut endpoints = workload.endpoints.iter();
    let endpoint = endpoints.find(|endpoint| endpoint.network == network);
    endpoint.map(|it| it.addresses.clone()).unwrap_or_default()
}

fn follows(kind: EngineKind) -> Result<()> {
    let lab = Lab::new("follow")?;
    let host = host(&lab)?;
    let engine = engine(&host, kind)?;
    let before =
        engine.run(&ContainerSpec::new("before").label("sortie.egress", "203.0.113.11"))?;
    let mut follower = Follower::new(&host, &engine.socket())?;
    let seen = follower.running("before", |_| true)?;
    assert_eq!(seen.labels.get("sortie.egress"), Some("203.0.113.11"));
    assert_eq!(i64::from(seen.pid), before.pid()?);
    assert_eq!(seen.id.as_str(), format!("docker/{}", before.id()));
    let docker0 = bridge(&host, "docker0")?;
    assert_eq!(follower.networks["bridge"].bridge, Some(docker0));
    let endpoint = &seen.endpoints[0];
    assert_eq!(endpoint.network, "bridge");
    assert_eq!(endpoint.port, port(&before, "eth0")?);
    assert_eq!(endpoint.bridge, Some(docker0));
    assert_eq!(endpoint.mac.0, before.mac("bridge")?.0);
    assert!(
        endpoint
            .addresses
            .contains(&before.address("bridge", false)?)
    );
    assert!(
        endpoint
            .addresses
            .contains(&before.address("bridge", true)?)
    );

    // A network of one's own, with a label, and a container on it from the start.
    let front = NetworkSpec::new("front")
        .subnet("172.30.0.0/24")
        .subnet("fd00:30::/64");
    let front = front.label("sortie.egress", "203.0.113.12");
    let option = "com.docker.network.bridge.name";
    engine.network(&front.option(option, "front0"))?;
    let web = engine.run(
        &ContainerSpec::new("web")
            .network("front")
            .address("172.30.0.9"),
    )?;
    let seen = follower.running("web", |it| it.pid != 0)?;
    let network = &follower.networks["front"];
    assert_eq!(network.labels["sortie.egress"], "203.0.113.12");
    assert_eq!(network.bridge, Some(bridge(&host, "front0")?));
    let subnets: Vec<String> = network.subnets.iter().map(ToString::to_string).collect();
    assert_eq!(subnets, ["172.30.0.0/24", "fd00:30::/64"]);
    assert_eq!(seen.endpoints.len(), 1);
    assert_eq!(seen.endpoints[0].bridge, network.bridge);
    assert_eq!(
        addresses(&seen, "front"),
        [web.address("front", false)?, web.address("front", true)?]
    );

    // Connected to another one, and disconnected from the first.
    engine.connect("bridge", &web, &[])?;
    let both = follower.running("web", |it| it.endpoints.len() == 2)?;
    assert_eq!(both.endpoints[0].port, port(&web, "eth1")?);
    assert_eq!(both.endpoints[1].port, port(&web, "eth0")?);
    engine.disconnect("front", &web)?;
    let one = follower.running("web", |it| it.endpoints.len() == 1)?;
    assert_eq!(one.endpoints[0].network, "bridge");

    // Stopped, its address given to another container, and started again with a new one.
    let old = one.endpoints[0].clone();
    web.stop()?;
    follower.gone("web")?;
    let thief = engine.run(&ContainerSpec::new("thief"))?;
    let other = follower.running("thief", |it| it.pid != 0)?;
    assert_eq!(
        other.endpoints[0].addresses, old.addresses,
        "a recycled address"
    );
    assert_ne!(other.endpoints[0].port, old.port);
    web.start()?;
    let again = follower.running("web", |it| it.pid != 0)?;
    assert_ne!(again.endpoints[0].addresses, old.addresses);
    assert!(again.started > other.started);
    web.restart()?;
    let restarted = follower.running("web", |it| it.started > again.started && it.pid != 0)?;
    assert_eq!(restarted.endpoints[0].port, port(&web, "eth0")?);

    rename(&engine, "web", "shop")?;
    let renamed = follower.running("shop", |_| true)?;
    assert_eq!(renamed.id, restarted.id);
    web.remove()?;
    thief.remove()?;
    follower.gone("shop")?;
    engine.remove_network("front")?;
    follower.until("front is gone", |it| !it.networks.contains_key("front"))?;
    Ok(())
}

#[test]
fn docker_20_10() -> Result<()> {
    follows(EngineKind::Docker20)
}

#[test]
fn docker_29_nftables() -> Result<()> {
    follows(DOCKER_29[0])
}

#[test]
fn docker_29_iptables() -> Result<()> {
    follows(DOCKER_29[1])
}

/// An OCI runtime that starts no process while a file is not there.
fn gated(host: &Host, gate: &Path, kind: EngineKind) -> Result<Engine> {
    let runtime = host.folder().join("gated-runc");
    let script = format!(
        "#!/bin/sh\nfor word in \"$@\"; do\n  if [ \"$word\" = start ]; then\n    \
         while [ ! -e {} ]; do sleep 0.02; done\n  fi\ndone\nexec runc \"$@\"\n",
        gate.display()
    );
    // Another process writes it: a child that a test beside this one forks meanwhile would inherit
    // the open file, which nobody can execute (ETXTBSY).
    let written = Command::new("sh")
        .args(["-c", "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\""])
        .arg(&runtime)
        .arg(script)
        .status()?;
    assert!(written.success(), "a runtime");
    let runtimes = json!({"gated": {"path": runtime}});
    let spec = EngineSpec::new(kind).setting("runtimes", runtimes);
    Ok(Engine::start(host, &spec)?)
}

/// While its process waits, a container is told with all but the process.
fn known_before_it_runs(kind: EngineKind) -> Result<()> {
    let lab = Lab::new("early")?;
    let host = host(&lab)?;
    let gate = host.folder().join("gate");
    let engine = gated(&host, &gate, kind)?;
    let mut follower = Follower::new(&host, &engine.socket())?;
    follower.until("a snapshot", |it| it.networks.contains_key("bridge"))?;
    let spec = ContainerSpec::new("web").label("a", "b").runtime("gated");
    let web = engine.create(&spec)?;
    // The second start is without a `create` event.
    for _ in 0..2 {
        let early = std::thread::scope(|scope| -> Result<Workload> {
            let start = scope.spawn(|| web.start());
            let early = follower.running("web", |_| true);
            // Opened in any case, or the engine would wait for ever.
            std::fs::write(&gate, "")?;
            match start.join() {
                Ok(outcome) => outcome?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
            early
        })?;
        let late = follower.running("web", |it| it.pid != 0)?;
        assert_eq!(early.pid, 0);
        assert_eq!(early.labels.get("a"), Some("b"));
        // Where its default routes go is seen only inside.
        let known = |told: &Workload| {
            let mut endpoints = told.endpoints.clone();
            for endpoint in &mut endpoints {
                endpoint.default_route = sortie_api::workload::Families::default();
            }
            endpoints
        };
        assert_eq!(known(&early), known(&late));
        assert_eq!(late.endpoints[0].port, port(&web, "eth0")?);
        web.stop()?;
        follower.gone("web")?;
        std::fs::remove_file(&gate)?;
    }
    // A start that fails leaves nothing, whatever gets its address next.
    try_to_start(&engine, "broken", &["/nonexistent"])?;
    let _after = engine.run(&ContainerSpec::new("after"))?;
    follower.running("after", |it| it.pid != 0)?;
    follower.gone("broken")?;
    Ok(())
}

#[test]
fn docker_20_10_is_known_before_it_runs() -> Result<()> {
    known_before_it_runs(EngineKind::Docker20)
}

#[test]
fn docker_29_is_known_before_it_runs() -> Result<()> {
    known_before_it_runs(DOCKER_29[0])
}

#[test]
fn what_cannot_be_managed_says_why() -> Result<()> {
    let lab = Lab::new("unmanaged")?;
    let host = host(&lab)?;
    let engine = engine(&host, EngineKind::Docker20)?;
    let mut follower = Follower::new(&host, &engine.socket())?;
    follower::macvlan(&engine, "lan", "docker0")?;
    let spec = |name: &str, network: &str| ContainerSpec::new(name).network(network);
    let _owner = engine.run(&ContainerSpec::new("owner").label("sortie.egress", "203.0.113.11"))?;
    let _side = engine.run(&spec("side", "container:owner"))?;
    let wrong = spec("wrong", "container:owner").label("sortie.egress", "203.0.113.12");
    let _wrong = engine.run(&wrong)?;
    let _all = engine.run(&spec("all", "host"))?;
    let _none = engine.run(&spec("nothing", "none"))?;
    let _lan = engine.run(&spec("wire", "lan"))?;
    for (name, words) in [
        ("side", "shares the network namespace of owner"),
        ("wrong", "sortie.egress=203.0.113.12 differs"),
        ("wire", "eth0 is a macvlan one"),
    ] {
        let workload = follower.running(name, |it| it.pid != 0)?;
        assert_eq!(workload.endpoints, [], "{name}");
        let reason = workload.unmanageable.unwrap_or_default();
        assert!(reason.contains(words), "{name}: {reason}");
    }
    let all = follower.running("all", |it| it.pid != 0)?;
    assert_eq!((all.endpoints, all.unmanageable), (vec![], None));
    assert!(all.cgroup.is_some(), "known by its cgroup");
    let nothing = follower.running("nothing", |_| true)?;
    assert_eq!((nothing.endpoints, nothing.unmanageable), (vec![], None));

    // A neighbour's address, taken by a container with the right to, is not its own.
    let greedy = engine.run(&ContainerSpec::new("greedy").capability("NET_ADMIN"))?;
    let honest = follower.running("greedy", |it| it.pid != 0)?;
    greedy.exec(&["ip", "addr", "add", "172.17.0.2/16", "dev", "eth0"])?;
    greedy.exec(&[
        "ip", "link", "add", "eth7", "type", "veth", "peer", "name", "eth8",
    ])?;
    // The survey after the next change reads its namespace again. The one after the second
    // change is begun later than the first one's end.
    for name in ["next", "last"] {
        let container = engine.run(&ContainerSpec::new(name))?;
        follower.running(name, |it| it.pid != 0)?;
        container.remove()?;
        follower.gone(name)?;
    }
    greedy.exec(&["ip", "link", "set", "eth0", "address", "02:00:00:00:00:77"])?;
    let changed = follower.running("greedy", |it| {
        it.endpoints[0].mac != honest.endpoints[0].mac
    })?;
    assert_eq!(changed.endpoints[0].port, honest.endpoints[0].port);
    assert_eq!(
        changed.endpoints[0].addresses,
        honest.endpoints[0].addresses
    );
    Ok(())
}

#[test]
fn sixty_containers_at_once_are_all_known() -> Result<()> {
    let lab = Lab::new("burst")?;
    let host = host(&lab)?;
    let engine = engine(&host, EngineKind::Docker20)?;
    let mut follower = Follower::new(&host, &engine.socket())?;
    // The first one makes the image.
    engine.run(&ContainerSpec::new("first"))?.remove()?;
    let names: Vec<String> = (0..60).map(|number| format!("b{number}")).collect();
    std::thread::scope(|scope| {
        let parts = names.chunks(10).map(|part| {
            let engine = &engine;
            scope.spawn(move || -> std::result::Result<(), sortie_lab::LabError> {
                for name in part {
                    engine.run(&ContainerSpec::new(name))?;
                }
                Ok(())
            })
        });
        let parts: Vec<_> = parts.collect();
        parts.into_iter().try_for_each(|part| match part.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    let all = |it: &Follower| {
        let running = |name: &String| it.workload(name).is_some_and(|it| it.pid != 0);
        names.iter().all(running)
    };
    follower.until("60 containers", all)?;
    let mut ports: Vec<IfIndex> = follower
        .workloads
        .values()
        .flat_map(|it| it.endpoints.iter().map(|endpoint| endpoint.port))
        .collect();
    ports.sort();
    ports.dedup();
    assert_eq!(ports.len(), 60);
    Ok(())
}

#[test]
fn an_engine_that_is_away_comes_back() -> Result<()> {
    let lab = Lab::new("away")?;
    let host = host(&lab)?;
    let socket = lab.folder().join("nothing.sock");
    let mut follower = Follower::new(&host, &socket)?;
    let reason = follower.away()?;
    assert!(reason.contains("there is no socket at"), "{reason}");
    assert!(reason.contains("start Docker"), "{reason}");

    // It comes after all, under the name that was waited for.
    let engine = engine(&host, EngineKind::Docker20)?;
    let web = engine.run(&ContainerSpec::new("web"))?;
    std::os::unix::fs::symlink(engine.socket(), &socket)?;
    let first = follower.running("web", |_| true)?;

    kill(&engine, &host)?;
    let reason = follower.away()?;
    assert!(reason.contains("it stopped or restarts"), "{reason}");
    assert_eq!(
        follower.workload("web"),
        Some(&first),
        "what was said stays"
    );
    engine.resume()?;
    follower.until("a snapshot after the kill", |it| !it.is_away())?;
    // Without live-restore the new engine ends what the old one left.
    follower.gone("web")?;
    web.start()?;
    let second = follower.running("web", |it| it.pid != 0)?;
    assert_ne!(second.endpoints[0].port, first.endpoints[0].port);
    engine.restart()?;
    follower.until("a snapshot after the restart", |it| {
        !it.is_away() && it.workload("web").is_none()
    })?;
    Ok(())
}

#[test]
fn what_is_no_engine_is_told_apart() -> Result<()> {
    let lab = Lab::new("wrong")?;
    let host = host(&lab)?;
    let file = lab.folder().join("file");
    std::fs::write(&file, "")?;
    let dead = lab.folder().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead)?);
    let odd = lab.folder().join("odd.sock");
    let listener = std::os::unix::net::UnixListener::bind(&odd)?;
    std::thread::spawn(move || {
        use std::io::Write;
        for stream in listener.incoming().flatten() {
            let _ = (&stream).write_all(b"220 mail.example ESMTP\r\n");
        }
    });
    let cases: [(PathBuf, &str); 3] = [
        (file, "nobody listens at"),
        (dead, "nobody listens at"),
        (odd, "does not look like Docker"),
    ];
    for (socket, words) in cases {
        let mut follower = Follower::new(&host, &socket)?;
        let reason = follower.away()?;
        assert!(reason.contains(words), "{reason}");
    }
    Ok(())
}
