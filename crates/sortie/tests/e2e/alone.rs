//! `sortie run` on a host without an agent.

use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::sys::signal::Signal;
use sortie_lab::{Mark, Place, Process, Result, Snapshot, eventually_true};

use crate::run::{STAY, V4, V6, seen_as, started, wait_until_as};
use crate::stage::{DOCKER_20, DOCKER_29_NFTABLES, LIMIT, Stage, ip, refusal, snapshot};

/// How often it is killed; each time it is in the middle of something else.
const KILLS: u32 = 10;
/// New flows that are begun behind each kill.
const MORE: u64 = 100;

fn both() -> String {
    format!("{V4},{V6}")
}

#[test]
fn seen_as_its_address_and_nothing_stays() -> Result<()> {
    let stage = Stage::without_agent("alone", DOCKER_20)?;
    let before = snapshot(&stage.host)?;
    for name in ["first", "second"] {
        let process = started(&stage, name, &["--address", &both()], &STAY)?;
        seen_as(&stage, &process, V4, Some(V6))?;
        process.signal(Signal::SIGTERM)?;
        assert_eq!(process.wait(LIMIT)?.code(), Some(128 + 15));
        assert_eq!(before.diff(&snapshot(&stage.host)?), "");
    }
    let code = stage.run(&["run", "--address", V4, "--", "sh", "-c", "exit 37"])?;
    assert_eq!(code.code(), 37, "{}", code.stderr);
    let missing = stage.refused(&["run", "--address", V4, "--", "no-such-program"]);
    assert!(missing.contains("no-such-program"), "{missing}");
    let taken = stage.refused(&["run", "--address", "203.0.113.11", "--", "true"]);
    assert!(taken.contains("is on this host itself"), "{taken}");
    assert_eq!(before.diff(&snapshot(&stage.host)?), "");
    Ok(())
}

#[test]
fn one_at_a_time_and_none_beside_an_agent() -> Result<()> {
    let mut stage = Stage::without_agent("one", DOCKER_29_NFTABLES)?;
    let process = started(&stage, "run", &["--address", V4], &STAY)?;
    for arguments in [
        &["run", "--address", "203.0.113.22", "--", "echo", "started"][..],
        &["agent"],
        &["down"],
    ] {
        let outcome = stage.run(arguments)?;
        assert_eq!(outcome.stdout, "");
        let error = refusal(&outcome);
        assert!(
            error.contains("`sortie run` (process "),
            "{arguments:?}: {error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let attach = stage.refused(&["attach", "nobody", "--address", V4]);
    assert!(attach.contains("start it with `sortie agent`"), "{attach}");
    seen_as(&stage, &process, V4, None)?;
    process.signal(Signal::SIGTERM)?;
    process.wait(LIMIT)?;
    stage.start_agent("")?;
    let process = started(&stage, "agents", &["--address", V4], &STAY)?;
    seen_as(&stage, &process, V4, None)
}

/// New flows without end from where a command is, in both families.
struct Flood {
    stop: AtomicBool,
    sent: AtomicU64,
}

impl Flood {
    fn run(&self, place: &dyn Place, to: [IpAddr; 2]) -> Result<()> {
        place.place()?.run(|| {
            while !self.stop.load(Ordering::Relaxed) {
                for to in to {
                    let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
                    let socket = UdpSocket::bind((any, 0)).expect("a free port");
                    // Refused when the way out is closed.
                    let _ = socket.send_to(b"?", (to, 7));
                }
                self.sent.fetch_add(1, Ordering::Relaxed);
            }
        })
    }

    fn wait_for(&self, more: u64) -> Result<()> {
        let from = self.sent.load(Ordering::Relaxed);
        eventually_true(LIMIT, "the flood goes on", || {
            self.sent.load(Ordering::Relaxed) > from + more
        })
    }
}

fn left(stage: &Stage, mark: &Mark, to: IpAddr) -> Result<usize> {
    let frames = stage.lab.frames_since(mark)?;
    let left = frames.iter().filter_map(|(_, frame)| frame.left());
    Ok(left.filter(|packet| packet.destination == to).count())
}

/// Under a flood that outlives it, and on a host that would give it another address at once.
fn kill_under_flood(stage: &Stage, process: &Process) -> Result<()> {
    let to = stage.lab.destination()?;
    let pairs = [(to.v4, ip(V4)), (to.v6, ip(V6))];
    let flood = Flood {
        stop: AtomicBool::new(false),
        sent: AtomicU64::new(0),
    };
    let beginning = stage.lab.mark()?;
    std::thread::scope(|scope| {
        let flooding = scope.spawn(|| flood.run(process, [to.v4, to.v6]));
        let result = (|| {
            for (to, _) in pairs {
                eventually_true(LIMIT, "the flood arrives", || {
                    left(stage, &beginning, to).is_ok_and(|count| count > 0)
                })?;
            }
            process.kill()?;
            eventually_true(LIMIT, "the tables are gone", || {
                stage.host.netns().nft("list table inet sortie").is_err()
            })?;
            stage.lab.fence()?;
            let closed = stage.lab.mark()?;
            flood.wait_for(MORE)?;
            stage.lab.fence()?;
            for (to, source) in pairs {
                stage.lab.expect_only_sources(&closed, to, &[])?;
                stage.lab.expect_only_sources(&beginning, to, &[source])?;
            }
            Ok(())
        })();
        flood.stop.store(true, Ordering::Relaxed);
        flooding.join().expect("the flood")?;
        result
    })
}

#[test]
fn killed_it_closes_at_once() -> Result<()> {
    let stage = Stage::without_agent("closes", DOCKER_20)?;
    let host = stage.host.netns();
    host.nft("add table inet masquerades")?;
    host.nft("add chain inet masquerades out { type nat hook postrouting priority 100; }")?;
    host.nft("add rule inet masquerades out oifname up0 masquerade")?;
    let before = snapshot(&stage.host)?;
    for number in 0..KILLS {
        let name = format!("run-{number}");
        let process = started(&stage, &name, &["--address", &both()], &STAY)?;
        kill_under_flood(&stage, &process)?;
    }
    // Who comes next takes away what the last one left.
    assert_ne!(before.diff(&Snapshot::take(&stage.host)?), "");
    let next = stage.run(&["run", "--address", V4, "--", "true"])?;
    assert_eq!(next.code(), 0, "{}", next.stderr);
    wait_until_as(&stage, &before)
}

#[test]
fn killed_the_next_agent_takes_it_away() -> Result<()> {
    let mut stage = Stage::without_agent("next", DOCKER_20)?;
    let before = snapshot(&stage.host)?;
    let process = started(&stage, "run", &["--address", &both()], &STAY)?;
    process.kill()?;
    stage.start_agent("")?;
    stage.ok(&["down"]);
    wait_until_as(&stage, &before)
}
