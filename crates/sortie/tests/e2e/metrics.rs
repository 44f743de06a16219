//! Metrics: what a scrape gets, and that it follows what happens.

use sortie_lab::{Result, Traffic};

use crate::requests::{comes_to_count, scrape};
use crate::stage::{DOCKER_29_NFTABLES, Stage, ip};

const EGRESS: &str = "203.0.113.11";

/// Where the agent is scraped.
const METRICS: &str = "127.0.0.1:9469";

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
        comes_to_count(&stage, METRICS, &[line])?;
    }
    let head = scrape(&stage, METRICS).expect("a scrape");
    assert!(head.starts_with("HTTP/1.0 200"), "{head}");
    assert!(head.contains("application/openmetrics-text"), "{head}");

    stage.host.ip(&format!("addr del {EGRESS}/32 dev up0"))?;
    for line in [
        "sortie_egress_addresses{usable=\"false\"} 1",
        "sortie_workloads{state=\"blocked\"} 1",
    ] {
        comes_to_count(&stage, METRICS, &[line])?;
    }
    let elsewhere = stage.lab.destination()?.v4;
    stage.lab.expect_nothing(&web, Traffic::Udp(7), elsewhere)?;
    let line = "sortie_dropped_packets_total{reason=\"address-lost\"} 1";
    comes_to_count(&stage, METRICS, &[line])
}
