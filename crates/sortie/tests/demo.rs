//! `sortie demo` as a user runs it: every row right, in JSON, with exit code 0; nothing left behind.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Step, workload, policy, and the last part of the expected address; none where nothing may leave.
type Expected = (
    &'static str,
    &'static str,
    &'static str,
    Option<&'static str>,
);

const STEPS: [&str; 3] = ["1 all runs", "2 kill -9, addr del", "3 restart, addr add"];

#[test]
fn every_row_is_right() {
    let output = Command::new(env!("CARGO_BIN_EXE_sortie"))
        .args(["demo", "-o", "json"])
        .output()
        .expect("the demo starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}; standard error:\n{errors}"));
    assert_eq!(rows, expected_rows(), "{errors}");
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(errors.contains("demo: taking the lab down"), "{errors}");
}

#[test]
fn a_signal_takes_the_lab_down() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_sortie"))
        .arg("demo")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the demo starts");
    let mut errors = BufReader::new(demo.stderr.take().expect("a pipe"));
    let mut said = String::new();
    // Then there are a host, an engine and its processes to take down.
    while !said.contains("demo: Docker ") {
        assert_ne!(errors.read_line(&mut said).expect("a line"), 0, "{said}");
    }
    let labs = std::env::temp_dir().join("sortie-lab");
    let lab = labs.join(format!("demo-{}-0", demo.id()));
    assert!(lab.is_dir(), "{} is the lab's folder", lab.display());
    let pid = i32::try_from(demo.id()).expect("a process id");
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("a signal");
    errors.read_to_string(&mut said).expect("the rest");
    assert_eq!(demo.wait().expect("its end").code(), Some(1), "{said}");
    assert!(said.contains("sortie: the demo was interrupted"), "{said}");
    assert!(!lab.exists(), "{} is left:\n{said}", lab.display());
}

fn expected_rows() -> Vec<Value> {
    let mut rows = Vec::new();
    for step in STEPS {
        // Its address is taken off the host in the second step.
        let mail = (step != STEPS[1]).then_some("203.0.113.12");
        let expected: [Expected; 5] = [
            (
                step,
                "shop-web-1",
                "label sortie.egress",
                Some("203.0.113.11"),
            ),
            (step, "shop-mail-1", "label sortie.egress", mail),
            (step, "shop-cache-1", "none", Some("203.0.113.5")),
            (step, "container1", "sortie attach", Some("203.0.113.13")),
            (step, "backup", "sortie run", Some("203.0.113.14")),
        ];
        rows.extend(expected.map(row));
    }
    rows
}

fn row((step, workload, policy, expected): Expected) -> Value {
    let sources: Vec<&str> = expected.into_iter().collect();
    json!({
        "step": step,
        "workload": workload,
        "policy": policy,
        "expected": expected,
        "attempts": 3,
        "answered": if expected.is_some() { 3 } else { 0 },
        "seen": sources,
        "left": sources,
        "verdict": "right",
    })
}
