//! What happens around a container that has its egress address itself: its engine, its network, its
//! routes and its uplink are taken away. It is seen with that address, or not at all.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use sortie_lab::{ALL_TRAFFIC, Container, ContainerSpec, EngineKind, Place, Result, eventually};

use crate::ports::Server;
use crate::sender::Sender;
use crate::stage::{DOCKER_29_NFTABLES, GUARD_ALL, HOST_V4, HOST_V6, LIMIT, Stage, ip};
use crate::uplinks;

const V4: &str = "203.0.113.21";
const V6: &str = "2001:db8:113::21";
/// On the second uplink, which the default routes do not lead to.
const SECOND: [&str; 2] = ["192.0.2.21", "2001:db8:2::21"];

fn direct(name: &str, addresses: [&str; 2]) -> ContainerSpec {
    ContainerSpec::new(name)
        .label("sortie.egress", &addresses.join(","))
        .label("sortie.egress.mode", "direct")
}

fn sender(stage: &Stage, spec: &ContainerSpec) -> Result<Sender> {
    Sender::with_sources(stage, spec, ip(V4), ip(V6))
}

/// Less than the time between two looks into all containers (30 s).
const AT_ONCE: Duration = Duration::from_secs(20);

/// The container has the address, and its own kernel chooses it.
fn chooses(container: &Container, address: &str, to: &str) -> Result<()> {
    eventually(AT_ONCE, &format!("the source is {address}"), || {
        let place = container.place().map_err(|error| error.to_string())?;
        let route = place.ip(&format!("route get {to}"));
        match route.map_err(|error| error.to_string())? {
            route if route.contains(&format!(" src {address} ")) => Ok(()),
            route => Err(route),
        }
    })
}

fn is_whole(sender: &Sender) -> Result<()> {
    chooses(&sender.container, V4, "198.51.100.7")?;
    chooses(&sender.container, V6, "2001:db8:51::7")
}

/// The engine is killed and started again: its container with it, then with `live-restore` without.
fn the_engine_dies(engine: EngineKind) -> Result<()> {
    let stage = Stage::guarded("direct-engine", engine)?;
    let web = sender(&stage, &direct("web", [V4, V6]).always())?;
    stage.wait_for("web", "Ready")?;
    is_whole(&web)?;
    web.arrives(&stage)?;
    for live in [false, true] {
        if live {
            let file = stage.engine.settings_file();
            let text = fs::read_to_string(&file).expect("daemon.json");
            let live = text.replacen('{', "{\"live-restore\": true,", 1);
            fs::write(&file, live).expect("daemon.json");
            stage.engine.signal(Signal::SIGHUP)?;
        }
        let pid = web.container.pid()?;
        stage.engine.kill()?;
        stage.engine.resume()?;
        stage.wait_for_engine()?;
        stage.wait_for("web", "Ready")?;
        // What it sent before that may have ended when it was given the address.
        is_whole(&web)?;
        web.arrives(&stage)?;
        assert_eq!(web.container.pid()? == pid, live, "it outlives the engine");
    }
    web.never_otherwise(&stage)
}

on_both_dockers!(the_engine_dies);

/// The engine's networks come and go, that of the default route too; somebody takes away the host's
/// routes to the addresses, and what answers for them on the uplink.
#[test]
fn its_ways_are_taken_away() -> Result<()> {
    let stage = Stage::guarded("direct-ways", DOCKER_29_NFTABLES)?;
    stage.network("shop", 1, &[])?;
    // Engines take the default route of the first network by name.
    stage.network("alpha", 2, &[])?;
    let web = sender(&stage, &direct("web", [V4, V6]).network("shop"))?;
    stage.wait_for("web", "Ready")?;
    is_whole(&web)?;
    web.arrives(&stage)?;
    let connect = |network| stage.engine.connect(network, &web.container, &[]);
    let disconnect = |network| stage.engine.disconnect(network, &web.container);
    let changes: [&dyn Fn() -> Result<()>; 4] = [
        &|| connect("alpha"),
        &|| disconnect("shop"),
        &|| connect("shop"),
        &|| disconnect("alpha"),
    ];
    for change in changes {
        change()?;
        is_whole(&web)?;
        web.arrives(&stage)?;
    }
    for (address, flag) in [(V4, ""), (V6, "-6 ")] {
        let neighbours = || stage.host.ip(&format!("{flag}neigh show proxy"));
        assert!(neighbours()?.contains(address));
        let forget = format!("{flag}neigh del proxy {address} dev up0");
        stage.host.ip(&forget)?;
        // The kernel tells nobody of that alone.
        eventually(AT_ONCE, "the host answers for it again", || {
            let proxies = neighbours().map_err(|error| error.to_string())?;
            proxies.contains(address).then_some(()).ok_or(proxies)
        })?;
        stage.host.ip(&forget)?;
        stage.host.ip(&format!("{flag}route del {address}"))?;
        eventually(LIMIT, "both are there again", || {
            let route = stage.host.ip(&format!("{flag}route show {address}"));
            let all = route.and_then(|route| Ok((route, neighbours()?)));
            match all.map_err(|error| error.to_string())? {
                (route, proxies) if route.contains(address) && proxies.contains(address) => Ok(()),
                missing => Err(format!("{missing:?}")),
            }
        })?;
        web.arrives(&stage)?;
    }
    web.never_otherwise(&stage)
}

/// On an uplink that the default routes do not lead to, with every setting of the kernel's check of
/// return paths; a published port is answered where the caller came in. Without the uplink nothing
/// leaves, least of all by the other one.
#[test]
fn by_another_uplink() -> Result<()> {
    let mut stage = uplinks::stage("direct-uplink", DOCKER_29_NFTABLES)?;
    for device in ["all", "up0", "up1", "docker0"] {
        let name = format!("net.ipv4.conf.{device}.rp_filter");
        stage.host.netns().set_sysctl(&name, "1")?;
    }
    stage.start_agent(GUARD_ALL)?;
    let web = direct("web", SECOND).publish("80/tcp", 8080);
    let web = stage.managed(&web)?;
    for (address, to) in [(SECOND[0], "198.51.100.7"), (SECOND[1], "2001:db8:51::7")] {
        chooses(&web, address, to)?;
    }
    for rp_filter in ["1", "0", "2"] {
        let netns = stage.host.netns();
        netns.set_sysctl("net.ipv4.conf.all.rp_filter", rp_filter)?;
        uplinks::leaves(&stage, &web, SECOND, "up1")?;
    }
    Ok(())
}

/// From outside nobody begins a connection to the address, whatever the container listens at, until
/// the operator says so; with the host's address its published port is open as ever.
fn nobody_calls_from_outside(engine: EngineKind) -> Result<()> {
    let mut stage = Stage::guarded("direct-inbound", engine)?;
    let web = direct("web", [V4, V6])
        .publish("80/tcp", 8080)
        .capability("NET_RAW");
    let web = stage.managed(&web)?;
    let server = Server::start(&web)?;
    let own = |stage: &Stage| -> Result<()> {
        let to = stage.lab.destination()?;
        for traffic in ALL_TRAFFIC {
            stage.lab.expect_source(&web, traffic, to.v4, ip(V4))?;
            stage.lab.expect_source(&web, traffic, to.v6, ip(V6))?;
        }
        Ok(())
    };
    own(&stage)?;
    let outside = stage.lab.internet();
    for address in [V4, V6] {
        let to = (ip(address), 80).into();
        assert_eq!(server.callers(outside, to)?, [None; 2], "{to}");
    }
    for address in [HOST_V4, HOST_V6] {
        let seen = server.tcp(outside, (ip(address), 8080).into())?;
        assert!(seen.is_some(), "{address}");
    }
    let told = stage.ok(&["drops"]);
    assert!(told.contains("inbound") && told.contains(V4), "{told}");

    // From there on the engine's own rules say what comes in.
    stage.stop_agent()?;
    let allowed = format!("{GUARD_ALL}inbound: {{{V4}: Allow, '{V6}': Allow}}\n");
    stage.start_agent(&allowed)?;
    stage.wait_for("web", "Ready")?;
    // Docker 20.10 lets nothing in over IPv6 here.
    let open = match engine {
        EngineKind::Podman => &[(V4, "203.0.113.1"), (V6, "2001:db8:113::1")][..],
        _ => &[(V4, "203.0.113.1")],
    };
    for (address, caller) in open {
        let seen = server.callers(stage.lab.internet(), (ip(address), 80).into())?;
        assert_eq!(seen, [Some(ip(caller)); 2], "{address}");
    }
    own(&stage)
}

/// The engines whose own rules let strangers in; Docker 29's do not.
mod nobody_calls_from_outside {
    use crate::stage::{DOCKER_20, PODMAN};

    #[test]
    fn docker_20() -> sortie_lab::Result<()> {
        super::nobody_calls_from_outside(DOCKER_20)
    }

    #[test]
    fn podman() -> sortie_lab::Result<()> {
        super::nobody_calls_from_outside(PODMAN)
    }
}
