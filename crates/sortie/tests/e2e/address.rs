//! An egress address that is not on the host: nothing leaves, it is said why, and the line that
//! mends it does.

use std::time::Duration;

use sortie_lab::{
    ALL_TRAFFIC, Call, Container, ContainerSpec, EngineKind, Place, Result, Traffic, eventually,
};

use crate::stage::{HOST_V4, HOST_V6, LIMIT, Stage, ip};

const V4: &str = "203.0.113.40";
const V6: &str = "2001:db8:113::40";

/// The lines that mend each, as they must be printed.
const FIXES: [(&str, &str, &str); 2] = [
    (V4, "ip addr add 203.0.113.40/32 dev up0", "198.51.100.9"),
    (
        V6,
        "ip addr add 2001:db8:113::40/128 dev up0 preferred_lft 0",
        "2001:db8:51::9",
    ),
];

/// Waits until a connection is answered, and the observer names this source.
fn comes_to_be_seen(container: &Container, to: &str, source: &str) -> Result<()> {
    eventually(LIMIT, &format!("{to} sees {source}"), || {
        let call = Call::new(Traffic::Tcp(7), ip(to)).within(Duration::from_millis(200));
        match call.make(container) {
            Ok(Some(seen)) if seen.ip() == ip(source) => Ok(()),
            Ok(seen) => Err(format!("the observer saw {seen:?}")),
            Err(error) => Err(error.to_string()),
        }
    })
}

/// Runs a line as Sortie prints it.
fn run_line(stage: &Stage, line: &str) -> Result<()> {
    let arguments = line.strip_prefix("ip ").expect("a line for ip");
    stage.host.ip(arguments).map(drop)
}

/// What people are told names the address and the line.
fn is_told(stage: &Stage, address: &str, line: &str, to: &str) -> Result<()> {
    let explained = stage.json(&["explain", "web", to])?;
    assert_eq!(explained["verdict"], "Drop", "{explained}");
    assert_eq!(explained["fix"], line, "{explained}");
    let reason = explained["reason"].as_str().unwrap_or_default();
    assert!(reason.contains(address), "{explained}");
    let status = stage.run(&["status"])?;
    assert!(status.stdout.contains(line), "{}", status.stdout);
    let explained = stage.run(&["explain", "web", to])?;
    assert!(explained.stdout.contains(line), "{}", explained.stdout);
    Ok(())
}

/// Dropped and told why; mended by the very line; closed when the address goes again.
fn not_on_the_host(engine: EngineKind) -> Result<()> {
    let stage = Stage::new("lost", engine)?;
    let spec = ContainerSpec::new("web").label("sortie.egress", &format!("{V4},{V6}"));
    let web = stage.engine.run(&spec)?;
    stage.wait_for("web", "Blocked")?;
    let mark = stage.lab.mark()?;
    for (address, line, to) in FIXES {
        for traffic in ALL_TRAFFIC {
            stage.lab.expect_nothing(&web, traffic, ip(to))?;
        }
        is_told(&stage, address, line, to)?;
    }
    for (address, line, to) in FIXES {
        run_line(&stage, line)?;
        comes_to_be_seen(&web, to, address)?;
        for traffic in ALL_TRAFFIC {
            stage
                .lab
                .expect_source(&web, traffic, ip(to), ip(address))?;
        }
    }
    stage.wait_for("web", "Ready")?;
    for (address, line, to) in FIXES {
        let length = if address == V4 { 32 } else { 128 };
        stage
            .host
            .ip(&format!("addr del {address}/{length} dev up0"))?;
        for traffic in ALL_TRAFFIC {
            stage.lab.expect_nothing(&web, traffic, ip(to))?;
        }
        stage.wait_for("web", "Blocked")?;
        is_told(&stage, address, line, to)?;
        run_line(&stage, line)?;
        comes_to_be_seen(&web, to, address)?;
        stage
            .lab
            .expect_only_sources(&mark, ip(to), &[ip(address)])?;
    }
    Ok(())
}

/// An old flow does not outlive the address either.
fn taken_under_a_live_flow(engine: EngineKind) -> Result<()> {
    use std::io::{Read, Write};

    let stage = Stage::new("live", engine)?;
    let web = stage.labelled("web", "203.0.113.11,2001:db8:113::11")?;
    let to = stage.lab.destination()?.v4;
    let mut stream = Call::new(Traffic::Tcp(7), to).connect(&web, 7)?;
    let mut greeting = [0; 13];
    stream.read_exact(&mut greeting).expect("a greeting");
    assert_eq!(&greeting, b"203.0.113.11:");
    stage.host.ip("addr del 203.0.113.11/32 dev up0")?;
    let mark = stage.lab.mark()?;
    stream.write_all(b"more").expect("room in the buffer");
    stage.lab.expect_nothing(&web, Traffic::Udp(7), to)?;
    stage.lab.expect_only_sources(&mark, to, &[])?;
    stage.host.ip("addr add 203.0.113.11/32 dev up0")?;
    comes_to_be_seen(&web, &to.to_string(), "203.0.113.11")
}

/// `onUnavailable: NodeAddress`: as without Sortie until the address is there, and after it.
fn node_address_meanwhile(engine: EngineKind) -> Result<()> {
    let stage = Stage::new("node", engine)?;
    let spec = ContainerSpec::new("web")
        .label("sortie.egress", &format!("{V4},{V6}"))
        .label("sortie.egress.on-unavailable", "node-address");
    let web = stage.engine.run(&spec)?;
    let node = |to: &str| if ip(to).is_ipv4() { HOST_V4 } else { HOST_V6 };
    for (address, line, to) in FIXES {
        comes_to_be_seen(&web, to, node(to))?;
        for traffic in ALL_TRAFFIC {
            stage
                .lab
                .expect_source(&web, traffic, ip(to), ip(node(to)))?;
        }
        run_line(&stage, line)?;
        comes_to_be_seen(&web, to, address)?;
        for traffic in ALL_TRAFFIC {
            stage
                .lab
                .expect_source(&web, traffic, ip(to), ip(address))?;
        }
        let length = if address == V4 { 32 } else { 128 };
        stage
            .host
            .ip(&format!("addr del {address}/{length} dev up0"))?;
        comes_to_be_seen(&web, to, node(to))?;
    }
    Ok(())
}

/// An IPv6 address that was put on the host as Sortie says is nobody else's: neither the host nor a
/// neighbour, whose packets the engine masquerades, ever leave with it.
fn nobody_else_selects_it(engine: EngineKind) -> Result<()> {
    let stage = Stage::new("select", engine)?;
    let spec = ContainerSpec::new("web").label("sortie.egress", &format!("{V4},{V6}"));
    let web = stage.engine.run(&spec)?;
    let neighbour = stage.unmanaged("neighbour")?;
    stage.wait_for("web", "Blocked")?;
    for (_, line, _) in FIXES {
        run_line(&stage, line)?;
    }
    stage.wait_for("web", "Ready")?;
    let shown = stage.host.ip(&format!("-6 addr show to {V6}"))?;
    assert!(
        shown.contains("/128") && shown.contains("deprecated"),
        "{shown}"
    );
    let seen = |place: &dyn Place, sources: [&str; 2]| -> Result<()> {
        let to = stage.lab.destination()?;
        for traffic in ALL_TRAFFIC {
            for (to, source) in [to.v4, to.v6].into_iter().zip(sources) {
                stage.lab.expect_source(place, traffic, to, ip(source))?;
            }
        }
        Ok(())
    };
    let all: [(&dyn Place, _); 3] = [
        (&web, [V4, V6]),
        (&neighbour, [HOST_V4, HOST_V6]),
        (&stage.host, [HOST_V4, HOST_V6]),
    ];
    for (place, sources) in all {
        seen(place, sources)?;
    }
    // Nor when it is the one that was put there last, or the host's own is renewed.
    let own = format!("{HOST_V6}/64 dev up0");
    stage.host.ip(&format!(
        "-6 addr change {own} valid_lft 3600 preferred_lft 1800"
    ))?;
    run_line(&stage, &FIXES[1].1.replace("addr add", "addr change"))?;
    for (place, sources) in all {
        seen(place, sources)?;
    }
    Ok(())
}

on_both_dockers!(nobody_else_selects_it);

on_every_engine!(
    not_on_the_host,
    taken_under_a_live_flow,
    node_address_meanwhile,
);
