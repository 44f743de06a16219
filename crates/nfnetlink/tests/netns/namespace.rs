//! A fresh network namespace on a thread of its own, and the `nft` program within.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

/// Runs `test` in a new network namespace, which goes away with its last thread or socket.
///
/// Panics with what to do when the process may not make one.
pub(crate) fn in_namespace<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            panic!("cannot make a network namespace ({error}): run these tests as root");
        }
        test()
    });
    match thread.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Runs a program in the calling thread's namespace and returns what it printed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot run {program} ({error}): install it"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a program that is expected to fail and returns what it complained.
pub(crate) fn run_refused(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("cannot run {program} ({error}): install it"));
    assert!(
        !output.status.success(),
        "{program} {arguments:?} succeeded"
    );
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The objects of `nft --json list ruleset`, without its metadata.
pub(crate) fn nft_objects() -> Vec<Value> {
    let text = run("nft", &["--json", "list", "ruleset"]);
    let value: Value = serde_json::from_str(&text).expect("nft prints JSON");
    value["nftables"]
        .as_array()
        .expect("a list of objects")
        .iter()
        .filter(|object| object.get("metainfo").is_none())
        .cloned()
        .collect()
}

/// The objects of one kind, such as `table`.
pub(crate) fn nft_objects_of(kind: &str) -> Vec<Value> {
    nft_objects()
        .iter()
        .filter_map(|object| object.get(kind).cloned())
        .collect()
}

/// Tries until something is there, generously.
///
/// A closed socket may live on for a moment in a child that another test is just starting:
/// what the kernel does at its end is waited for, not taken for granted.
pub(crate) fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}
