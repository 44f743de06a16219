//! `sortie run`: a process that leaves with an address of its own.

use nix::sys::signal::Signal;
use sortie_lab::{
    ALL_TRAFFIC, Place, Process, Result, Snapshot, UplinkSpec, eventually, eventually_true,
};

use crate::stage::{DOCKER_20, DOCKER_29_NFTABLES, LIMIT, Stage, ip, snapshot};

/// On the uplink's subnet, and on no interface of the host.
pub(crate) const V4: &str = "203.0.113.21";
pub(crate) const V6: &str = "2001:db8:113::21";
/// What a command that stays does.
pub(crate) const STAY: [&str; 3] = ["sh", "-c", "echo ready; exec sleep infinity"];

fn stage(name: &str) -> Result<Stage> {
    Stage::new(name, DOCKER_20)
}

/// Starts `sortie run` with a command, and waits until that runs.
pub(crate) fn started(
    stage: &Stage,
    name: &str,
    egress: &[&str],
    command: &[&str],
) -> Result<Process> {
    let arguments = [&["run"], egress, &["--"], command].concat();
    let process = stage.spawn(name, &arguments)?;
    eventually(LIMIT, "the command runs", || {
        let said = process.stdout().map_err(|error| error.to_string())?;
        if said.contains("ready") {
            Ok(())
        } else {
            Err(process.tail())
        }
    })?;
    Ok(process)
}

pub(crate) fn seen_as(stage: &Stage, place: &dyn Place, v4: &str, v6: Option<&str>) -> Result<()> {
    let to = stage.lab.destination()?;
    for traffic in ALL_TRAFFIC {
        stage.lab.expect_source(place, traffic, to.v4, ip(v4))?;
        if let Some(v6) = v6 {
            stage.lab.expect_source(place, traffic, to.v6, ip(v6))?;
        }
    }
    Ok(())
}

/// Waits until the host is as it was: our tables' elements included.
pub(crate) fn wait_until_as(stage: &Stage, before: &Snapshot) -> Result<()> {
    eventually(LIMIT, "the host is as before", || {
        let now = Snapshot::take(&stage.host).map_err(|error| error.to_string())?;
        match before.diff(&now) {
            same if same.is_empty() => Ok(()),
            different => Err(different),
        }
    })
}

#[test]
fn seen_as_its_address() -> Result<()> {
    let stage = stage("run")?;
    let before = snapshot(&stage.host)?;
    let both = format!("{V4},{V6}");
    let process = started(&stage, "run", &["--address", &both], &STAY)?;
    seen_as(&stage, &process, V4, Some(V6))?;
    let own = process.place()?.ip("-o addr show scope global")?;
    assert!(own.contains(&format!(" {V4}/32")), "{own}");
    assert!(own.contains(&format!(" {V6}/128")), "{own}");
    process.signal(Signal::SIGTERM)?;
    process.wait(LIMIT)?;
    wait_until_as(&stage, &before)
}

#[test]
fn two_at_once_leave_with_two_addresses() -> Result<()> {
    let stage = Stage::new("two", DOCKER_29_NFTABLES)?;
    let one = started(&stage, "one", &["--address", V4], &STAY)?;
    let two = started(&stage, "two", &["--address", "203.0.113.22"], &STAY)?;
    seen_as(&stage, &one, V4, None)?;
    seen_as(&stage, &two, "203.0.113.22", None)?;
    seen_as(&stage, &one, V4, None)
}

#[test]
fn the_exit_code_is_the_commands() -> Result<()> {
    let stage = stage("code")?;
    let run = |script: &str| stage.run(&["run", "--address", V4, "--", "sh", "-c", script]);
    assert_eq!(run("exit 0")?.code(), 0);
    assert_eq!(run("exit 37")?.code(), 37);
    assert_eq!(run("kill -KILL $$")?.code(), 128 + 9);
    let spoke = run("echo out; echo err >&2")?;
    assert_eq!(
        (spoke.stdout.as_str(), spoke.stderr.as_str()),
        ("out\n", "err\n")
    );
    let missing = stage.refused(&["run", "--address", V4, "--", "no-such-program"]);
    assert!(
        missing.contains("cannot start `no-such-program`"),
        "{missing}"
    );
    Ok(())
}

#[test]
fn a_signal_goes_on_to_the_command() -> Result<()> {
    let stage = stage("signal")?;
    let before = snapshot(&stage.host)?;
    let trap = "trap 'echo told; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    let process = started(&stage, "run", &["--address", V4], &["sh", "-c", trap])?;
    process.signal(Signal::SIGTERM)?;
    assert_eq!(process.wait(LIMIT)?.code(), Some(5));
    assert_eq!(process.stdout()?, "ready\ntold\n");
    wait_until_as(&stage, &before)
}

#[test]
fn killed_the_agent_takes_it_away() -> Result<()> {
    let stage = stage("killed")?;
    let before = snapshot(&stage.host)?;
    let process = started(&stage, "run", &["--address", V4], &STAY)?;
    process.kill()?;
    wait_until_as(&stage, &before)
}

#[test]
fn killed_while_the_agent_is_away_the_next_agent_takes_it_away() -> Result<()> {
    let mut stage = stage("orphan")?;
    let before = snapshot(&stage.host)?;
    let process = started(&stage, "run", &["--address", V4], &STAY)?;
    stage.kill_agent()?;
    process.kill()?;
    stage.start_agent("")?;
    wait_until_as(&stage, &before)
}

#[test]
fn the_agents_death_and_return_interrupt_nothing() -> Result<()> {
    let mut stage = stage("away")?;
    let before = snapshot(&stage.host)?;
    let both = format!("{V4},{V6}");
    let process = started(&stage, "run", &["--address", &both], &STAY)?;
    stage.kill_agent()?;
    seen_as(&stage, &process, V4, Some(V6))?;
    stage.start_agent("")?;
    seen_as(&stage, &process, V4, Some(V6))?;
    let known = stage.workload("sh").expect("the new agent knows it");
    assert_eq!(known["state"], "Ready", "{known}");
    process.signal(Signal::SIGTERM)?;
    process.wait(LIMIT)?;
    wait_until_as(&stage, &before)
}

#[test]
fn it_leaves_by_the_uplink_that_is_named() -> Result<()> {
    let uplinks = [
        UplinkSpec::new(&["203.0.113.5/24", "2001:db8:113::5/64"]),
        UplinkSpec::new(&["192.0.2.5/24", "2001:db8:2::5/64"]),
    ];
    let mut stage = Stage::with_uplinks("via", DOCKER_20, uplinks)?;
    stage.start_agent("")?;
    let egress = ["--address", "192.0.2.21,2001:db8:2::21", "--via", "up1"];
    let process = started(&stage, "run", &egress, &STAY)?;
    let mark = stage.lab.mark()?;
    seen_as(&stage, &process, "192.0.2.21", Some("2001:db8:2::21"))?;
    for (uplink, frame) in stage.lab.frames_since(&mark)? {
        if let Some(packet) = frame.left()
            && [ip("192.0.2.21"), ip("2001:db8:2::21")].contains(&packet.source)
        {
            assert_eq!(uplink, "h1 up1", "{frame}");
        }
    }
    let wrong = stage.refused(&["run", "--address", V4, "--via", "up7", "--", "true"]);
    assert!(wrong.contains("up7"), "{wrong}");
    Ok(())
}

#[test]
fn an_address_that_is_not_free_is_refused() -> Result<()> {
    let stage = stage("taken")?;
    let before = snapshot(&stage.host)?;
    let on_the_host = stage.refused(&["run", "--address", "203.0.113.5", "--", "true"]);
    assert!(
        on_the_host.contains("203.0.113.5 is on this host itself (up0)"),
        "{on_the_host}"
    );
    let process = started(&stage, "run", &["--address", V4], &STAY)?;
    let in_use = stage.refused(&["run", "--address", V4, "--", "true"]);
    assert!(
        in_use.contains(&format!("{V4} belongs to sh already")),
        "{in_use}"
    );
    seen_as(&stage, &process, V4, None)?;
    drop(process);
    wait_until_as(&stage, &before)
}

#[test]
fn what_the_command_leaves_running_loses_its_way_out() -> Result<()> {
    let stage = stage("left")?;
    let before = snapshot(&stage.host)?;
    let outcome = stage.run(&[
        "run",
        "--address",
        V4,
        "--",
        "sh",
        "-c",
        "sleep 1000 >/dev/null 2>&1 & echo $!",
    ])?;
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    wait_until_as(&stage, &before)?;
    let pid = outcome.stdout.trim();
    eventually_true(LIMIT, "it has no interface", || {
        let table = stage.host.path(&format!("/proc/{pid}/net/dev"));
        std::fs::read_to_string(table).is_ok_and(|text| text.lines().skip(2).count() == 1)
    })
}
