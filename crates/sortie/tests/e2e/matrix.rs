//! The table of what works with which engine, made of what an observer saw: `docs/matrix.md`.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use sortie_lab::{ALL_TRAFFIC, Container, ContainerSpec, EngineKind, Result};

use crate::host_network::executed;
use crate::stage::{Stage, ip};

/// Set to anything, it writes the table instead of comparing it.
const UPDATE: &str = "UPDATE_MATRIX";

const HOST_NETWORK: &str = "host network";

const HEAD: &str = "# What works with which engine

Written by the test `matrix` (`UPDATE_MATRIX=1` writes it anew): it sends from a container of each \
kind, and each *yes* is a source that the other side saw, with no frame of another one on the uplink. \
*translate* and *direct* are containers on the engine's bridge whose label says so, *attached* is one \
without a network that `sortie attach` gave the address, *host network* one with a label in the host's network namespace.

| Engine | Mode | Family | TCP | UDP | ICMP echo |
| --- | --- | --- | --- | --- | --- |
";

/// One container of each mode, with its addresses.
fn modes(stage: &Stage) -> Result<Vec<(&'static str, Container, [&'static str; 2])>> {
    let translated = ["203.0.113.11", "2001:db8:113::11"];
    let direct = ["203.0.113.22", "2001:db8:113::22"];
    let attached = ["203.0.113.21", "2001:db8:113::21"];
    let web = stage.labelled("web", &translated.join(","))?;
    let own = ContainerSpec::new("own")
        .label("sortie.egress", &direct.join(","))
        .label("sortie.egress.mode", "direct");
    let own = stage.managed(&own)?;
    let lonely = ContainerSpec::new("container1").network("none");
    let lonely = stage.engine.run(&lonely)?;
    stage.ok(&["attach", "container1", "--address", &attached.join(",")]);
    let mut modes = vec![
        ("translate", web, translated),
        ("direct", own, direct),
        ("attached", lonely, attached),
    ];
    if stage.engine.kind() == EngineKind::Podman {
        // Not tried there.
        return Ok(modes);
    }
    let shared = ["203.0.113.12", "2001:db8:113::12"];
    let host = ContainerSpec::new("host").network("host");
    let host = stage.managed(&host.label("sortie.egress", &shared.join(",")))?;
    modes.push((HOST_NETWORK, host, shared));
    Ok(modes)
}

fn rows(engine: EngineKind) -> Result<String> {
    let stage = Stage::guarded("matrix", engine)?;
    let mut rows = String::new();
    for (mode, container, sources) in modes(&stage)? {
        let to = stage.lab.destination()?;
        if mode == HOST_NETWORK {
            // Only what runs in the container has its address; it tries every family and protocol.
            executed(&stage, &container, to, sources)?;
        }
        for (family, to, source) in [("IPv4", to.v4, sources[0]), ("IPv6", to.v6, sources[1])] {
            // Writing to a String cannot fail.
            let _ = write!(rows, "| {engine} | {mode} | {family} |");
            for traffic in ALL_TRAFFIC {
                if mode != HOST_NETWORK {
                    stage
                        .lab
                        .expect_source(&container, traffic, to, ip(source))?;
                }
                rows += " yes |";
            }
            rows += "\n";
        }
    }
    Ok(rows)
}

#[test]
fn the_table_says_what_the_observer_saw() -> Result<()> {
    let mut table = HEAD.to_owned();
    for engine in EngineKind::TESTED {
        table += &rows(engine)?;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/matrix.md");
    if env::var_os(UPDATE).is_some() {
        fs::write(&path, &table).expect("docs/matrix.md");
    }
    let written = fs::read_to_string(&path).expect("docs/matrix.md");
    assert_eq!(written, table, "{UPDATE}=1 writes it anew");
    Ok(())
}
