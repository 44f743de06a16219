//! Faults of the host around the agent, each by its name: what the other side saw meanwhile.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::process::Command;
use std::{fmt, fs};

use serde_json::Value;
use sortie_lab::{
    ALL_TRAFFIC, Call, Container, ContainerSpec, Place, Result, Traffic, UplinkSpec, eventually,
};

use crate::stage::{DOCKER_20, DOCKER_29_NFTABLES, GUARD_ALL, LIMIT, Stage, ip};

const V4: &str = "203.0.113.11";
const V6: &str = "2001:db8:113::11";
/// What `attach` gives.
const DIRECT: &str = "203.0.113.21";

/// Both families and all kinds of traffic are seen with these addresses.
#[track_caller]
fn leaves(stage: &Stage, place: &dyn Place, sources: [&str; 2]) -> Result<()> {
    let to = stage.lab.destination()?;
    for traffic in ALL_TRAFFIC {
        for (to, source) in [(to.v4, sources[0]), (to.v6, sources[1])] {
            stage.lab.expect_source(place, traffic, to, ip(source))?;
        }
    }
    Ok(())
}

#[track_caller]
fn nothing_leaves(stage: &Stage, place: &dyn Place) -> Result<()> {
    let to = stage.lab.destination()?;
    for traffic in ALL_TRAFFIC {
        for to in [to.v4, to.v6] {
            stage.lab.expect_nothing(place, traffic, to)?;
        }
    }
    Ok(())
}

/// Waits until a call is answered, then checks all of them.
fn leaves_again(stage: &Stage, place: &dyn Place, sources: [&str; 2]) -> Result<()> {
    for v6 in [false, true] {
        eventually(LIMIT, "it is answered again", || {
            let to = stage.lab.destination().map_err(|error| error.to_string())?;
            let to = if v6 { to.v6 } else { to.v4 };
            let call = Call::new(Traffic::Udp(7), to).within(std::time::Duration::from_secs(1));
            call.make(place).map_err(|error| error.to_string())
        })?;
    }
    leaves(stage, place, sources)
}

fn shell(stage: &Stage, line: &str) -> Result<()> {
    let mut command = Command::new("sh");
    command.args(["-ec", line]);
    let outcome = stage.host.run(LIMIT, command)?;
    assert_eq!(outcome.code(), 0, "{line}: {}", outcome.stderr);
    Ok(())
}

/// Whether the doctor finds something by this name.
fn is_found(stage: &Stage, name: &str) -> Result<bool> {
    let findings = stage.json(&["doctor"])?;
    let mut findings = findings.as_array().into_iter().flatten();
    Ok(findings.any(|finding| finding["name"] == name))
}

/// No new connection when the kernel can track no more: none leaves untracked, and so untranslated.
/// The limit is the machine's, what counts is the host's own: so the host tracks as much as the
/// machine allows, all of it answered flows, which do not give way to new ones.
#[test]
fn a_full_conntrack_table() -> Result<()> {
    let stage = Stage::guarded("full", DOCKER_29_NFTABLES)?;
    let web = stage.labelled("web", &format!("{V4},{V6}"))?;
    let to = stage.lab.destination()?.v4;
    let mut open = Call::new(Traffic::Tcp(7), to)
        .within(LIMIT)
        .connect(&web, 7)?;
    let mut greeting = [0; 13];
    open.read_exact(&mut greeting).expect("a greeting");
    assert_eq!(&greeting, format!("{V4}:").as_bytes());
    assert!(!is_found(&stage, "conntrack-small")?);

    let flows = stage.folder().join("flows");
    let max = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max").expect("the limit");
    let max: u32 = max.trim().parse().expect("a number");
    let mut lines = String::new();
    // One more is allowed than the limit says (`__nf_conntrack_alloc`).
    for number in 0..max + 2 {
        let [a, b, c, d] = (0x0a00_0000 + number).to_be_bytes();
        fmt::write(
            &mut lines,
            format_args!(
                "-I -p tcp -s {a}.{b}.{c}.{d} -d 192.0.2.200 --sport 1000 --dport 80 \
                 --state ESTABLISHED -u ASSURED -t 600\n"
            ),
        )
        .expect("text");
    }
    fs::write(&flows, lines).expect("a file");
    let mut load = Command::new("conntrack");
    load.arg("--load-file").arg(&flows);
    let loaded = stage.host.run(LIMIT, load)?;
    assert!(
        loaded.stderr.contains("not enough memory"),
        "the table is full at last: {}",
        loaded.stderr
    );

    // A flow that ends makes room for a new one: what leaves at all is translated.
    let other = stage.lab.destination()?;
    let mark = stage.lab.mark()?;
    for traffic in ALL_TRAFFIC {
        for to in [other.v4, other.v6] {
            let call = Call::new(traffic, to).within(std::time::Duration::from_secs(1));
            let _ = call.make(&web);
        }
    }
    stage.lab.fence()?;
    stage.lab.expect_only_sources(&mark, other.v4, &[ip(V4)])?;
    stage.lab.expect_only_sources(&mark, other.v6, &[ip(V6)])?;
    // What is tracked goes on.
    let mark = stage.lab.mark()?;
    open.write_all(b"more").expect("room in the buffer");
    let mut rest = [0; 64];
    let length = open.read(&mut rest).expect("the rest of the greeting");
    assert!(length > 0, "the connection is open");
    stage.lab.fence()?;
    stage.lab.expect_only_sources(&mark, to, &[ip(V4)])?;
    for name in ["conntrack-small", "conntrack-full"] {
        assert!(is_found(&stage, name)?, "{name}");
    }

    let mut forget = Command::new("conntrack");
    forget.args(["-D", "-d", "192.0.2.200"]);
    assert_eq!(stage.host.run(LIMIT, forget)?.code(), 0);
    leaves(&stage, &web, [V4, V6])?;
    assert!(!is_found(&stage, "conntrack-small")?);
    Ok(())
}

/// As a reload of firewalld does it: all of iptables' rules and chains go, what was dropped passes,
/// and then the engine's are made anew, without ours for the attached container.
#[test]
fn the_engines_chains_made_anew() -> Result<()> {
    let mut stage = Stage::without_agent("chains", DOCKER_20)?;
    // As Docker sets it where it is who turns forwarding on.
    shell(&stage, "iptables -P FORWARD DROP")?;
    for family in ["", "6"] {
        shell(
            &stage,
            &format!("ip{family}tables-save > /run/kept{family}"),
        )?;
    }
    stage.start_agent("")?;
    let web = stage.labelled("web", &format!("{V4},{V6}"))?;
    let lonely = ContainerSpec::new("lonely").network("none");
    let lonely = stage.engine.run(&lonely)?;
    stage.ok(&["attach", "lonely", "--address", DIRECT]);
    let direct = |place: &Container| -> Result<()> {
        let to = stage.lab.destination()?.v4;
        eventually(LIMIT, "the attached container is answered", || {
            let call = Call::new(Traffic::Udp(7), to).within(std::time::Duration::from_secs(1));
            call.make(place)
        })?;
        stage
            .lab
            .expect_source(place, Traffic::Tcp(7), to, ip(DIRECT))
    };
    leaves(&stage, &web, [V4, V6])?;
    direct(&lonely)?;
    for table in ["filter", "nat", "mangle"] {
        for family in ["", "6"] {
            let iptables = format!("ip{family}tables -t {table}");
            shell(&stage, &format!("{iptables} -F; {iptables} -X"))?;
        }
    }
    for family in ["", "6"] {
        shell(&stage, &format!("ip{family}tables -P FORWARD ACCEPT"))?;
    }
    leaves(&stage, &web, [V4, V6])?;
    direct(&lonely)?;
    for family in ["", "6"] {
        shell(
            &stage,
            &format!("ip{family}tables-restore < /run/kept{family}"),
        )?;
    }
    leaves(&stage, &web, [V4, V6])?;
    // The forward chain drops again; the agent finds that its rules are gone.
    direct(&lonely)
}

fn policy(last: u8) -> String {
    format!(
        "apiVersion: sortie.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {{name: web}}\nspec:\n  workloads: [{{containers: {{names: [web]}}}}]\n  action: Egress\n  egress: {{addresses: [203.0.113.{last}, \"2001:db8:113::{last}\"]}}\n"
    )
}

/// The file systems of policies, state and sockets are full: what is in force stays, what cannot be
/// written is refused by name, what need not be written works, and `status` says what is lost.
#[test]
fn a_full_disk() -> Result<()> {
    let mut stage = Stage::without_agent("disk", DOCKER_20)?;
    let folders = [
        stage.policies().display().to_string(),
        stage.folder().join("state").display().to_string(),
        "/run/sortie".to_owned(),
    ];
    for folder in &folders {
        let mount = format!("mkdir -p {folder}; mount -t tmpfs -o size=64k tmpfs {folder}");
        shell(&stage, &mount)?;
    }
    let filler = |folder: &String| format!("{folder}/filler");
    let fill = |stage: &Stage, folder: &String| {
        let to = filler(folder);
        shell(
            stage,
            &format!("! dd if=/dev/zero of={to} bs=4096 2>/dev/null"),
        )
    };
    stage.start_agent(GUARD_ALL)?;
    let web = stage.engine.run(&ContainerSpec::new("web"))?;
    let lonely = ContainerSpec::new("lonely").network("none");
    let lonely = stage.engine.run(&lonely)?;
    // The first one changes settings, whose former values are noted too.
    let first = ContainerSpec::new("first").network("none");
    stage.engine.run(&first)?;
    stage.ok(&["attach", "first", "--address", "203.0.113.22"]);
    let links = stage.host.ip("-o link")?;
    assert_eq!(stage.apply(&policy(11))?.code(), 0);
    stage.wait_for("web", "Ready")?;
    leaves(&stage, &web, [V4, V6])?;

    for folder in &folders {
        fill(&stage, folder)?;
    }
    let refused = stage.apply(&policy(12))?;
    assert_eq!(refused.code(), 1, "{}", refused.stdout);
    assert!(
        refused.stderr.contains("No space left"),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("policy.yaml"), "{}", refused.stderr);
    leaves(&stage, &web, [V4, V6])?;
    let attach = ["attach", "lonely", "--address", DIRECT];
    let refused = stage.refused(&attach);
    assert!(refused.contains("attachments.json"), "{refused}");
    assert!(refused.contains("No space left"), "{refused}");
    assert_eq!(stage.host.ip("-o link")?, links, "nothing is left behind");

    // There is room for policies, and none for their last good copy.
    shell(&stage, &format!("rm {}", filler(&folders[0])))?;
    assert_eq!(stage.apply(&policy(12))?.code(), 0);
    leaves_again(&stage, &web, ["203.0.113.12", "2001:db8:113::12"])?;
    let status = stage.json(&["status"])?["problems"].to_string();
    assert!(status.contains("state folder"), "{status}");
    stage.kill_agent()?;
    stage.start_agent(GUARD_ALL)?;
    stage.wait_for("web", "Ready")?;
    leaves(&stage, &web, ["203.0.113.12", "2001:db8:113::12"])?;

    for folder in &folders[1..] {
        shell(&stage, &format!("rm {}", filler(folder)))?;
    }
    assert_eq!(stage.apply(&policy(11))?.code(), 0);
    leaves_again(&stage, &web, [V4, V6])?;
    let status = stage.json(&["status"])?["problems"].to_string();
    assert!(!status.contains("state folder"), "{status}");
    stage.ok(&attach);
    let to = stage.lab.destination()?.v4;
    stage
        .lab
        .expect_source(&lonely, Traffic::Tcp(7), to, ip(DIRECT))
}

/// The default route's uplink: what leads its packets elsewhere, or nowhere, closes the containers
/// whose address is there. They never leave by the other uplink.
#[test]
fn the_first_uplink_loses_its_way() -> Result<()> {
    let uplinks = [
        UplinkSpec::new(&["203.0.113.5/24", "2001:db8:113::5/64"]),
        UplinkSpec::new(&["192.0.2.5/24", "2001:db8:2::5/64"]),
    ];
    let mut stage = Stage::with_uplinks("way", DOCKER_29_NFTABLES, uplinks)?;
    for address in ["203.0.113.11/32", "2001:db8:113::11/128 nodad"] {
        stage.host.ip(&format!("addr add {address} dev up0"))?;
    }
    stage.start_agent("")?;
    let web = stage.labelled("web", &format!("{V4},{V6}"))?;
    leaves(&stage, &web, [V4, V6])?;

    // A static route of the host's leads one destination to the other uplink.
    let to = stage.lab.destination()?;
    for (flag, to, gateway) in [("", to.v4, "192.0.2.1"), ("-6 ", to.v6, "2001:db8:2::1")] {
        let route = format!("{to} via {gateway} dev up1");
        stage.host.ip(&format!("{flag}route add {route}"))?;
        for traffic in ALL_TRAFFIC {
            stage.lab.expect_nothing(&web, traffic, to)?;
        }
        let dropped = |drop: &Value| drop["to"] == to.to_string();
        let drop = eventually(LIMIT, "the drop is told", || {
            let drops = stage.ok(&["drops", "-o", "json"]);
            let drops = drops
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok());
            let found: Option<Value> = drops.into_iter().find(dropped);
            found.ok_or("not yet")
        })?;
        assert_eq!(drop["reason"], "wrong-uplink", "{drop}");
        stage.host.ip(&format!("{flag}route del {route}"))?;
    }
    leaves(&stage, &web, [V4, V6])?;

    // Without carrier; its routes stay, and lead nowhere.
    let far_end = |state| {
        let internet = stage.lab.internet().netns();
        internet.ip(&format!("link set port1 {state}"))
    };
    far_end("down")?;
    nothing_leaves(&stage, &web)?;
    far_end("up")?;
    leaves_again(&stage, &web, [V4, V6])?;

    // Its default route goes; the host's own packets leave by the other uplink from then on.
    for (flag, gateway, source) in [
        ("", "203.0.113.1", "192.0.2.5"),
        ("-6 ", "2001:db8:113::1", "2001:db8:2::5"),
    ] {
        let pick =
            |to: sortie_lab::Destination| -> IpAddr { if flag.is_empty() { to.v4 } else { to.v6 } };
        stage
            .host
            .ip(&format!("{flag}route del default via {gateway}"))?;
        let to = pick(stage.lab.destination()?);
        stage
            .lab
            .expect_source(&stage.host, Traffic::Tcp(7), to, ip(source))?;
        let to = pick(stage.lab.destination()?);
        for traffic in ALL_TRAFFIC {
            stage.lab.expect_nothing(&web, traffic, to)?;
        }
        stage.wait_for("web", "Blocked")?;
        let line = format!("{flag}route add default via {gateway} dev up0 metric 100");
        stage.host.ip(&line)?;
        stage.wait_for("web", "Ready")?;
    }
    leaves_again(&stage, &web, [V4, V6])
}
