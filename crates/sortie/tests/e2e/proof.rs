//! What Sortie tells of itself, beside what is so: flows, drops, verify, explain, plan, get.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use serde_json::{Value, json};
use sortie_lab::{
    ALL_TRAFFIC, Container, ContainerSpec, EngineKind, OddPackets, Result, Traffic, eventually,
    eventually_true,
};

use crate::stage::{DOCKER_20, DOCKER_29_NFTABLES, HOST_V4, LIMIT, PODMAN, Stage, ip, sortie};

const EGRESS: &str = "203.0.113.11";
const EGRESS_V6: &str = "2001:db8:113::11";
/// Nothing leaves the container `closed`.
const CLOSED: &str = "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: closed}
spec:
  workloads: [{containers: {names: [closed]}}]
  action: Deny
";

fn web(stage: &Stage) -> Result<Container> {
    stage.labelled("web", &format!("{EGRESS},{EGRESS_V6}"))
}

/// `sortie flows` and `drops` print one JSON object a line.
fn lines(stage: &Stage, command: &str) -> Vec<Value> {
    let text = stage.ok(&[command, "-o", "json"]);
    let lines = text.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// Waits for a line that `is` the wanted one; a report may come after the packet.
fn line(stage: &Stage, command: &str, is: impl Fn(&Value) -> bool) -> Result<Value> {
    eventually(LIMIT, &format!("`sortie {command}` tells it"), || {
        let known = lines(stage, command);
        let found = known.iter().find(|line| is(line)).cloned();
        found.ok_or_else(|| format!("{known:?}"))
    })
}

#[test]
fn flows_tell_expected_and_actual_source() -> Result<()> {
    let stage = Stage::new("flows", DOCKER_20)?;
    let web = web(&stage)?;
    let other = stage.unmanaged("other")?;
    let to = stage.lab.destination()?;
    for traffic in ALL_TRAFFIC {
        stage.lab.expect_source(&web, traffic, to.v4, ip(EGRESS))?;
    }
    stage
        .lab
        .expect_source(&other, Traffic::Tcp(7), to.v4, ip(HOST_V4))?;
    let own = web.address("bridge", false)?;
    for (protocol, port) in [("tcp", Some(7)), ("udp", Some(7)), ("icmp", None)] {
        let flow = line(&stage, "flows", |flow| {
            flow["protocol"] == protocol && flow["event"] == "new"
        })?;
        let is = |field: &str, value: Value| assert_eq!(flow[field], value, "{flow}");
        is("workload", json!("web"));
        is("from", json!(own));
        is("to", json!(to.v4));
        is("port", json!(port));
        is("expected", json!(EGRESS));
        is("actual", json!(EGRESS));
        is("verdict", json!("right"));
    }
    let flows = lines(&stage, "flows");
    assert!(
        flows.iter().all(|flow| flow["workload"] == "web"),
        "{flows:?}"
    );
    let status = stage.json(&["status"])?;
    assert_eq!(status["leaks"], 0);
    Ok(())
}

#[test]
fn following_shows_flows_as_they_come() -> Result<()> {
    let stage = Stage::new("follow", DOCKER_20)?;
    let web = web(&stage)?;
    let following = stage.spawn("following", &["flows", "--follow", "-o", "json"])?;
    let to = stage.lab.destination()?;
    eventually_true(LIMIT, "the new flow is told", || {
        let made = sortie_lab::Call::new(Traffic::Tcp(7), to.v4).make(&web);
        let told = following.stdout().unwrap_or_default();
        made.is_ok() && told.contains(&format!("\"to\":\"{}\"", to.v4))
    })
}

#[test]
fn drops_tell_who_what_and_why() -> Result<()> {
    let stage = Stage::new("drops", DOCKER_29_NFTABLES)?;
    let web = web(&stage)?;
    let own = web.address("bridge", false)?;
    let to = stage.lab.destination()?;
    // A packet of no flow, and one that claims another source.
    OddPackets::new(own, to.v4)?.send(&web)?;
    let drop = line(&stage, "drops", |drop| drop["fromPort"] == 1001)?;
    assert_eq!(drop["workload"], "web", "{drop}");
    assert_eq!(drop["protocol"], "tcp", "{drop}");
    assert_eq!(drop["from"], json!(own), "{drop}");
    assert_eq!(drop["to"], json!(to.v4), "{drop}");
    assert_eq!(drop["toPort"], 7777, "{drop}");
    assert_eq!(drop["reason"], "untracked", "{drop}");
    assert_eq!(drop["output"], "up0", "{drop}");
    OddPackets::new(ip("192.0.2.99"), to.v4)?.send(&web)?;
    let forged = line(&stage, "drops", |drop| drop["from"] == "192.0.2.99")?;
    assert_eq!(forged["workload"], "web", "{forged}");
    assert_eq!(forged["reason"], "identity", "{forged}");
    let status = stage.json(&["status"])?;
    let counted = status["drops"].as_array().expect("a list");
    for reason in ["untracked", "identity"] {
        let count = counted.iter().find(|drop| drop["reason"] == reason);
        let packets = count.and_then(|count| count["packets"].as_u64());
        assert!(packets.is_some_and(|packets| packets > 0), "{counted:?}");
    }
    let dropped = stage.workload("web").expect("web")["dropped"].clone();
    assert!(
        dropped.as_u64().is_some_and(|dropped| dropped > 0),
        "{dropped}"
    );
    Ok(())
}

/// A workload that may send nothing at all, or nothing of one family, is counted by that reason.
#[test]
fn what_may_send_nothing_is_dropped_by_name() -> Result<()> {
    let stage = Stage::new("nothing", DOCKER_29_NFTABLES)?;
    stage.applied(CLOSED)?;
    let closed = stage.engine.run(&ContainerSpec::new("closed"))?;
    stage.wait_for("closed", "Blocked")?;
    let wrong = stage
        .engine
        .run(&ContainerSpec::new("wrong").label("sortie.egress", "203.0.113.300"))?;
    stage.wait_for("wrong", "Error")?;
    let only_v4 = stage.labelled("only-v4", EGRESS)?;
    let only_v6 = stage.labelled("only-v6", EGRESS_V6)?;
    let to = stage.lab.destination()?;
    stage
        .lab
        .expect_source(&only_v4, Traffic::Tcp(7), to.v4, ip(EGRESS))?;
    stage
        .lab
        .expect_source(&only_v6, Traffic::Tcp(7), to.v6, ip(EGRESS_V6))?;
    for (container, name, to, reason) in [
        (&closed, "closed", to.v4, "denied"),
        (&closed, "closed", to.v6, "denied"),
        (&wrong, "wrong", to.v4, "denied"),
        (&only_v4, "only-v4", to.v6, "no-address"),
        (&only_v6, "only-v6", to.v4, "no-address"),
    ] {
        for traffic in ALL_TRAFFIC {
            stage.lab.expect_nothing(container, traffic, to)?;
        }
        let drop = line(&stage, "drops", |drop| {
            drop["workload"] == name && drop["to"] == json!(to)
        })?;
        assert_eq!(drop["reason"], reason, "{drop}");
    }
    let all = lines(&stage, "drops");
    let other = all.iter().find(|drop| drop["reason"] == "wrong-source");
    assert_eq!(other, None);
    Ok(())
}

/// On the host's network a packet has no port and no source that is the container's alone: the socket
/// that waits for an answer tells whose it is.
#[test]
fn connects_on_the_hosts_network_are_dropped_by_name() -> Result<()> {
    let stage = Stage::new("nothing-host", DOCKER_29_NFTABLES)?;
    stage.applied(CLOSED)?;
    let closed = ContainerSpec::new("closed").network("host");
    let closed = stage.engine.run(&closed)?;
    stage.wait_for("closed", "Blocked")?;
    let to = stage.lab.destination()?;
    let mark = stage.lab.mark()?;
    for to in [to.v4, to.v6] {
        closed.exec(&["sh", "-c", &format!("nc -w 1 {to} 7 </dev/null")])?;
        let drop = line(&stage, "drops", |drop| drop["to"] == json!(to))?;
        assert_eq!(drop["workload"], "closed", "{drop}");
        assert_eq!(drop["reason"], "denied", "{drop}");
    }
    stage.lab.fence()?;
    for to in [to.v4, to.v6] {
        stage.lab.expect_only_sources(&mark, to, &[])?;
    }
    Ok(())
}

/// `sortie observe` on the internet's side, and `sortie verify` from inside the workloads.
#[test]
fn verify_compares_with_what_observe_saw() -> Result<()> {
    let stage = Stage::new("verify", DOCKER_20)?;
    let _web = web(&stage)?;
    let to = stage.lab.destination()?;
    let mut observe = sortie();
    observe.args(["observe", "--listen", "0.0.0.0:8080,[::]:8080"]);
    let _observer = inside(stage.lab.internet().netns(), observe);
    let observers = [
        format!("http://{}:8080/", to.v4),
        format!("tcp://{}:8080", to.v4),
        format!("udp://{}:8080", to.v4),
        format!("http://[{}]:8080/", to.v6),
    ];
    let mut arguments = vec!["verify", "web"];
    for observer in &observers {
        arguments.extend(["--observer", observer]);
    }
    let all = eventually(LIMIT, "the observer answers", || {
        let answer = stage.json(&arguments).map_err(|error| error.to_string())?;
        let all = answer.as_array().expect("a list").clone();
        if all.iter().all(|one| one["verdict"] != "unreachable") {
            Ok(all)
        } else {
            Err(answer.to_string())
        }
    })?;
    assert_eq!(all.len(), observers.len());
    for (one, expected) in all.iter().zip([EGRESS, EGRESS, EGRESS, EGRESS_V6]) {
        assert_eq!(one["workload"], "web", "{one}");
        assert_eq!(one["expected"], expected, "{one}");
        assert_eq!(one["seen"], expected, "{one}");
        assert_eq!(one["verdict"], "right", "{one}");
    }
    assert_eq!(stage.run(&arguments)?.code(), 0);
    // Where nobody answers, the promise is not shown to be kept.
    let nobody = format!("http://{}:9/", to.v4);
    let missing = stage.run(&["verify", "web", "--observer", &nobody, "-o", "json"])?;
    assert_eq!(missing.code(), 1);
    let missing: Value = serde_json::from_str(&missing.stdout).expect("JSON");
    assert_eq!(missing[0]["verdict"], "unreachable", "{missing}");
    Ok(())
}

/// A container on the host's network has its address, or none, by its cgroup: so has what verifies it.
fn verify_on_the_hosts_network(engine: EngineKind) -> Result<()> {
    let stage = Stage::new("verify-host", engine)?;
    stage.applied(CLOSED)?;
    let on_host = |name: &str| ContainerSpec::new(name).network("host");
    let both = format!("{EGRESS},{EGRESS_V6}");
    stage.managed(&on_host("web").label("sortie.egress", &both))?;
    stage.engine.run(&on_host("closed"))?;
    stage.wait_for("closed", "Blocked")?;
    let to = stage.lab.destination()?;
    let before = stage.lab.mark()?;
    for (to, expected) in [(to.v4, EGRESS), (to.v6, EGRESS_V6)] {
        for scheme in ["tcp", "udp"] {
            let observer = format!("{scheme}://{}", SocketAddr::new(to, 7));
            let arguments = ["verify", "web", "closed", "--observer", &observer];
            let all = stage.json(&arguments)?;
            assert_eq!(all[0]["verdict"], "right", "{all}");
            assert_eq!(all[0]["seen"], expected, "{all}");
            assert_eq!(all[1]["verdict"], "blocked", "{all}");
        }
        stage
            .lab
            .expect_only_sources(&before, to, &[ip(expected)])?;
    }
    stage
        .lab
        .expect_source(&stage.host, Traffic::Tcp(7), to.v4, ip(HOST_V4))
}

on_both_dockers!(verify_on_the_hosts_network);

#[test]
fn verify_on_podmans_hosts_network() -> Result<()> {
    verify_on_the_hosts_network(PODMAN)
}

/// A program in a namespace of the lab, killed when this is dropped.
struct Inside(std::process::Child);

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn inside(netns: &sortie_lab::Netns, mut command: Command) -> Inside {
    command.stdout(std::process::Stdio::null());
    let child = netns.run(move || command.spawn()).expect("the namespace");
    Inside(child.expect("a program"))
}

#[test]
fn explain_is_what_happens() -> Result<()> {
    let stage = Stage::new("explain", DOCKER_20)?;
    let web = web(&stage)?;
    let lost = stage
        .engine
        .run(&sortie_lab::ContainerSpec::new("lost").label("sortie.egress", "203.0.113.77"))?;
    stage.wait_for("lost", "Blocked")?;
    let to = stage.lab.destination()?.v4;
    let target = format!("{to}:7");
    let answer = stage.json(&["explain", "web", &target])?;
    assert_eq!(answer["verdict"], "Egress", "{answer}");
    assert_eq!(answer["source"], EGRESS, "{answer}");
    assert_eq!(answer["uplink"], "up0", "{answer}");
    assert_eq!(answer["candidates"][0]["outcome"], "decides", "{answer}");
    stage
        .lab
        .expect_source(&web, Traffic::Tcp(7), to, ip(EGRESS))?;
    let answer = stage.json(&["explain", "lost", &target])?;
    assert_eq!(answer["verdict"], "Drop", "{answer}");
    assert_eq!(
        answer["fix"], "ip addr add 203.0.113.77/32 dev up0",
        "{answer}"
    );
    stage.lab.expect_nothing(&lost, Traffic::Tcp(7), to)?;
    let verified = stage.run(&[
        "verify",
        "lost",
        "--observer",
        &format!("tcp://{target}"),
        "-o",
        "json",
    ])?;
    let verified: Value = serde_json::from_str(&verified.stdout).expect("JSON");
    assert_eq!(verified[0]["verdict"], "blocked", "{verified}");
    Ok(())
}

const POLICY: &str = "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: shop}
spec:
  workloads:
  - containers: {names: [web]}
  action: Egress
  egress: {addresses: [203.0.113.12]}
";

#[test]
fn plan_changes_nothing_and_apply_get_delete_do() -> Result<()> {
    let stage = Stage::new("plan", DOCKER_20)?;
    let web = stage.unmanaged("web")?;
    let seen_as = |address: &str| -> Result<()> {
        let to = stage.lab.destination()?.v4;
        stage
            .lab
            .expect_source(&web, Traffic::Tcp(7), to, ip(address))
    };
    let file = stage.folder().join("shop.yaml");
    std::fs::write(&file, POLICY).expect("a policy");
    let file = file.display().to_string();
    let planned = stage.json(&["plan", &file])?;
    assert_eq!(planned["dryRun"], true, "{planned}");
    let created = json!([{"name": "shop", "change": "created"}]);
    assert_eq!(planned["policies"], created, "{planned}");
    assert_eq!(planned["workloads"][0]["name"], "web", "{planned}");
    assert_ne!(planned["steps"], json!([]), "{planned}");
    assert_eq!(stage.json(&["get", "policies"])?, json!([]));
    seen_as(HOST_V4)?;
    let applied = stage.json(&["apply", &file])?;
    assert_eq!(applied["policies"], created, "{applied}");
    seen_as("203.0.113.12")?;
    let policies = stage.json(&["get", "policies"])?;
    assert_eq!(policies[0]["name"], "shop", "{policies}");
    assert_eq!(policies[0]["action"], "Egress", "{policies}");
    assert_eq!(
        policies[0]["addresses"],
        json!(["203.0.113.12"]),
        "{policies}"
    );
    assert_eq!(policies[0]["workloads"], json!(["web"]), "{policies}");
    let workload = stage.json(&["get", "workloads", "web"])?;
    assert_eq!(workload[0]["egress"], json!(["203.0.113.12"]), "{workload}");
    assert_eq!(workload[0]["state"], "Ready", "{workload}");
    let own: IpAddr = web.address("bridge", false)?;
    let listed = workload[0]["addresses"].as_array().expect("addresses");
    assert!(listed.contains(&json!(own)), "{workload}");
    let address = stage.json(&["get", "addresses", "203.0.113.12"])?;
    assert_eq!(address[0]["usable"], true, "{address}");
    assert_eq!(address[0]["interface"], "up0", "{address}");
    // Its own YAML can be planned again, and changes nothing.
    std::fs::write(&file, stage.ok(&["get", "policies", "shop", "-o", "yaml"])).expect("a file");
    let again = stage.json(&["plan", &file])?;
    assert_eq!(again["policies"][0]["change"], "unchanged", "{again}");
    assert_eq!(again["steps"], json!([]), "{again}");
    let dry = stage.json(&["delete", "shop", "--dry-run"])?;
    assert_eq!(dry["policies"][0]["change"], "deleted", "{dry}");
    seen_as("203.0.113.12")?;
    stage.ok(&["delete", "shop"]);
    seen_as(HOST_V4)?;
    assert_eq!(stage.json(&["get", "policies"])?, json!([]));
    assert!(
        stage
            .policies()
            .read_dir()
            .expect("the folder")
            .next()
            .is_none()
    );
    Ok(())
}
