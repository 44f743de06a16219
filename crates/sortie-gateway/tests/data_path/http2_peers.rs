//! Programs of others that speak HTTP/2 through the gateway: h2spec, which tries all that the
//! standard forbids, and gRPC.

use std::process::Command;

use sortie_lab::built_program;

use crate::world::{CALLED, FIRST, HTTP2_PORT, OTHER_PORT, SECOND, World};

#[test]
fn h2spec_finds_one_thing_that_is_meant() {
    let world = World::new("h2spec");
    let program = built_program("http2", "h2spec").unwrap();
    // Its findings are on its output, also when it fails.
    let line = format!(
        "{} --host {CALLED} --port {HTTP2_PORT} --timeout 20; true",
        program.display()
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &line]);
    let printed = world.run(shell).unwrap();
    // A wrong preface could be HTTP/1, which is answered as such before the connection ends.
    let meant = "× 2: Sends invalid connection preface";
    assert!(printed.contains(meant), "{printed}");
    let summary = "145 tests, 144 passed, 0 skipped, 1 failed";
    assert!(printed.contains(summary), "{printed}");
}

#[test]
fn grpc_talks_both_ways_at_once() {
    let world = World::new("grpc");
    let program = built_program("http2", "grpc-echo").unwrap();
    let mut serves = Command::new(&program);
    let _server = world.serve(serves.args(["serve", &format!("0.0.0.0:{OTHER_PORT}")]));
    let called = format!("{CALLED}:{OTHER_PORT}");
    for (host, source) in [("a.partner.example", FIRST), ("api.external.com", SECOND)] {
        let mut calls = Command::new(&program);
        calls.args(["call", &called, host]);
        assert_eq!(world.run(calls).unwrap(), format!("{source}\n"));
    }
    world.log.wait_for("a line for a call", |line| {
        line["path"] == "/sortie.test.Echo/Echo"
            && line["host"] == "a.partner.example"
            && line["policy"] == "partner"
            && line["bytes_sent"].as_u64() > Some(6 << 20)
            && line["bytes_sent"] == line["bytes_received"]
    });
}
