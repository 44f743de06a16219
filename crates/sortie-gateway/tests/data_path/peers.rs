//! Programs of others that speak through the gateway: h2spec, which tries all that HTTP/2 forbids,
//! gRPC, and WebSocket.

use std::process::Command;

use sortie_lab::built_program;

use crate::world::{CALLED, FIRST, HTTP2_PORT, HTTP2_TLS_PORT, OTHER_PORT, SECOND, World};

/// TLS of this name is looked into.
const INSPECTED: &str = "inspected.partner.example";

/// What it prints, also when it finds something.
fn h2spec(world: &World, arguments: &str) -> String {
    let program = built_program("peers", "h2spec").unwrap();
    // A name means the address that a look-up gives.
    let line = format!(
        "echo {CALLED} {INSPECTED} >hosts.$$ && mount --bind hosts.$$ /etc/hosts && rm hosts.$$ && \
         {} {arguments} --timeout 20; true",
        program.display()
    );
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "sh", "-c", &line]);
    world.run(shell).unwrap()
}

/// As browsers speak it, inside of TLS.
#[test]
fn h2spec_finds_nothing() {
    let world = World::new("h2spec-tls");
    let printed = h2spec(
        &world,
        &format!("--tls --insecure --host {INSPECTED} --port {HTTP2_TLS_PORT}"),
    );
    let summary = "145 tests, 145 passed, 0 skipped, 0 failed";
    assert!(printed.contains(summary), "{printed}");
}

/// Without TLS it may be HTTP/1.
#[test]
fn h2spec_finds_one_thing_that_is_meant_without_tls() {
    let world = World::new("h2spec");
    let printed = h2spec(&world, &format!("--host {CALLED} --port {HTTP2_PORT}"));
    // A wrong preface could be HTTP/1, which is answered as such before the connection ends.
    let meant = "× 2: Sends invalid connection preface";
    assert!(printed.contains(meant), "{printed}");
    let summary = "145 tests, 144 passed, 0 skipped, 1 failed";
    assert!(printed.contains(summary), "{printed}");
}

#[test]
fn grpc_talks_both_ways_at_once() {
    let world = World::new("grpc");
    let program = built_program("peers", "gateway-peer").unwrap();
    let mut serves = Command::new(&program);
    let _server = world.serve(serves.args(["grpc", "serve", &format!("0.0.0.0:{OTHER_PORT}")]));
    let called = format!("{CALLED}:{OTHER_PORT}");
    for (host, source) in [("a.partner.example", FIRST), ("api.external.com", SECOND)] {
        let mut calls = Command::new(&program);
        calls.args(["grpc", "call", &called, host]);
        assert_eq!(world.run(calls).unwrap(), format!("{source} {source}\n"));
    }
    world.log.wait_for("a line for a call", |line| {
        line["path"] == "/sortie.test.Echo/Echo"
            && line["host"] == "a.partner.example"
            && line["policy"] == "partner"
            && line["bytes_sent"].as_u64() > Some(6 << 20)
            && line["bytes_sent"] == line["bytes_received"]
    });
}

#[test]
fn websocket_is_an_echo() {
    let world = World::new("websocket");
    let program = built_program("peers", "gateway-peer").unwrap();
    let mut serves = Command::new(&program);
    serves.args(["websocket", "serve", &format!("0.0.0.0:{OTHER_PORT}")]);
    let _server = world.serve(&mut serves);
    let called = format!("{CALLED}:{OTHER_PORT}");
    for (path, source) in [("/api/chat", FIRST), ("/chat", SECOND)] {
        let url = format!("ws://api.external.com:{OTHER_PORT}{path}");
        let mut calls = Command::new(&program);
        calls.args(["websocket", "call", &called, &url]);
        assert_eq!(world.run(calls).unwrap(), format!("{source}\n"));
    }
}

#[test]
fn websocket_is_an_echo_inside_of_tls() {
    let world = World::new("websocket-tls");
    let program = built_program("peers", "gateway-peer").unwrap();
    let mut serves = Command::new(&program);
    serves.args(["websocket", "serve", &format!("0.0.0.0:{OTHER_PORT}")]);
    serves.args(["server.pem", "server.key"].map(|file| world.pki.path(file)));
    let _server = world.serve(&mut serves);
    for (path, source) in [("/api/chat", FIRST), ("/chat", SECOND)] {
        let url = format!("wss://inspected.partner.example:{OTHER_PORT}{path}");
        let mut calls = Command::new(&program);
        calls.args(["websocket", "call", &format!("{CALLED}:{OTHER_PORT}"), &url]);
        calls.arg(world.pki.path("inspect.pem"));
        assert_eq!(world.run(calls).unwrap(), format!("{source}\n"));
    }
}
