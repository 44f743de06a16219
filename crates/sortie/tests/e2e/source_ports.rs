//! Source ports in use: counted as the kernel gives them, across restarts, with a warning before
//! they are used up.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use nfnetlink::conntrack::{Conntrack, Filter, Tuple};
use serde_json::{Value, json};
use sortie_lab::{Container, Place, Result, eventually};

use crate::stage::{DOCKER_20, LIMIT, Stage, ip};

const EGRESS: &str = "203.0.113.11";
const UDP: u8 = 17;
/// Four fifths of 64,512.
const SCARCE: u16 = 51_610;

/// What `status` tells of the address's source ports; an error while no agent answers.
fn told(stage: &Stage) -> std::result::Result<Value, String> {
    let status = stage.run(&["status", "-o", "json"]);
    let status = status.map_err(|error| error.to_string())?;
    let answer: Value = serde_json::from_str(&status.stdout).map_err(|_| status.stderr)?;
    let addresses = answer["addresses"].as_array().cloned().unwrap_or_default();
    let address = addresses
        .iter()
        .find(|address| address["address"] == EGRESS);
    Ok(address.ok_or("the address is not known")?["sourcePorts"].clone())
}

fn comes_to_be(stage: &Stage, expected: &Value) -> Result<()> {
    eventually(
        LIMIT,
        &format!("source ports are {expected}"),
        || match told(stage)? {
            now if now == *expected => Ok(()),
            now => Err(now.to_string()),
        },
    )
}

/// A datagram from each of these ports, answered by the observer with the source that it saw.
fn send_from(container: &Container, ports: std::ops::Range<u16>, to: IpAddr) -> Result<()> {
    container.place()?.run(|| {
        for port in ports {
            let socket = UdpSocket::bind(("0.0.0.0", port)).expect("a free port");
            socket.set_read_timeout(Some(LIMIT)).expect("a limit");
            socket.send_to(b"?", (to, 7)).expect("a way out");
            let mut answer = [0; 64];
            let length = socket.recv(&mut answer).expect("an answer");
            let seen = String::from_utf8_lossy(&answer[..length]);
            assert!(seen.starts_with(&format!("{EGRESS}:")), "{seen}");
        }
    })
}

#[test]
fn counted_as_the_kernel_gives_them() -> Result<()> {
    let stage = Stage::new("source-ports", DOCKER_20)?;
    let one = stage.labelled("one", EGRESS)?;
    let two = stage.labelled("two", EGRESS)?;
    // Flows must not end by themselves while they are counted.
    let netns = stage.host.netns();
    for timeout in ["udp_timeout", "udp_timeout_stream"] {
        netns.set_sysctl(&format!("net.netfilter.nf_conntrack_{timeout}"), "600")?;
    }
    comes_to_be(&stage, &Value::Null)?;
    let to = stage.lab.destination()?.v4;
    let used = |used: u32| json!({"protocol": "udp", "destination": to, "port": 7, "used": used, "of": 64_512, "scarce": false});
    // The same ports in both: the kernel gives the second another one each.
    send_from(&one, 40_000..40_010, to)?;
    comes_to_be(&stage, &used(10))?;
    send_from(&two, 40_000..40_010, to)?;
    comes_to_be(&stage, &used(20))?;
    // The flows of what ends go.
    two.remove()?;
    comes_to_be(&stage, &used(10))
}

#[test]
fn warned_of_before_they_are_used_up() -> Result<()> {
    let stage = Stage::new("scarce", DOCKER_20)?;
    stage.labelled("web", EGRESS)?;
    stage.ok(&["status"]);
    let server = (ip("198.51.100.9"), 53);
    let flow = |port: u16| {
        let original = Tuple::ports(UDP, (ip("10.99.0.2"), port), server);
        let mut flow = Conntrack::new(original, Duration::from_mins(10));
        flow.reply = Tuple::ports(UDP, server, (ip(EGRESS), port));
        flow
    };
    let ports = 2000..2000 + SCARCE;
    let make = || -> std::result::Result<(), nfnetlink::Error> {
        let mut socket = nfnetlink::Socket::open()?;
        ports
            .clone()
            .try_for_each(|port| socket.create_conntrack(&flow(port)))
    };
    stage.host.netns().run(make)?.expect("tracked flows");
    let scarce = || {
        eventually(LIMIT, "they are scarce", || {
            let now = told(&stage)?;
            if now["used"] == SCARCE && now["scarce"] == true {
                Ok(())
            } else {
                Err(now.to_string())
            }
        })
    };
    scarce()?;
    // Another agent lists what began before it.
    stage.signal("-KILL", stage.worker_pid())?;
    stage.wait_for_engine()?;
    scarce()?;
    let status = stage.run(&["status"])?;
    assert_eq!(status.code(), 1, "{}", status.stdout);
    for text in [
        "SOURCE PORTS OF",
        "51610 of its 64512 source ports towards 198.51.100.9:53/udp",
    ] {
        assert!(status.stdout.contains(text), "{}", status.stdout);
    }
    let doctor = stage.run(&["doctor"])?;
    assert_eq!(doctor.code(), 1, "{}", doctor.stdout);
    assert!(
        doctor.stdout.contains("ports-scarce 203.0.113.11"),
        "{}",
        doctor.stdout
    );

    let forget =
        || nfnetlink::Socket::open()?.delete_conntracks(&Filter::original_src(ip("10.99.0.2")));
    stage.host.netns().run(forget)?.expect("fewer flows");
    comes_to_be(&stage, &Value::Null)?;
    stage.ok(&["status"]);
    Ok(())
}
