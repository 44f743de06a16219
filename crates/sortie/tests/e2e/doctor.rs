//! `sortie doctor`: a healthy host has no finding, and each planted fault is found by its name.

use std::fs;
use std::process::Command;

use nfnetlink::table::Flags;
use nfnetlink::{Family, Table};
use nix::sys::signal::Signal;
use serde_json::Value;
use sortie_lab::{EngineKind, Host, HostSpec, Lab, Process, Result, UplinkSpec, eventually};

use crate::stage::{LIMIT, Stage, sortie};

/// A policy with an address on each uplink.
const POLICY: &str = "\
apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: partner}
spec:
  workloads:
  - containers: {labels: {app: web}}
  action: Egress
  egress: {addresses: [203.0.113.11, \"2001:db8:113::11\"]}
---
apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: bank}
spec:
  workloads:
  - containers: {labels: {app: shop}}
  action: Egress
  egress: {addresses: [192.0.2.11]}
";

/// A host with two uplinks, a bridge and an agent; no engine, since no fault here needs one.
/// Dropped in this order.
struct Patient {
    agent: Option<Process>,
    host: Host,
    _lab: Lab,
}

impl Patient {
    fn new(name: &str) -> Result<Self> {
        let lab = Lab::new(name)?;
        let first = UplinkSpec::new(&["203.0.113.5/24", "2001:db8:113::5/64"]);
        let second = UplinkSpec::new(&["192.0.2.5/24"]);
        let host = lab.host(&HostSpec::new("h1").uplink(first).uplink(second))?;
        for line in [
            "addr add 203.0.113.11/32 dev up0",
            "addr add 2001:db8:113::11/128 dev up0 preferred_lft 0 nodad",
            "addr add 192.0.2.11/32 dev up1",
            "link add br-app type bridge",
            "addr add 10.77.1.1/24 dev br-app",
            "link set br-app up",
        ] {
            host.ip(line)?;
        }
        let netns = host.netns();
        netns.set_sysctl("net.ipv4.ip_forward", "1")?;
        for name in ["all", "up1"] {
            netns.set_sysctl(&format!("net.ipv4.conf.{name}.rp_filter"), "0")?;
        }
        // Only where the module is loaded.
        for call in ["iptables", "ip6tables"] {
            let _ = netns.set_sysctl(&format!("net.bridge.bridge-nf-call-{call}"), "0");
        }
        Ok(Self {
            agent: None,
            host,
            _lab: lab,
        })
    }

    /// Starts an agent that knows the policies, and waits until its tables stand.
    fn start_agent(&mut self) -> Result<()> {
        let folder = self.host.folder();
        let policies = folder.join("policies");
        fs::create_dir_all(&policies).expect("a folder");
        fs::write(policies.join("policies.yaml"), POLICY).expect("a file");
        let mut command = sortie();
        command.arg("agent");
        command.arg("--config").arg(folder.join("agent.yaml"));
        command.arg("--policies").arg(policies);
        command.arg("--state").arg(folder.join("state"));
        command.arg("--docker").arg(folder.join("no-engine.sock"));
        self.agent = Some(self.host.spawn("agent", command)?);
        self.is_found_not("agent-absent")?;
        eventually(LIMIT, "the tables stand", || {
            let tables = self.host.netns().nft("list tables");
            let tables = tables.map_err(|error| error.to_string())?;
            let ours = ["bridge sortie", "inet sortie", "netdev sortie"];
            if ours.iter().all(|table| tables.contains(table)) {
                Ok(())
            } else {
                Err(tables)
            }
        })
    }

    /// What the doctor finds, and its exit code.
    fn findings(&self) -> Result<(Vec<Value>, i32)> {
        findings(&self.host)
    }

    /// Waits until a finding is there: the agent hears of a change a moment later.
    fn is_found(&self, name: &str, object: &str) -> Result<Value> {
        eventually(LIMIT, &format!("{name} {object} is found"), || {
            let (findings, code) = self.findings().map_err(|error| error.to_string())?;
            let found = findings
                .iter()
                .find(|finding| finding["name"] == name && finding["object"] == object);
            let found = found.ok_or_else(|| format!("{findings:?}"))?.clone();
            assert!(found["why"].as_str().is_some_and(|why| !why.is_empty()));
            let bad = findings.iter().any(|finding| finding["severity"] != "Note");
            assert_eq!(code, i32::from(bad), "{findings:?}");
            Ok::<_, String>(found)
        })
    }

    fn is_found_not(&self, name: &str) -> Result<()> {
        eventually(LIMIT, &format!("{name} is gone"), || {
            let (findings, _) = self.findings().map_err(|error| error.to_string())?;
            match findings.iter().find(|finding| finding["name"] == name) {
                None => Ok(()),
                Some(finding) => Err(finding.to_string()),
            }
        })
    }

    /// Plants a fault, sees it found, and sees it gone once the printed line was run.
    fn fault(&self, plant: &str, name: &str, object: &str) -> Result<()> {
        self.shell(plant)?;
        let finding = self.is_found(name, object)?;
        let fix = finding["fix"].as_str().expect("a line");
        let (line, _) = fix.split_once("; for Docker ").unwrap_or((fix, ""));
        let line = line.replace("HOST_ADDRESS", "203.0.113.5");
        let (line, _) = line.split_once("; let its program ").unwrap_or((&line, ""));
        self.shell(line)?;
        self.is_found_not(name)
    }

    fn shell(&self, line: &str) -> Result<()> {
        let mut command = Command::new("sh");
        command.args(["-ec", line]);
        let outcome = self.host.run(LIMIT, command)?;
        assert_eq!(outcome.code(), 0, "{line}: {}", outcome.stderr);
        Ok(())
    }
}

fn findings(host: &Host) -> Result<(Vec<Value>, i32)> {
    let mut command = sortie();
    command.args(["doctor", "-o", "json"]);
    let outcome = host.run(LIMIT, command)?;
    let findings: Value = serde_json::from_str(&outcome.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", outcome.stdout, outcome.stderr));
    let findings = findings.as_array().expect("a list").clone();
    Ok((findings, outcome.code()))
}

#[test]
fn finds_planted_faults_by_name_with_an_agent() -> Result<()> {
    let mut patient = Patient::new("doctor")?;
    patient.start_agent()?;
    assert_eq!(patient.findings()?, (Vec::new(), 0), "healthy");
    for (plant, name, object) in [
        (
            "sysctl -w net.ipv4.ip_forward=0",
            "forwarding-off",
            "net/ipv4/ip_forward",
        ),
        (
            "ip addr del 203.0.113.11/32 dev up0",
            "address-missing",
            "203.0.113.11",
        ),
        (
            "ip addr change 2001:db8:113::11/128 dev up0 preferred_lft forever",
            "address-selectable",
            "2001:db8:113::11",
        ),
        (
            "ip route change default via 203.0.113.1 dev up0 metric 100 src 203.0.113.11",
            "address-selectable",
            "203.0.113.11",
        ),
        (
            "nft 'add table ip other; add chain ip other post { type nat hook postrouting priority 99; }'",
            "nat-before-ours",
            "ip other post",
        ),
        (
            "nft 'add table inet wall; add chain inet wall routed { type filter hook forward priority 0; policy drop; }'",
            "forward-drop",
            "inet wall routed",
        ),
        ("ip link set up1 mtu 1400", "mtu-mismatch", "br-app"),
    ] {
        patient.fault(plant, name, object)?;
    }
    // The agent repairs these by itself, twice a minute: planted until they are seen.
    for (plant, name, object) in [
        (
            "sysctl -w net.ipv4.conf.up1.rp_filter=1 net.ipv4.conf.all.rp_filter=1",
            "rp-filter-strict",
            "up1",
        ),
        (
            "ip rule add pref 50 fwmark 0x10/0xff lookup main || true",
            "mark-clash",
            "ip rule pref 50 fwmark 0x10/0xff",
        ),
    ] {
        eventually(LIMIT, &format!("{name} is found"), || {
            patient.shell(plant).map_err(|error| error.to_string())?;
            let (findings, _) = patient.findings().map_err(|error| error.to_string())?;
            let found = findings
                .iter()
                .any(|finding| finding["name"] == name && finding["object"] == object);
            if found {
                Ok(())
            } else {
                Err(format!("{findings:?}"))
            }
        })?;
    }
    patient.shell("ip rule del pref 50; sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.up1.rp_filter=2")?;
    assert_eq!(patient.findings()?, (Vec::new(), 0), "healthy again");
    patient.shell("iptables-legacy -A FORWARD -j ACCEPT")?;
    patient.is_found("iptables-legacy-present", "filter")?;
    Ok(())
}

#[test]
fn finds_planted_faults_by_name_without_an_agent() -> Result<()> {
    let mut patient = Patient::new("doctor-alone")?;
    let (found, code) = patient.findings()?;
    assert_eq!(code, 0, "{found:?}");
    assert_eq!(found.len(), 1, "{found:?}");
    patient.is_found("agent-absent", "agent")?;

    // Somebody else owns a table of our name, for as long as its socket is open.
    let holder = patient.host.netns().run(|| {
        let mut socket = nfnetlink::Socket::open()?;
        let mut batch = nfnetlink::Batch::new();
        batch.add_table(&Table::new(Family::Inet, "sortie").flags(Flags::OWNER));
        socket.commit(&batch)?;
        Ok::<_, nfnetlink::Error>(socket)
    })?;
    let holder = holder.expect("an owned table");
    patient.is_found("table-held", "inet sortie")?;
    drop(holder);
    patient.is_found_not("table-held")?;

    // Tables outlive the agent; a renamed uplink leaves the last line.
    patient.start_agent()?;
    let agent = patient.agent.take().expect("an agent");
    agent.signal(Signal::SIGTERM)?;
    agent.wait(LIMIT)?;
    patient.is_found("agent-absent", "agent")?;
    patient.is_found_not("uplink-unhooked")?;
    patient.shell(
        "ip link set up0 down; ip link set up0 name wan0; ip link set wan0 up
         ip route add default via 203.0.113.1 dev wan0 metric 100",
    )?;
    patient.is_found("uplink-unhooked", "wan0")?;
    Ok(())
}

/// What a real engine does to its host is no fault.
fn finds_nothing_on_a_docker_host(engine: EngineKind) -> Result<()> {
    let stage = Stage::new("doctor-docker", engine)?;
    stage.labelled("web", "203.0.113.11,2001:db8:113::11")?;
    let (found, code) = findings(&stage.host)?;
    assert_eq!(code, 0, "{found:#?}");
    let text = stage.ok(&["doctor"]);
    assert!(
        !text.contains("Error") && !text.contains("Warning"),
        "{text}"
    );
    Ok(())
}

on_every_engine!(finds_nothing_on_a_docker_host);

/// A user's own Podman has a monitor for each container. A program of that name is enough here: the
/// lab has no users.
#[test]
fn finds_rootless_containers() -> Result<()> {
    let patient = Patient::new("doctor-rootless")?;
    patient.is_found_not("rootless-unmanaged")?;
    let monitor = patient.host.folder().join("conmon");
    fs::copy("/bin/sleep", &monitor).expect("a program");
    let run = |user: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", user, "--clear-groups"]);
        command.arg(&monitor).arg("2147483647");
        patient.host.spawn("monitor", command)
    };
    let _of_root = run("0")?;
    let _of_a_user = run("4242")?;
    patient.is_found("rootless-unmanaged", "user 4242")?;
    Ok(())
}
