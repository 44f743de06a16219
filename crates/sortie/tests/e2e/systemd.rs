//! The agent under a service manager: readiness, watchdog, and the socket that owns the tables
//! kept while no process of ours lives. The manager is a stand-in that speaks its protocol.

use nix::sys::signal::Signal;
use sortie_lab::{Host, HostSpec, Lab, Process, Result, Traffic, UplinkSpec, eventually};

use crate::manager::Manager;
use crate::stage::{LIMIT, ip, sortie};

/// What `sortie run` gets.
const ADDRESS: &str = "203.0.113.21";

/// Starts the agent, without an engine.
fn start(manager: &Manager, host: &Host, name: &str) -> Result<Process> {
    let at = |name: &str| host.folder().join(name).display().to_string();
    let (config, policies, state) = (at("agent.yaml"), at("policies"), at("state"));
    let docker = at("no-engine.sock");
    let mut arguments = vec!["agent", "--log-format", "json"];
    arguments.extend(["--config", &config, "--policies", &policies]);
    arguments.extend(["--state", &state, "--docker", &docker]);
    let asks = [("WATCHDOG_USEC", "400000")];
    manager.start(host, name, &arguments, &asks)
}

/// Runs `sortie ARGUMENTS` in the host: what it printed.
fn ok(host: &Host, arguments: &[&str]) -> Result<String> {
    let mut command = sortie();
    command.args(arguments);
    let outcome = host.run(LIMIT, command)?;
    assert_eq!(outcome.code(), 0, "{arguments:?}: {}", outcome.stderr);
    Ok(outcome.stdout)
}

/// A process with an address of its own arrives with it, so our tables were edited.
fn leaves_with_its_address(lab: &Lab, host: &Host, name: &str) -> Result<()> {
    let mut command = sortie();
    command.args(["run", "--address", ADDRESS, "--"]);
    command.args(["sh", "-c", "echo ready; exec sleep infinity"]);
    let process = host.spawn(name, command)?;
    eventually(LIMIT, "the command runs", || {
        match process.stdout().map_err(|error| error.to_string())? {
            said if said.contains("ready") => Ok(()),
            _ => Err(process.tail()),
        }
    })?;
    let to = lab.destination()?;
    lab.expect_source(&process, Traffic::Tcp(7), to.v4, ip(ADDRESS))?;
    process.signal(Signal::SIGTERM)?;
    process.wait(LIMIT)?;
    Ok(())
}

#[test]
fn the_tables_stay_owned_while_the_service_restarts() -> Result<()> {
    let lab = Lab::new("systemd")?;
    let uplink = UplinkSpec::new(&["203.0.113.5/24"]);
    let host = lab.host(&HostSpec::new("h1").uplink(uplink))?;
    let manager = Manager::new(&host);

    let agent = start(&manager, &host, "first")?;
    manager.heard("READY=1", 1)?;
    assert_eq!(manager.kept(), ["sortie-tables"], "before it is ready");
    let tables = host.netns().nft("list tables")?;
    assert_eq!(tables.matches(" sortie").count(), 3, "{tables}");
    manager.heard("WATCHDOG=1", 3)?;
    leaves_with_its_address(&lab, &host, "run-1")?;

    // As `systemctl restart`: both end, and only the manager holds the socket.
    agent.signal(Signal::SIGTERM)?;
    manager.heard("STOPPING=1", 1)?;
    agent.wait(LIMIT)?;
    is_json(&agent)?;
    host.netns().nft("flush ruleset")?;
    let still = host.netns().nft("list tables")?;
    assert_eq!(still, tables, "owned tables cannot be flushed");

    manager.forgets_what_was_said();
    let agent = start(&manager, &host, "second")?;
    manager.heard("READY=1", 1)?;
    leaves_with_its_address(&lab, &host, "run-2")?;
    ok(&host, &["down"])?;
    agent.wait(LIMIT)?;
    assert_eq!(manager.kept(), ["sortie-tables"], "it was given once");
    assert_eq!(host.netns().nft("list tables")?, "");
    Ok(())
}

/// Each line of the log is an object, and each step one with its fields.
fn is_json(agent: &Process) -> Result<()> {
    let log = agent.stderr()?;
    let mut steps = 0;
    for line in log.lines() {
        let line: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(
            line["timestamp"].is_string() && line["level"].is_string(),
            "{line}"
        );
        if line["target"] == "sortie::audit" {
            assert!(
                line["step"].is_string() && line["object"].is_string(),
                "{line}"
            );
            steps += 1;
        }
    }
    assert!(steps > 0, "{log}");
    Ok(())
}
