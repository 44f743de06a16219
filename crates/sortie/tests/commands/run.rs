//! `sortie run`: its namespace, its signals, its end. Needs root.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::agent::Agent;

/// For what must come.
const GENEROUS: Duration = Duration::from_secs(20);

/// An agent that says it has made the interface.
fn agent() -> Agent {
    let attachment = json!({"owner": "run/1", "interface": "sortie1",
        "addresses": ["203.0.113.11"], "uplink": "eth0"});
    Agent::start(&[
        ("POST /v1/attachments", attachment.to_string()),
        ("DELETE /v1/attachments/run%2F1", "{}".to_owned()),
    ])
}

fn arguments(script: &str) -> [&str; 7] {
    ["run", "-a", "203.0.113.11", "--", "/bin/sh", "-c", script]
}

/// Starts a script, and waits for the first line that it prints.
fn started(agent: &Agent, script: &str) -> (Child, String, impl Read) {
    let mut child = agent
        .command(&arguments(script))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    (child, line.trim().to_owned(), stdout)
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().unwrap())
}

#[test]
fn a_namespace_of_its_own_and_back() {
    let agent = agent();
    let script = "echo $PPID; readlink /proc/self/ns/net; ls /sys >/dev/null; exit 7";
    let output = agent
        .command(&[
            "run",
            "-a",
            "203.0.113.11,2001:db8::11",
            "--via",
            "eth7",
            "--",
            "/bin/sh",
        ])
        .args(["-c", script])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let (parent, namespace) = printed.trim().split_once('\n').unwrap();
    let mine = fs::read_link("/proc/self/ns/net").unwrap();
    assert_ne!(namespace, mine.to_str().unwrap());
    let parent: u32 = parent.parse().unwrap();
    let asked = agent.asked();
    assert_eq!(
        asked[0].body,
        json!({"to": {"process": {"pid": parent, "owner": parent, "name": "sh"}},
            "addresses": ["203.0.113.11", "2001:db8::11"], "via": "eth7"})
    );
    assert_eq!(asked[1].request, "DELETE /v1/attachments/run%2F1");
    assert_eq!(asked.len(), 2);
}

#[test]
fn the_agent_may_look_at_the_namespace_while_it_lasts() {
    let agent = agent();
    let (mut child, namespace, _stdout) = started(&agent, "readlink /proc/self/ns/net; read line");
    let seen = fs::read_link(format!("/proc/{}/ns/net", child.id())).unwrap();
    assert_eq!(namespace, seen.to_str().unwrap());
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn signals_go_on() {
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        let agent = agent();
        let name = signal.as_str().strip_prefix("SIG").unwrap();
        let script = format!("trap 'echo got {name}; exit 3' {name}; echo ready; read line");
        let (mut child, line, mut stdout) = started(&agent, &script);
        assert_eq!(line, "ready");
        kill(pid(&child), signal).unwrap();
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, format!("got {name}\n"));
        assert_eq!(child.wait().unwrap().code(), Some(3));
        assert_eq!(
            agent.requests().len(),
            2,
            "{signal}: the interface is given back"
        );
    }
}

#[test]
fn a_signals_exit_code() {
    let agent = agent();
    let output = agent.command(&arguments("kill -KILL $$")).output().unwrap();
    assert_eq!(output.status.code(), Some(128 + 9));
    assert_eq!(agent.requests().len(), 2);
}

#[test]
fn killed_with_its_command() {
    let agent = agent();
    let (mut child, command, mut stdout) = started(&agent, "echo $$; read line; echo alive");
    // Its standard input stays open here, so that only the signal can end it.
    let _stdin = child.stdin.take();
    kill(pid(&child), Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    // Its standard output ends when the command does.
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    let until = Instant::now() + GENEROUS;
    while runs(&command) {
        assert!(Instant::now() < until, "{command} is still there");
        std::thread::yield_now();
    }
}

/// Whether a process is there, and no zombie that nobody waits for.
fn runs(process: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status"));
    status.is_ok_and(|status| !status.contains("State:\tZ"))
}

#[test]
fn nothing_runs_without_the_interface() {
    let agent = Agent::start(&[]);
    let output = agent.command(&arguments("echo ran")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "sortie: nothing prepared for POST /v1/attachments\n"
    );
}

#[test]
fn a_command_that_is_not_there() {
    let agent = agent();
    let output = agent
        .command(&["run", "-a", "203.0.113.11", "--", "/nonexistent/program"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "sortie: cannot start `/nonexistent/program`: No such file or directory (os error 2)\n"
    );
    assert_eq!(agent.requests().len(), 2, "the interface is given back");
}
