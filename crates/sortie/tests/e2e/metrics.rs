//! Metrics: what a scrape gets, and that it follows what happens.

use std::io::{Read, Write};
use std::net::TcpStream;

use sortie_lab::{Result, Traffic, eventually};

use crate::stage::{DOCKER_29_NFTABLES, LIMIT, Stage, ip};

const EGRESS: &str = "203.0.113.11";

/// What a scrape gets, head and body.
fn scrape(stage: &Stage) -> std::io::Result<String> {
    let get = || {
        let mut stream = TcpStream::connect("127.0.0.1:9469")?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: host\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    stage.host.netns().run(get).expect("the host's namespace")
}

/// Waits until a line is there; samples are taken every few seconds.
fn comes_to_say(stage: &Stage, line: &str) -> Result<()> {
    eventually(LIMIT, &format!("a scrape has {line}"), || {
        match scrape(stage).map_err(|error| error.to_string())? {
            text if text.lines().any(|found| found == line) => Ok(()),
            text => Err(text),
        }
    })
}

#[test]
fn a_scrape_follows_what_happens() -> Result<()> {
    let mut stage = Stage::without_agent("metrics", DOCKER_29_NFTABLES)?;
    stage.start_agent("metrics: {listen: '127.0.0.1:9469'}")?;
    let web = stage.labelled("web", EGRESS)?;
    let to = stage.lab.destination()?.v4;
    stage
        .lab
        .expect_source(&web, Traffic::Udp(7), to, ip(EGRESS))?;
    for line in [
        "sortie_engine_connected{engine=\"docker\"} 1",
        "sortie_converged 1",
        "sortie_workloads{state=\"ready\"} 1",
        "sortie_egress_addresses{usable=\"true\"} 1",
        "sortie_flows_total{verdict=\"right\"} 1",
        "sortie_leaks_total 0",
        "sortie_source_ports_used_max 1",
    ] {
        comes_to_say(&stage, line)?;
    }
    let head = scrape(&stage).expect("a scrape");
    assert!(head.starts_with("HTTP/1.0 200"), "{head}");
    assert!(head.contains("application/openmetrics-text"), "{head}");

    stage.host.ip(&format!("addr del {EGRESS}/32 dev up0"))?;
    comes_to_say(&stage, "sortie_egress_addresses{usable=\"false\"} 1")?;
    comes_to_say(&stage, "sortie_workloads{state=\"blocked\"} 1")?;
    let elsewhere = stage.lab.destination()?.v4;
    stage.lab.expect_nothing(&web, Traffic::Udp(7), elsewhere)?;
    comes_to_say(
        &stage,
        "sortie_dropped_packets_total{reason=\"address-lost\"} 1",
    )
}
