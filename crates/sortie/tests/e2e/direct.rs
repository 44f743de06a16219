//! `mode: Direct` on an engine's bridge: the container has its egress address itself.

use std::net::IpAddr;

use sortie_lab::{
    ALL_TRAFFIC, Call, Container, ContainerSpec, EngineKind, Place, Result, Snapshot, Traffic,
    eventually,
};

use crate::sender::Sender;
use crate::stage::{DOCKER_29_NFTABLES, LIMIT, Stage, ip, snapshot};

const V4: &str = "203.0.113.21";
const V6: &str = "2001:db8:113::21";

/// A policy for the containers with the label `app: pay`; addresses end with `last`.
fn policy(mode: &str, last: u8) -> String {
    format!(
        "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {{name: pay}}
spec:
  workloads: [{{containers: {{labels: {{app: pay}}}}}}]
  action: Egress
  egress: {{addresses: [203.0.113.{last}, \"2001:db8:113::{last}\"], mode: {mode}}}
"
    )
}

fn apply(stage: &Stage, mode: &str, last: u8) -> Result<()> {
    stage.applied(&policy(mode, last)).map(drop)
}

fn v4(last: u8) -> IpAddr {
    ip(&format!("203.0.113.{last}"))
}

fn v6(last: u8) -> IpAddr {
    ip(&format!("2001:db8:113::{last}"))
}

fn labelled(name: &str) -> ContainerSpec {
    ContainerSpec::new(name)
        .label("sortie.egress", &format!("{V4},{V6}"))
        .label("sortie.egress.mode", "direct")
}

/// All kinds of traffic of both families are seen with these addresses, and with no other.
#[track_caller]
fn seen_as(stage: &Stage, container: &Container, (v4, v6): (IpAddr, IpAddr)) -> Result<()> {
    let to = stage.lab.destination()?;
    for traffic in ALL_TRAFFIC {
        stage.lab.expect_source(container, traffic, to.v4, v4)?;
        stage.lab.expect_source(container, traffic, to.v6, v6)?;
    }
    Ok(())
}

/// The container's own kernel chooses the address: nothing has to translate it.
fn chooses(container: &Container, address: IpAddr) -> Result<()> {
    let to = if address.is_ipv4() {
        "198.51.100.7"
    } else {
        "2001:db8:51::7"
    };
    let route = || -> Result<String> { container.place()?.ip(&format!("route get {to}")) };
    eventually(LIMIT, &format!("the source is {address}"), || {
        let route = route().map_err(|error| error.to_string())?;
        if route.contains(&format!(" src {address} ")) {
            Ok(())
        } else {
            Err(route)
        }
    })
}

fn has_address(container: &Container, address: IpAddr) -> Result<bool> {
    let shown = container.place()?.ip("-o addr show")?;
    Ok(shown.contains(&format!(" {address}/")))
}

fn closed(stage: &Stage, container: &Container) -> Result<()> {
    let to = stage.lab.destination()?;
    for traffic in ALL_TRAFFIC {
        stage.lab.expect_nothing(container, traffic, to.v4)?;
        stage.lab.expect_nothing(container, traffic, to.v6)?;
    }
    Ok(())
}

/// From a label; through another network, a restart, and without a trace at the end.
fn a_label_gives_it(engine: EngineKind) -> Result<()> {
    let stage = Stage::guarded("direct", engine)?;
    stage.network("aside", 1, &[])?;
    // A bridge without ports has no carrier, and other addresses and routes.
    let plain = stage.unmanaged("plain")?;
    stage.engine.connect("aside", &plain, &[])?;
    let before = snapshot(&stage.host)?;
    let web = stage.managed(&labelled("web"))?;
    let own = (ip(V4), ip(V6));
    seen_as(&stage, &web, own)?;
    chooses(&web, own.0)?;
    chooses(&web, own.1)?;

    // What is bound to the bridge's address leaves with it too.
    let to = stage.lab.destination()?;
    for (v6, to, own) in [(false, to.v4, own.0), (true, to.v6, own.1)] {
        let call = Call::new(Traffic::Udp(7), to).from(web.address("bridge", v6)?);
        let seen = call.make(&web)?.map(|seen| seen.ip());
        assert_eq!(seen, Some(own));
    }
    let status = stage.json(&["status"])?;
    let told = &status["addresses"][0];
    assert_eq!(
        (&told["container"], &told["usable"]),
        (&"web".into(), &true.into()),
        "{status}"
    );

    // The engine sets the default routes anew.
    stage.engine.connect("aside", &web, &[])?;
    seen_as(&stage, &web, own)?;
    chooses(&web, own.0)?;
    chooses(&web, own.1)?;
    stage.engine.disconnect("aside", &web)?;
    seen_as(&stage, &web, own)?;
    chooses(&web, own.0)?;

    web.restart()?;
    stage.wait_for("web", "Ready")?;
    seen_as(&stage, &web, own)?;
    chooses(&web, own.0)?;

    web.remove()?;
    eventually(LIMIT, "nothing is left", || {
        let now = Snapshot::take(&stage.host).map_err(|error| error.to_string())?;
        match before.diff(&now) {
            same if same.is_empty() => Ok(()),
            different => Err(different),
        }
    })
}

on_every_engine!(a_label_gives_it);

/// Translate, direct, another address, translate: whatever leaves meanwhile has one of the addresses
/// that it was given, and what is new has the new one at once.
fn the_mode_changes_under_traffic(engine: EngineKind) -> Result<()> {
    let stage = Stage::guarded("mode", engine)?;
    apply(&stage, "Translate", 11)?;
    let spec = ContainerSpec::new("pay").label("app", "pay");
    let pay = Sender::with_sources(&stage, &spec, v4(11), v6(11))?;
    stage.wait_for("pay", "Ready")?;
    pay.arrives(&stage)?;
    let own = snapshot(&pay.container)?;

    let mut given = vec![11];
    let beginning = stage.lab.mark()?;
    for (mode, last) in [("Direct", 21), ("Direct", 22), ("Translate", 12)] {
        apply(&stage, mode, last)?;
        given.push(last);
        seen_as(&stage, &pay.container, (v4(last), v6(last)))?;
        if mode == "Direct" {
            chooses(&pay.container, v4(last))?;
            chooses(&pay.container, v6(last))?;
        }
        stage.lab.fence()?;
        let sources = |of: fn(u8) -> IpAddr| given.iter().copied().map(of).collect::<Vec<_>>();
        let (to4, to6) = (pay.to.v4, pay.to.v6);
        stage
            .lab
            .expect_only_sources(&beginning, to4, &sources(v4))?;
        stage
            .lab
            .expect_only_sources(&beginning, to6, &sources(v6))?;
    }
    let left = own.diff(&Snapshot::take(&pay.container)?);
    assert_eq!(left, "", "the container is as it was: {left}");
    Ok(())
}

on_every_engine_and_podman!(the_mode_changes_under_traffic);

/// One address moves from the host to the container and back. While both should have it, or
/// nobody has, nothing leaves.
#[test]
fn the_address_moves_between_host_and_container() -> Result<()> {
    let stage = Stage::guarded("moves", DOCKER_29_NFTABLES)?;
    apply(&stage, "Translate", 11)?;
    let pay = stage.managed(&ContainerSpec::new("pay").label("app", "pay"))?;
    let here = (v4(11), v6(11));
    seen_as(&stage, &pay, here)?;
    let on_host = |verb: &str| -> Result<()> {
        stage
            .host
            .ip(&format!("addr {verb} 203.0.113.11/32 dev up0"))?;
        let v6 = format!("addr {verb} 2001:db8:113::11/128 dev up0");
        let more = if verb == "add" {
            " preferred_lft 0 nodad"
        } else {
            ""
        };
        stage.host.ip(&format!("{v6}{more}")).map(drop)
    };

    apply(&stage, "Direct", 11)?;
    stage.wait_for("pay", "Error")?;
    let told = stage.workload("pay").expect("pay").to_string();
    assert!(told.contains("is on this host itself (up0)"), "{told}");
    assert!(
        told.contains("ip addr del 203.0.113.11/32 dev up0"),
        "{told}"
    );
    closed(&stage, &pay)?;

    on_host("del")?;
    stage.wait_for("pay", "Ready")?;
    seen_as(&stage, &pay, here)?;
    chooses(&pay, here.0)?;
    chooses(&pay, here.1)?;

    on_host("add")?;
    stage.wait_for("pay", "Error")?;
    assert!(!has_address(&pay, here.0)? && !has_address(&pay, here.1)?);
    closed(&stage, &pay)?;
    apply(&stage, "Translate", 11)?;
    stage.wait_for("pay", "Ready")?;
    seen_as(&stage, &pay, here)
}

/// Replies of a published UDP port would leave with the container's own address.
#[test]
fn a_published_udp_port_is_refused() -> Result<()> {
    let stage = Stage::guarded("udp", DOCKER_29_NFTABLES)?;
    let web = stage.engine.run(&labelled("web").publish("53/udp", 5353))?;
    stage.wait_for("web", "Error")?;
    let told = stage.workload("web").expect("web").to_string();
    assert!(told.contains("it publishes its UDP port 53"), "{told}");
    closed(&stage, &web)?;
    let answer = stage.ok(&["explain", "web", "198.51.100.7:443"]);
    assert!(answer.contains("UDP port 53"), "{answer}");
    assert!(!has_address(&web, ip(V4))?);
    // The address is free for another.
    let other = stage.managed(&labelled("other"))?;
    seen_as(&stage, &other, (ip(V4), ip(V6)))
}

/// Of two containers with one address the first has it, and the other when that is gone.
#[test]
fn one_address_is_one_containers() -> Result<()> {
    let stage = Stage::guarded("two", DOCKER_29_NFTABLES)?;
    let first = stage.managed(&labelled("first"))?;
    let second = stage.engine.run(&labelled("second"))?;
    stage.wait_for("second", "Error")?;
    let told = stage.workload("second").expect("second").to_string();
    assert!(
        told.contains("203.0.113.21 is first's own already"),
        "{told}"
    );
    closed(&stage, &second)?;
    let own = (ip(V4), ip(V6));
    seen_as(&stage, &first, own)?;
    first.remove()?;
    stage.wait_for("second", "Ready")?;
    seen_as(&stage, &second, own)?;
    chooses(&second, own.0)
}

/// An agent that ends or is killed leaves it in force; the next one takes over, and puts right what
/// somebody has changed inside meanwhile.
#[test]
fn it_outlives_the_agent() -> Result<()> {
    let mut stage = Stage::guarded("outlives", DOCKER_29_NFTABLES)?;
    let spec = labelled("web");
    let web = Sender::with_sources(&stage, &spec, ip(V4), ip(V6))?;
    web.arrives(&stage)?;
    chooses(&web.container, ip(V4))?;
    stage.stop_agent()?;
    web.arrives(&stage)?;
    stage.start_agent(crate::stage::GUARD_ALL)?;
    web.arrives(&stage)?;
    stage.kill_agent()?;
    web.arrives(&stage)?;
    let inside = web.container.place()?;
    let gateway = inside.ip("route show default")?;
    let gateway = gateway.split(" src ").next().unwrap_or_default().to_owned();
    inside.ip(&format!("route replace {gateway}"))?;
    stage.start_agent(crate::stage::GUARD_ALL)?;
    chooses(&web.container, ip(V4))?;
    web.arrives(&stage)?;
    web.never_otherwise(&stage)?;
    stage.ok(&["down"]);
    assert!(!has_address(&web.container, ip(V4))?);
    Ok(())
}
