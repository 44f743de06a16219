//! `flows` and `drops`: lines as they come.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::sortie;

fn lines(items: &[Value]) -> String {
    let lines: Vec<String> = items.iter().map(|item| format!("{item}\n")).collect();
    lines.concat()
}

fn flow() -> Value {
    json!({"time": "2026-01-01T00:00:00Z", "event": "new", "workload": "web", "protocol": "tcp",
        "from": "172.17.0.2", "to": "198.51.100.1", "port": 443, "expected": "203.0.113.11",
        "actual": "203.0.113.11", "verdict": "right"})
}

#[test]
fn flows() {
    let icmp = json!({"time": "2026-01-01T00:00:01Z", "event": "end",
        "workload": "a-workload-with-a-long-name", "protocol": "icmp", "from": "2001:db8:1::2",
        "to": "2001:db8::9", "actual": "2001:db8::1", "verdict": "any", "bytes": 168});
    let agent = Agent::start(&[("GET /v1/flows", lines(&[flow(), icmp]))]);
    assert_snapshot!("flows", agent.shown(&["flows"]));
    assert_snapshot!(
        "flows_json",
        agent.shown(&["flows", "--follow", "-o", "json"])
    );
    assert_snapshot!("flows_yaml", agent.shown(&["flows", "-o", "yaml"]));
    assert_eq!(
        agent.requests(),
        [
            "GET /v1/flows?follow=false",
            "GET /v1/flows?follow=true",
            "GET /v1/flows?follow=false"
        ]
    );
}

#[test]
fn drops() {
    let known = json!({"time": "2026-01-01T00:00:00Z", "reason": "wrong-source",
        "meaning": "it would have left with an address that its policy does not allow",
        "workload": "web", "protocol": "udp", "from": "172.17.0.2", "fromPort": 4711,
        "to": "2001:db8::9", "toPort": 53, "output": "eth0"});
    let unknown = json!({"time": "2026-01-01T00:00:01Z", "reason": "identity",
        "meaning": "the frame claimed another workload's port, MAC or IP", "protocol": "arp"});
    let agent = Agent::start(&[("GET /v1/drops", lines(&[known, unknown]))]);
    assert_snapshot!("drops", agent.shown(&["drops"]));
}

/// Each line is there as soon as the agent has sent it; an agent that goes away is an error.
#[test]
fn following() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut child = sortie(&["flows", "--follow", "-o", "json"])
        .env("SORTIE_SOCKET", &socket)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut agent, _) = listener.accept().unwrap();
    let mut request = [0; 1024];
    assert_ne!(agent.read(&mut request).unwrap(), 0);
    agent
        .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        .unwrap();
    let mut printed = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..2 {
        let line = flow().to_string() + "\n";
        write!(agent, "{:x}\r\n{line}\r\n", line.len()).unwrap();
        let mut read = String::new();
        printed.read_line(&mut read).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&read).unwrap(), flow());
    }
    drop(agent);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("sortie: the connection to the agent broke during GET /v1/flows"));
}

/// As with `sortie flows | head -1`.
#[test]
fn a_reader_that_has_seen_enough() {
    let many = vec![flow(); 5000];
    let agent = Agent::start(&[("GET /v1/flows", lines(&many))]);
    let mut child = agent
        .command(&["flows"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}
