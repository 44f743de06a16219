//! Requests that go on: each from its own source, whole in both directions.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown};
use std::thread;

use sortie_lab::{SOON, eventually};

use crate::world::{FIRST, PORT, SECOND, World, response};

const URL: &str = "http://api.external.com:8080";

/// The source that a path of the API's host must have.
fn expected(path: &str) -> IpAddr {
    let is_api = path == "/api" || path.starts_with("/api/");
    (if is_api { FIRST } else { SECOND }).into()
}

#[test]
fn two_paths_of_one_host_over_one_connection_have_two_sources() {
    let world = World::new("paths");
    let mut client = world.connect(PORT);
    for round in 0..50 {
        for path in [
            format!("/api/{round}"),
            format!("/other/{round}"),
            format!("/apis/{round}"),
        ] {
            write!(
                client,
                "GET {path} HTTP/1.1\r\nHost: api.external.com:8080\r\n\r\n"
            )
            .unwrap();
            let (_, body) = response(&mut client);
            assert_eq!(body, format!("{}\n", expected(&path)), "{path}");
        }
    }
    let seen = world.origin.seen();
    assert_eq!(seen.len(), 150);
    for request in &seen {
        assert_eq!(request.source, expected(request.path()), "{request:?}");
    }
    // Two connections carried all of it: one for each source.
    let connections: BTreeSet<usize> = seen.iter().map(|request| request.connection).collect();
    assert_eq!(connections.len(), 2);
    world.log.wait_for("a line for a request", |line| {
        line["workload"] == "docker/web"
            && line["path"] == "/api/7"
            && line["host"] == "api.external.com"
            && line["policy"] == "api"
            && line["intended_source"] == FIRST.to_string()
            && line["upstream"] == "198.51.100.7:8080"
            && line["status"] == 200
            && line["reused"] == true
            && line["bytes_received"] == 13
    });
}

/// What is kept for the next requests has the sources of the policies before.
#[test]
fn connections_that_are_kept_end_with_their_policies() {
    let world = World::new("policies-changed");
    let mut client = world.connect(PORT);
    let mut connection = || {
        let request = "GET /api/x HTTP/1.1\r\nHost: api.external.com:8080\r\n\r\n";
        client.write_all(request.as_bytes()).unwrap();
        response(&mut client);
        world.origin.seen().pop().unwrap().connection
    };
    let first = connection();
    assert_eq!(connection(), first);
    world.policies_changed();
    let others = || (connection() != first).then_some(()).ok_or("the same");
    eventually(SOON, "another connection", others).unwrap();
    let second = connection();
    assert_eq!(connection(), second);
}

/// What has not begun when policies change begins as they say then.
#[test]
fn who_waits_for_a_name_leaves_as_policies_say_when_it_comes() {
    let world = World::new("turning");
    let mut client = world.connect(PORT);
    let request = "GET /x HTTP/1.1\r\nHost: turning.partner.example:8080\r\n\r\n";
    client.write_all(request.as_bytes()).unwrap();
    world.turn();
    assert!(response(&mut client).0.starts_with("HTTP/1.1 200 "));
    let seen = world.origin.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].source, IpAddr::V4(SECOND));
}

#[test]
fn curl_asks_for_two_paths_over_one_connection() {
    let world = World::new("curl");
    let (api, other) = (format!("{URL}/api/x"), format!("{URL}/x"));
    let urls = [&api, &other, &api, &other].map(String::as_str);
    let told = ["--write-out", "%{num_connects} "];
    let printed = world.curl(&[&told[..], &urls].concat()).unwrap();
    let body = |source| format!("{source}\n");
    let expected = [
        body(FIRST) + "1 ",
        body(SECOND) + "0 ",
        body(FIRST) + "0 ",
        body(SECOND) + "0 ",
    ];
    assert_eq!(printed, expected.concat());
}

#[test]
fn many_clients_at_once_never_have_a_wrong_source() {
    let world = World::new("many");
    thread::scope(|scope| {
        for client in 0..8 {
            let world = &world;
            scope.spawn(move || {
                let mut stream = world.connect(PORT);
                for round in 0..40 {
                    let start = if (client + round) % 2 == 0 {
                        "api"
                    } else {
                        "x"
                    };
                    let path = format!("/{start}/{client}/{round}");
                    write!(
                        stream,
                        "GET {path} HTTP/1.1\r\nHost: api.external.com\r\n\r\n"
                    )
                    .unwrap();
                    let (_, body) = response(&mut stream);
                    assert_eq!(body, format!("{}\n", expected(&path)), "{path}");
                }
            });
        }
    });
    let seen = world.origin.seen();
    assert_eq!(seen.len(), 320);
    for request in &seen {
        assert_eq!(request.source, expected(request.path()), "{request:?}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let world = World::new("pipe");
    let mut client = world.connect(PORT);
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: api.external.com\r\n\r\n");
    let all = ["/api/1", "/2", "/api/3", "/4"].map(request).concat();
    client.write_all(all.as_bytes()).unwrap();
    for path in ["/api/1", "/2", "/api/3", "/4"] {
        assert_eq!(response(&mut client).1, format!("{}\n", expected(path)));
    }
}

#[test]
fn spellings_of_a_path_do_not_choose_another_source() {
    let world = World::new("spell");
    for (path, forwarded) in [
        ("//api/x", "/api/x"),
        ("/%61pi/x", "/api/x"),
        ("/x/../api/%2e/x?q=%61//..", "/api/x?q=%61//.."),
        ("/api/../other", "/other"),
        ("/api/%2e%2e/other/2", "/other/2"),
    ] {
        let answer = world.say(&format!(
            "GET {path} HTTP/1.1\r\nHost: API.external.com.\r\nConnection: close\r\n\r\n"
        ));
        let source = expected(forwarded);
        assert!(
            answer.ends_with(&format!("\r\n\r\n{source}\n")),
            "{path}: {answer}"
        );
        let seen = world.origin.seen().pop().unwrap();
        assert_eq!((seen.path(), seen.source), (forwarded, source));
    }
}

#[test]
fn a_field_chooses_a_source_only_if_the_origin_gets_it() {
    let world = World::new("field");
    let ask = |fields: &str| {
        world.say(&format!(
            "GET /t HTTP/1.1\r\nHost: api.external.com\r\n{fields}Connection: close\r\n\r\n"
        ))
    };
    assert!(ask("X-Tenant: blue\r\n").ends_with(&format!("{FIRST}\n")));
    assert!(ask("X-Tenant: red\r\n").ends_with(&format!("{SECOND}\n")));
    // A connection's own field stays here, and so decides nothing.
    assert!(ask("X-Tenant: blue\r\nConnection: x-tenant\r\n").ends_with(&format!("{SECOND}\n")));
    assert!(
        !world.origin.seen()[2]
            .head
            .to_ascii_lowercase()
            .contains("tenant")
    );
}

#[test]
fn heads_reach_the_origin_as_they_were_written() {
    let world = World::new("verbatim");
    let head =
        "GET /api/v HTTP/1.1\r\nzeta: 1\r\nHOST:api.external.com\r\nAlpha:  b  \r\nzeta: 2\r\n\r\n";
    let mut client = world.connect(PORT);
    client.write_all(head.as_bytes()).unwrap();
    assert_eq!(response(&mut client).1, format!("{FIRST}\n"));
    assert_eq!(world.origin.one("/api/v").head, head);
}

#[test]
fn bodies_go_up_whole_in_every_framing() {
    let world = World::new("upload");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("body");
    let bytes: Vec<u8> = (0..3_000_000_u32)
        .flat_map(u32::to_le_bytes)
        .step_by(3)
        .collect();
    std::fs::write(&path, &bytes).unwrap();
    let file = path.to_str().unwrap();
    let data = format!("@{file}");
    for (number, arguments) in [
        vec!["--upload-file", file],
        vec![
            "--upload-file",
            file,
            "--header",
            "Transfer-Encoding: chunked",
        ],
        vec!["--data-binary", &data, "--header", "Expect: 100-continue"],
        vec!["--data-binary", &data, "--header", "Expect:"],
    ]
    .into_iter()
    .enumerate()
    {
        let url = format!("{URL}/api/up{number}/length");
        let printed = world.curl(&[&arguments[..], &[&url]].concat()).unwrap();
        assert_eq!(
            printed,
            format!("{FIRST} {}\n", bytes.len()),
            "{arguments:?}"
        );
        let seen = world.origin.one(&format!("/api/up{number}/"));
        assert!(seen.body == bytes, "{arguments:?}");
        assert_eq!(seen.source, FIRST);
    }
}

#[test]
fn an_interim_response_is_for_who_knows_of_them() {
    let world = World::new("interim");
    for (version, answers) in [
        ("1.1", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 "),
        ("1.0", "HTTP/1.1 200 "),
    ] {
        let answer = world.say(&format!(
            "POST /api/{version} HTTP/{version}\r\nHost: api.external.com\r\nExpect: 100-continue\r\n\
             Connection: close\r\nContent-Length: 1\r\n\r\nx"
        ));
        assert!(answer.starts_with(answers), "{answer}");
        assert!(answer.ends_with(&format!("{FIRST}\n")), "{answer}");
    }
}

#[test]
fn trailers_go_both_ways() {
    let world = World::new("trailers");
    let mut client = world.connect(PORT);
    let request = "POST /api/t/chunked HTTP/1.1\r\nHost: api.external.com\r\nTE: trailers\r\n\
                   Connection: TE, close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Up: 1\r\n\r\n";
    // Byte by byte: nothing depends on how it is cut.
    for byte in request.as_bytes().chunks(1) {
        client.write_all(byte).unwrap();
    }
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    let text = format!("{FIRST}\n");
    let size = text.len();
    assert!(
        answer.ends_with(&format!(
            "\r\n\r\n{size:x};x=\"y\"\r\n{text}\r\n0\r\nX-Sum: 7\r\n\r\n"
        )),
        "{answer}"
    );
    let seen = world.origin.one("/api/t/");
    assert_eq!(
        (&*seen.body, &*seen.trailers),
        (&b"abc"[..], "X-Up: 1\r\n\r\n")
    );
    assert!(seen.head.contains("TE: trailers\r\n"));
    assert_eq!(seen.source, FIRST);
}

#[test]
fn bodies_come_down_whole_in_every_framing() {
    let world = World::new("download");
    let large = world
        .curl(&["--include", &format!("{URL}/api/large")])
        .unwrap();
    assert!(large.len() > 8 << 20);
    assert!(!large[..1000].contains("Alt-Svc"), "HTTP/3 is not offered");
    for path in ["/api/close", "/api/chunked"] {
        let printed = world.curl(&[&format!("{URL}{path}")]).unwrap();
        assert_eq!(printed, format!("{FIRST}\n"));
    }
    let head = world.curl(&["--head", &format!("{URL}/api/h")]);
    // The origin answers HEAD with a body, as no origin should: it answers nothing else.
    assert!(head.unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
    for seen in world.origin.seen() {
        assert_eq!(seen.source, FIRST);
    }
}

#[test]
fn a_response_that_is_cut_is_cut_for_the_client_too() {
    let world = World::new("cut");
    let error = world.curl(&[&format!("{URL}/api/cut")]).unwrap_err();
    assert!(error.contains("curl: (18)"), "{error}");
    assert_eq!(world.origin.one("/api/cut").source, FIRST);
    world.log.wait_for("the log tells it", |line| {
        line["path"] == "/api/cut"
            && line["refused"]
                .as_str()
                .unwrap_or("")
                .contains("incomplete")
    });
}

#[test]
fn websocket_is_a_tunnel_after_101() {
    let world = World::new("socket");
    let mut client = world.connect(PORT);
    let request = "GET /api/chat HTTP/1.1\r\nHost: api.external.com\r\nUpgrade: websocket\r\n\
                   Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n";
    client.write_all(request.as_bytes()).unwrap();
    client.write_all(b"GET / not http\n\0").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    let (head, rest) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(rest, format!("hello {FIRST}\nGET / not http\n\0"));
    let seen = world.origin.one("/api/chat");
    assert_eq!(seen.source, FIRST);
    assert!(
        seen.head.contains("Upgrade: websocket\r\n")
            && seen.head.contains("Connection: Upgrade\r\n")
    );
}

#[test]
fn a_connection_that_ended_meanwhile_is_made_anew_once() {
    let world = World::new("retry");
    let mut client = world.connect(PORT);
    let mut ask = |method: &str, path: &str| {
        write!(
            client,
            "{method} {path} HTTP/1.1\r\nHost: api.external.com\r\n\r\n"
        )
        .unwrap();
        response(&mut client)
    };
    assert_eq!(ask("GET", "/api/1").1, format!("{FIRST}\n"));
    assert_eq!(ask("GET", "/api/2/flaky").1, format!("{FIRST}\n"));
    // What is not idempotent is not sent twice.
    let (head, _) = ask("POST", "/api/3/flaky");
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert!(head.contains("error=http_response_incomplete"), "{head}");
    let counts = |path: &str| {
        let seen = world.origin.seen();
        seen.iter().filter(|seen| seen.path() == path).count()
    };
    assert_eq!((counts("/api/2/flaky"), counts("/api/3/flaky")), (2, 1));
    for seen in world.origin.seen() {
        assert_eq!(seen.source, FIRST);
    }
}

#[test]
fn bytes_that_nobody_asked_for_answer_nothing() {
    let world = World::new("unasked");
    let mut client = world.connect(PORT);
    for path in ["/api/1/unasked", "/api/2/unasked", "/api/3"] {
        write!(
            client,
            "GET {path} HTTP/1.1\r\nHost: api.external.com\r\n\r\n"
        )
        .unwrap();
        assert_eq!(response(&mut client).1, format!("{FIRST}\n"), "{path}");
    }
    let seen = world.origin.seen();
    let connections: BTreeSet<usize> = seen.iter().map(|seen| seen.connection).collect();
    assert_eq!((seen.len(), connections.len()), (3, 3));
    assert!(seen.iter().all(|seen| seen.source == FIRST));
}

#[test]
fn an_absolute_target_is_who_is_asked() {
    let world = World::new("absolute");
    let answer = world.say(
        "GET http://api.external.com/api/abs HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n",
    );
    assert!(answer.ends_with(&format!("{FIRST}\n")), "{answer}");
    let seen = world.origin.one("/api/abs");
    assert_eq!(seen.source, FIRST);
    assert!(seen.head.contains("Host: api.external.com\r\n") && !seen.head.contains("other"));
}

#[test]
fn a_drain_lets_a_request_end_and_takes_no_other() {
    let world = World::new("drain");
    let mut client = world.connect(PORT);
    write!(
        client,
        "POST /api/d/length HTTP/1.1\r\nHost: api.external.com\r\nContent-Length: 10\r\n\r\n12345"
    )
    .unwrap();
    let mut idle = world.connect(PORT);
    write!(idle, "GET /x HTTP/1.1\r\nHost: api.external.com\r\n\r\n").unwrap();
    assert_eq!(response(&mut idle).1, format!("{SECOND}\n"));
    // What is not accepted when the drain begins is turned away.
    let mut asks = world.connect(PORT);
    write!(asks, "GET /x HTTP/1.1\r\nHost: api.external.com\r\n\r\n").unwrap();
    assert_eq!(response(&mut asks).1, format!("{SECOND}\n"));
    let origin = world.origin.clone();
    let drain = thread::spawn(move || world.drain());
    // Who goes on asking is told which answer is the last, and so knows that the drain has begun.
    loop {
        write!(asks, "GET /x HTTP/1.1\r\nHost: api.external.com\r\n\r\n").unwrap();
        let (head, body) = response(&mut asks);
        assert_eq!(body, format!("{SECOND}\n"));
        if head.contains("Connection: close\r\n") {
            break;
        }
    }
    assert_eq!(asks.read(&mut [0]).unwrap(), 0);
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
    write!(client, "67890").unwrap();
    let (head, body) = response(&mut client);
    assert_eq!(body, format!("{FIRST} 10\n"));
    assert!(head.contains("Connection: close\r\n"), "{head}");
    drain.join().unwrap();
    assert_eq!(origin.one("/api/d/").source, FIRST);
}
