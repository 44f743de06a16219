//! Policy files: which destinations they mean, which of several decides, and what a change does to
//! connections that are open.

use std::io::{Read, Write};
use std::net::TcpStream;

use sortie_lab::{Call, Container, ContainerSpec, EngineKind, Result, Traffic};

use crate::stage::{HOST_V4, HOST_V6, Stage, ip};

/// A policy for the containers with the label `app: pay`.
fn policy(name: &str, rest: &str) -> String {
    let head = "apiVersion: sortie.dev/v1alpha1\nkind: EgressPolicy\n";
    let workloads = "workloads: [{containers: {labels: {app: pay}}}]";
    format!("{head}metadata: {{name: {name}}}\nspec:\n  {workloads}\n{rest}---\n")
}

fn egress(last: u8) -> String {
    format!(
        "  action: Egress\n  egress: {{addresses: [203.0.113.{last}, \"2001:db8:113::{last}\"]}}\n"
    )
}

/// A stage with these policies and a container that they are for.
fn stage(name: &str, engine: EngineKind, policies: &[String]) -> Result<(Stage, Container)> {
    let stage = Stage::new(name, engine)?;
    apply(&stage, policies)?;
    let pay = stage.managed(&ContainerSpec::new("pay").label("app", "pay"))?;
    Ok((stage, pay))
}

fn apply(stage: &Stage, policies: &[String]) -> Result<()> {
    let text = policies.concat();
    stage.applied(text.trim_end_matches("---\n")).map(drop)
}

/// Who is seen where: none means that nothing leaves.
fn expect(
    stage: &Stage,
    container: &Container,
    table: &[(Traffic, &str, Option<&str>)],
) -> Result<()> {
    for (traffic, to, source) in table {
        match source {
            Some(source) => stage
                .lab
                .expect_source(container, *traffic, ip(to), ip(source))?,
            None => stage.lab.expect_nothing(container, *traffic, ip(to))?,
        }
    }
    Ok(())
}

const EGRESS_11: Option<&str> = Some("203.0.113.11");
const EGRESS_11_V6: Option<&str> = Some("2001:db8:113::11");
const EGRESS_12: Option<&str> = Some("203.0.113.12");
const EGRESS_12_V6: Option<&str> = Some("2001:db8:113::12");
const NODE: Option<&str> = Some(HOST_V4);
const NODE_V6: Option<&str> = Some(HOST_V6);

/// `cidrs`, `except` and `ports`: the rest goes as without Sortie.
fn cidrs_except_and_ports(engine: EngineKind) -> Result<()> {
    let destinations = "  destinations:\n  - cidrs: [198.51.100.0/24, \"2001:db8:51::/64\"]\n    except: [198.51.100.128/25, \"2001:db8:51::8000/113\"]\n    ports: [{protocol: TCP, port: 440, endPort: 443}]\n";
    let bank = policy("bank", &(destinations.to_owned() + &egress(11)));
    let (stage, pay) = stage("cidrs", engine, &[bank])?;
    expect(
        &stage,
        &pay,
        &[
            (Traffic::Tcp(443), "198.51.100.9", EGRESS_11),
            (Traffic::Tcp(443), "2001:db8:51::9", EGRESS_11_V6),
            // The same addresses with other ports and protocols.
            (Traffic::Tcp(7), "198.51.100.9", NODE),
            (Traffic::Udp(443), "198.51.100.9", NODE),
            (Traffic::Ping, "198.51.100.9", NODE),
            (Traffic::Tcp(7), "2001:db8:51::9", NODE_V6),
            (Traffic::Udp(443), "2001:db8:51::9", NODE_V6),
            (Traffic::Ping, "2001:db8:51::9", NODE_V6),
            // The edges of `except`.
            (Traffic::Tcp(443), "198.51.100.127", EGRESS_11),
            (Traffic::Tcp(443), "198.51.100.128", NODE),
            (Traffic::Tcp(443), "198.51.100.255", NODE),
            (Traffic::Tcp(443), "2001:db8:51::7fff", EGRESS_11_V6),
            (Traffic::Tcp(443), "2001:db8:51::8000", NODE_V6),
            // Elsewhere.
            (Traffic::Tcp(443), "192.0.2.9", NODE),
            (Traffic::Tcp(443), "2001:db8:52::9", NODE_V6),
        ],
    )
}

/// Two policies with two addresses, the rest denied but for a bypass within.
fn several_policies(engine: EngineKind) -> Result<()> {
    let cidr = |v4: &str, v6: &str| format!("  destinations: [{{cidrs: [{v4}, \"{v6}\"]}}]\n");
    let (stage, pay) = stage(
        "several",
        engine,
        &[
            policy(
                "bank",
                &(cidr("198.51.100.0/25", "2001:db8:51::/64") + &egress(11)),
            ),
            policy(
                "partner",
                &(cidr("198.51.100.128/25", "2001:db8:52::/64") + &egress(12)),
            ),
            policy(
                "mirror",
                &(cidr("192.0.2.64/26", "2001:db8:53::/64") + "  action: Bypass\n"),
            ),
            policy("rest", "  action: Deny\n"),
        ],
    )?;
    expect(
        &stage,
        &pay,
        &[
            (Traffic::Tcp(7), "198.51.100.9", EGRESS_11),
            (Traffic::Udp(7), "2001:db8:51::9", EGRESS_11_V6),
            (Traffic::Ping, "198.51.100.9", EGRESS_11),
            (Traffic::Tcp(7), "198.51.100.200", EGRESS_12),
            (Traffic::Udp(7), "2001:db8:52::9", EGRESS_12_V6),
            (Traffic::Ping, "198.51.100.200", EGRESS_12),
            (Traffic::Tcp(7), "192.0.2.65", NODE),
            (Traffic::Udp(7), "2001:db8:53::9", NODE_V6),
            (Traffic::Tcp(7), "192.0.2.9", None),
            (Traffic::Udp(7), "192.0.2.9", None),
            (Traffic::Ping, "192.0.2.9", None),
            (Traffic::Tcp(7), "2001:db8:54::9", None),
            (Traffic::Ping, "2001:db8:54::9", None),
        ],
    )
}

/// A higher `priority` decides before a longer prefix; without one the longer prefix does.
fn priorities(engine: EngineKind) -> Result<()> {
    let narrow = policy(
        "narrow",
        &("  destinations: [{cidrs: [198.51.100.9/32]}]\n".to_owned() + &egress(11)),
    );
    let wide = |priority: u16| {
        let fields = format!(
            "  priority: {priority}\n  destinations: [{{cidrs: [198.51.100.0/24]}}]\n{}",
            egress(12)
        );
        policy("wide", &fields)
    };
    let (stage, pay) = stage("prio", engine, &[narrow.clone(), wide(0)])?;
    let both = |nine| {
        [
            (Traffic::Tcp(7), "198.51.100.9", nine),
            (Traffic::Ping, "198.51.100.9", nine),
            (Traffic::Tcp(7), "198.51.100.10", EGRESS_12),
        ]
    };
    expect(&stage, &pay, &both(EGRESS_11))?;
    apply(&stage, &[narrow.clone(), wide(10)])?;
    expect(&stage, &pay, &both(EGRESS_12))?;
    apply(&stage, &[narrow, wide(0)])?;
    expect(&stage, &pay, &both(EGRESS_11))
}

/// A connection to an observer that has told the source it sees.
fn connection(container: &Container, to: &str, source: &str) -> Result<TcpStream> {
    let mut stream = Call::new(Traffic::Tcp(7), ip(to)).connect(container, 7)?;
    let mut greeting = vec![0; source.len()];
    stream.read_exact(&mut greeting).expect("a greeting");
    assert_eq!(String::from_utf8_lossy(&greeting), source);
    Ok(stream)
}

/// What was open with the old address does not go on with it when the policy has another one, and
/// not when it has gone.
fn changed_under_a_live_connection(engine: EngineKind) -> Result<()> {
    let to_bank = |last| {
        let destinations = "  destinations: [{cidrs: [198.51.100.0/24, \"2001:db8:51::/64\"]}]\n";
        policy("bank", &(destinations.to_owned() + &egress(last)))
    };
    let (stage, pay) = stage("changed", engine, &[to_bank(11)])?;
    let places = [
        ("198.51.100.9", "203.0.113.11", EGRESS_12, NODE),
        ("2001:db8:51::9", "2001:db8:113::11", EGRESS_12_V6, NODE_V6),
    ];
    let mut old = Vec::new();
    for (to, source, ..) in places {
        let bracketed = if to.contains(':') {
            format!("[{source}]:")
        } else {
            format!("{source}:")
        };
        old.push(connection(&pay, to, &bracketed)?);
    }
    apply(&stage, &[to_bank(12)])?;
    let mark = stage.lab.mark()?;
    for stream in &mut old {
        // A reset meanwhile is a good answer too.
        let _ = stream.write_all(b"more");
    }
    for (to, _, second, _) in places {
        expect(&stage, &pay, &[(Traffic::Tcp(7), to, second)])?;
        stage
            .lab
            .expect_only_sources(&mark, ip(to), &[ip(second.expect("an address"))])?;
    }
    let mut old = Vec::new();
    for (to, _, second, _) in places {
        let source = second.expect("an address");
        let bracketed = if to.contains(':') {
            format!("[{source}]:")
        } else {
            format!("{source}:")
        };
        old.push(connection(&pay, to, &bracketed)?);
    }
    let deleted = stage.run(&["delete", "bank"])?;
    assert_eq!(deleted.code(), 0, "{}{}", deleted.stdout, deleted.stderr);
    let mark = stage.lab.mark()?;
    for stream in &mut old {
        let _ = stream.write_all(b"more");
    }
    for (to, _, _, node) in places {
        expect(&stage, &pay, &[(Traffic::Tcp(7), to, node)])?;
        stage
            .lab
            .expect_only_sources(&mark, ip(to), &[ip(node.expect("an address"))])?;
    }
    Ok(())
}

on_every_engine!(
    cidrs_except_and_ports,
    several_policies,
    priorities,
    changed_under_a_live_connection,
);
