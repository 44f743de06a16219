//! `sortie bypass`: a workload leaves as without Sortie for its time, and not a packet longer.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;
use sortie_lab::{ALL_TRAFFIC, Call, Container, ContainerSpec, Result, Traffic, eventually};

use crate::stage::{DOCKER_20, DOCKER_29_NFTABLES, HOST_V4, HOST_V6, LIMIT, Stage, ip};

const EGRESS: &str = "203.0.113.11";
const EGRESS_V6: &str = "2001:db8:113::11";

/// A connection that the other side sees with this source.
fn open(from: &Container, to: IpAddr, source: &str) -> Result<TcpStream> {
    let tcp = Call::new(Traffic::Tcp(7), to).connect(from, 7)?;
    let mut greeting = String::new();
    BufReader::new(&tcp)
        .read_line(&mut greeting)
        .expect("a greeting");
    assert!(greeting.starts_with(source), "{greeting}");
    Ok(tcp)
}

/// All that it sends is seen with these.
#[track_caller]
fn leaves_with(stage: &Stage, from: &Container, v4: &str, v6: &str) -> Result<()> {
    let to = stage.lab.destination()?;
    for traffic in ALL_TRAFFIC {
        stage.lab.expect_source(from, traffic, to.v4, ip(v4))?;
        stage.lab.expect_source(from, traffic, to.v6, ip(v6))?;
    }
    Ok(())
}

/// Waits until what it begins is seen with the egress address again.
fn comes_back(stage: &Stage, from: &Container) -> Result<()> {
    let to = stage.lab.destination()?.v4;
    eventually(LIMIT, "the bypass is over", || {
        let seen = Call::new(Traffic::Udp(7), to).make(from);
        match seen.map_err(|error| error.to_string())? {
            Some(seen) if seen.ip() == ip(EGRESS) => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    })
}

fn bypassed(stage: &Stage) -> Vec<Value> {
    let list = stage.json(&["bypass"]).expect("a list");
    list.as_array().cloned().unwrap_or_default()
}

#[test]
fn a_bypass_ends_at_its_time_with_or_without_an_agent() -> Result<()> {
    let mut stage = Stage::guarded("bypass", DOCKER_29_NFTABLES)?;
    let web = stage.labelled("web", &format!("{EGRESS},{EGRESS_V6}"))?;
    let other = stage.labelled("other", "203.0.113.12,2001:db8:113::12")?;
    let to = ip("198.51.100.9");
    let mut before = open(&web, to, EGRESS)?;

    let told = stage.ok(&["bypass", "web", "--for", "10m", "--reason", "ticket 7"]);
    assert!(
        told.contains("web leaves as without Sortie until"),
        "{told}"
    );
    leaves_with(&stage, &web, HOST_V4, HOST_V6)?;
    leaves_with(&stage, &other, "203.0.113.12", "2001:db8:113::12")?;
    // What was open has ended: the other side resets what it does not know with this source.
    let _ = before.write_all(b"more");
    before.set_read_timeout(Some(LIMIT)).expect("a limit");
    assert!(matches!(before.read(&mut [0; 4]), Ok(0) | Err(_)));

    let status = stage.run(&["status"])?;
    assert_eq!(status.code(), 1, "{}", status.stdout);
    let reason = stage.workload("web").expect("web");
    assert_eq!(reason["state"], "Bypassed", "{reason}");
    let text = reason["reason"].as_str().expect("a reason");
    assert!(
        text.contains("by uid 0") && text.contains("ticket 7"),
        "{text}"
    );
    let told = stage.ok(&["explain", "web", "198.51.100.9:7"]);
    assert!(told.contains("it is bypassed for"), "{told}");

    // A new agent goes on with it.
    let during = open(&web, to, HOST_V4)?;
    stage.kill_agent()?;
    leaves_with(&stage, &web, HOST_V4, HOST_V6)?;
    stage.start_agent("guard: All\n")?;
    assert_eq!(bypassed(&stage).len(), 1);
    leaves_with(&stage, &web, HOST_V4, HOST_V6)?;
    let mut echo = [0; 4];
    (&during).write_all(b"more").expect("room in the buffer");
    (&during).read_exact(&mut echo).expect("an echo");

    // Told again, the time begins anew. Nobody but the kernel is there to end it.
    let begun = Instant::now();
    stage.ok(&["bypass", "web", "--for", "15s", "--reason", "ticket 8"]);
    stage.kill_agent()?;
    let seen = Call::new(Traffic::Udp(7), to).make(&web)?;
    if begun.elapsed() < Duration::from_secs(14) {
        assert_eq!(seen.map(|seen| seen.ip()), Some(ip(HOST_V4)));
    }
    comes_back(&stage, &web)?;
    assert!(begun.elapsed() >= Duration::from_secs(14), "{begun:?}");
    leaves_with(&stage, &web, EGRESS, EGRESS_V6)?;
    let mark = stage.lab.mark()?;
    (&during).write_all(b"late").expect("room in the buffer");
    stage.lab.fence()?;
    stage.lab.expect_only_sources(&mark, to, &[])?;

    // What the dead agent could not end, the next one does, and tells.
    stage.start_agent("guard: All\n")?;
    stage.wait_for("web", "Ready")?;
    during.set_read_timeout(Some(LIMIT)).expect("a limit");
    let read = (&during).read(&mut echo);
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    stage.lab.expect_only_sources(&mark, to, &[ip(EGRESS)])?;
    assert_eq!(bypassed(&stage), [] as [Value; 0]);
    let journal = stage.folder().join("state/bypass.log");
    let journal = fs::read_to_string(journal).expect("a journal");
    let events: Vec<&str> = journal
        .lines()
        .map(|line| line.split_once(",\"id\"").map_or(line, |(head, _)| head))
        .map(|head| head.rsplit('"').nth(1).unwrap_or(head))
        .collect();
    assert_eq!(events, ["begin", "begin", "end"], "{journal}");
    assert!(journal.contains("its time is over"), "{journal}");
    assert_eq!(stage.json(&["status"])?["leaks"], 0);

    // With an agent too.
    stage.ok(&["bypass", "web", "--for", "3s", "--reason", "ticket 9"]);
    stage.wait_for("web", "Ready")?;
    leaves_with(&stage, &web, EGRESS, EGRESS_V6)?;
    assert_eq!(stage.json(&["status"])?["leaks"], 0);
    Ok(())
}

#[test]
fn a_bypass_is_one_workloads_and_ends_with_it() -> Result<()> {
    let stage = Stage::guarded("bypass-who", DOCKER_20)?;
    let closed = stage
        .engine
        .run(&ContainerSpec::new("closed").label("sortie.egress", "203.0.113.300"))?;
    stage.wait_for("closed", "Error")?;
    let to = stage.lab.destination()?;
    stage.lab.expect_nothing(&closed, Traffic::Tcp(7), to.v4)?;

    // A wrong label is let by too, and is wrong again behind it.
    stage.ok(&["bypass", "closed", "--for", "10m", "--reason", "the label"]);
    leaves_with(&stage, &closed, HOST_V4, HOST_V6)?;
    let told = stage.ok(&["bypass", "closed", "--end"]);
    assert!(told.contains("the policies hold again"), "{told}");
    for traffic in ALL_TRAFFIC {
        stage.lab.expect_nothing(&closed, traffic, to.v4)?;
        stage.lab.expect_nothing(&closed, traffic, to.v6)?;
    }
    let refused = stage.refused(&["bypass", "closed", "--end"]);
    assert!(refused.contains("is not bypassed"), "{refused}");

    // The same container after another start, and another one of its name, are not bypassed.
    let web = stage.labelled("web", &format!("{EGRESS},{EGRESS_V6}"))?;
    let bypass = ["bypass", "web", "--for", "10m", "--reason", "ticket"];
    stage.ok(&bypass);
    web.restart()?;
    eventually(LIMIT, "it has ended", || {
        let left = bypassed(&stage);
        left.is_empty().then_some(()).ok_or(format!("{left:?}"))
    })?;
    stage.wait_for("web", "Ready")?;
    leaves_with(&stage, &web, EGRESS, EGRESS_V6)?;
    stage.ok(&bypass);
    leaves_with(&stage, &web, HOST_V4, HOST_V6)?;
    web.remove()?;
    let web = stage.labelled("web", &format!("{EGRESS},{EGRESS_V6}"))?;
    leaves_with(&stage, &web, EGRESS, EGRESS_V6)?;
    assert_eq!(bypassed(&stage), [] as [Value; 0]);

    // Who has nothing to be bypassed.
    stage.unmanaged("free")?;
    let concerned = stage.json(&["status"])?["workloads"].to_string();
    assert!(
        concerned.contains("web") && !concerned.contains("free"),
        "{concerned}"
    );
    stage
        .engine
        .run(&ContainerSpec::new("bare").network("none"))?;
    stage.ok(&["attach", "bare", "--address", "203.0.113.21"]);
    for (name, why) in [
        ("free", "no policy changes anything for it"),
        ("bare", "its own interface"),
        ("nobody", "no running workload"),
    ] {
        let refused = stage.refused(&["bypass", name, "--for", "10m", "--reason", "ticket"]);
        assert!(refused.contains(why), "{refused}");
    }
    for wrong in [
        &["bypass", "web"][..],
        &["bypass", "web", "--for", "10m"],
        &["bypass", "web", "--for", "25h", "--reason", "ticket"],
        &["bypass", "--end"],
    ] {
        let outcome = stage.run(wrong)?;
        assert_eq!(outcome.code(), 2, "{wrong:?}: {}", outcome.stdout);
    }
    let refused = stage.refused(&["bypass", "web", "--for", "10m", "--reason", " "]);
    assert!(refused.contains("needs a reason"), "{refused}");
    assert_eq!(stage.json(&["status"])?["leaks"], 0);
    Ok(())
}
