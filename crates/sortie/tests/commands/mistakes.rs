//! What users do wrong, and the one clear answer.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use insta::assert_snapshot;

use crate::agent::Agent;
use crate::{shown, sortie};

/// An unprivileged user: nobody.
const NOBODY: u32 = 65534;

fn all(commands: &[&[&str]]) -> String {
    let texts: Vec<String> = commands
        .iter()
        .map(|arguments| {
            let output = sortie(arguments).output().unwrap();
            format!("$ sortie {}\n{}\n", arguments.join(" "), shown(&output))
        })
        .collect();
    texts.concat()
}

#[test]
fn wrong_command_lines() {
    assert_snapshot!(all(&[
        &["stats"],
        &["explain", "web"],
        &["explain", "web", "example.com/api"],
        &["explain", "web", "http://example.com", "-H", "blue"],
        &["explain", "web", "203.0.113.9/udp"],
        &["run", "--address", "203.0.113.11", "curl", "example.com"],
        &[
            "run",
            "--address",
            "203.0.113.11",
            "curl",
            "-s",
            "example.com"
        ],
        &["run", "--adress", "203.0.113.11", "--", "curl"],
        &["run", "-a", "203.0.113.11", "--uplink", "eth0"],
        &["run", "--", "curl"],
        &["run", "-a", "203.0.113.11/24", "--", "curl"],
        &["attach", "web", "-a", "203.0.113.11,203.0.113.12"],
        &["attach", "web", "-a", "eth0"],
        &["verify"],
        &["verify", "--observer", "203.0.113.9"],
        &["observe", "--listen", "8080"],
        &["get", "policys"],
        &["delete"],
        &["apply"],
        &["status", "-o", "xml"],
    ]));
}

#[test]
fn wrong_names_of_files() {
    let folder = tempfile::tempdir().unwrap();
    let show = |arguments: &[&str]| {
        let mut command = sortie(arguments);
        shown(&command.current_dir(folder.path()).output().unwrap())
    };
    assert_snapshot!("no_such_file", show(&["apply", "nope.yaml"]));
    assert_snapshot!("empty_folder", show(&["validate", "."]));
    fs::write(folder.path().join("binary"), [0xff, 0xfe]).unwrap();
    assert_snapshot!("no_text", show(&["validate", "binary"]));
}

#[test]
fn no_agent() {
    assert_snapshot!(all(&[
        &["status", "--socket", "/nonexistent/agent.sock"],
        &["--socket", "/nonexistent/agent.sock", "get", "policies"],
    ]));
}

#[test]
fn an_unknown_workload() {
    // In the agent's own words.
    let agent = Agent::start(&[]);
    assert_snapshot!(agent.shown(&["explain", "nope", "203.0.113.9"]));
}

/// Runs a copy of the binary that nobody may execute too.
///
/// Another process copies it: had this one the copy open for writing, a child that another test
/// forks at that moment would inherit that, and the copy could not be executed (ETXTBSY) until the
/// child's own exec.
fn as_nobody(agent: &Agent, arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("sortie");
    let mut copy = Command::new("cp");
    copy.arg(env!("CARGO_BIN_EXE_sortie")).arg(&program);
    assert!(copy.status().unwrap().success());
    let output = Command::new(program)
        .args(arguments)
        .env("SORTIE_SOCKET", agent.socket())
        .uid(NOBODY)
        .output()
        .expect("root may become nobody");
    let shown = shown(&output);
    shown.replace(agent.socket().to_str().unwrap(), "SOCKET")
}

#[test]
fn not_root() {
    let agent = Agent::start(&[]);
    assert_snapshot!("not_root_status", as_nobody(&agent, &["status"]));
    let run = ["run", "-a", "203.0.113.11", "--", "true"];
    assert_snapshot!("not_root_run", as_nobody(&agent, &run));
    assert_eq!(agent.requests().len(), 0);
}

#[test]
fn help() {
    assert_snapshot!(all(&[
        &["--help"],
        &["run", "--help"],
        &["explain", "--help"]
    ]));
}

#[test]
fn completion() {
    for shell in ["bash", "zsh", "fish"] {
        let output = sortie(&["completion", shell]).output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains("validate"));
    }
}
