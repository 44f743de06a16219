//! Requests that do not go on: what the client is told, and that the origin sees nothing.

use std::io::{Read, Write};
use std::time::Duration;

use crate::world::{CLOSED_PORT, HOST, PORT, TLS_PORT, World, response};

/// The answer to one request without fields of its own.
fn ask(world: &World, host: &str, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    world.say(&request)
}

#[test]
fn what_can_be_read_in_two_ways_reaches_nobody() {
    let world = World::new("strict");
    for request in [
        "GET /api%2fx HTTP/1.1\r\nHost: api.external.com\r\n\r\n",
        "GET /api%5cx HTTP/1.1\r\nHost: api.external.com\r\n\r\n",
        "GET /api%00 HTTP/1.1\r\nHost: api.external.com\r\n\r\n",
        "GET /api\\x HTTP/1.1\r\nHost: api.external.com\r\n\r\n",
        "GET /api;x HTTP/1.1\r\nHost: api.external.com\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: api.external.com\r\nHost: api.external.com\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /api HTTP/1.1\r\nHost: api.external.com\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\n",
    ] {
        let answer = world.say(request);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{request:?}: {answer}");
        assert!(
            answer.contains("\r\nProxy-Status: sortie; error=http_request_error; details=\""),
            "{answer}"
        );
    }
    // Without a policy for its paths a host may have any.
    let answer = ask(&world, "a.partner.example", "/x%2fy;z//");
    assert!(answer.ends_with("203.0.113.11\n"), "{answer}");
    let seen = world.origin.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].path(), "/x%2fy;z//");
}

#[test]
fn a_policys_refusal_is_named_and_the_connection_goes_on() {
    let world = World::new("denied");
    let mut client = world.connect(PORT);
    write!(client, "GET / HTTP/1.1\r\nHost: denied.example\r\n\r\n").unwrap();
    let (head, _) = response(&mut client);
    assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{head}");
    assert!(
        head.contains(
            "Proxy-Status: sortie; error=http_request_denied; policy=\"refuses\"; reason=Denied;"
        ),
        "{head}"
    );
    write!(
        client,
        "GET /api HTTP/1.1\r\nHost: api.external.com\r\n\r\n"
    )
    .unwrap();
    assert_eq!(response(&mut client).1, "203.0.113.11\n");
    assert_eq!(world.origin.seen().len(), 1);
    world.log.wait_for("the log tells it", |line| {
        line["host"] == "denied.example" && line["status"] == 403 && line["policy"] == "refuses"
    });
}

#[test]
fn a_name_undoes_no_denied_address_and_leads_to_nothing_private() {
    let world = World::new("answers");
    // One of its three addresses may be called.
    assert!(ask(&world, "a.partner.example", "/").ends_with("203.0.113.11\n"));
    for (host, status, part) in [
        (
            "inside.partner.example",
            502,
            "error=destination_ip_prohibited; policy=\"partner\"; reason=PrivateAnswer",
        ),
        (
            "cidr.partner.example",
            403,
            "error=http_request_denied; policy=\"no-cidr\"; reason=Denied",
        ),
        ("unknown.partner.example", 502, "error=dns_error"),
    ] {
        let answer = ask(&world, host, "/");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{host}: {answer}"
        );
        assert!(answer.contains(part), "{host}: {answer}");
    }
    for seen in world.origin.seen() {
        assert_eq!(seen.source.to_string(), "203.0.113.11");
    }
}

#[test]
fn without_its_source_nothing_leaves() {
    let world = World::new("gone");
    let answer = ask(&world, "gone.example", "/");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(
        answer.contains("error=proxy_configuration_error; policy=\"gone\""),
        "{answer}"
    );
    assert!(answer.contains("203.0.113.99"), "{answer}");
    assert!(world.origin.seen().is_empty());
}

#[test]
fn an_origin_that_is_closed_is_told() {
    let world = World::new("closed");
    let mut client = world.connect(CLOSED_PORT);
    write!(
        client,
        "GET /api HTTP/1.1\r\nHost: api.external.com\r\n\r\n"
    )
    .unwrap();
    let (head, _) = response(&mut client);
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert!(
        head.contains("error=connection_refused; policy=\"api\""),
        "{head}"
    );
}

#[test]
fn an_answer_that_is_none_is_not_passed_on() {
    let world = World::new("smuggle");
    let answer = ask(&world, "api.external.com", "/api/smuggle");
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(answer.contains("error=http_protocol_error"), "{answer}");
    assert_eq!(world.origin.one("/api").source.to_string(), "203.0.113.11");
}

#[test]
fn a_slow_head_ends_and_disturbs_nobody() {
    let world = World::with("slow", |config| config.head = Duration::from_millis(300));
    let mut slow = world.connect(PORT);
    slow.write_all(b"GET /api HTTP/1.1\r\nHost: api.ext")
        .unwrap();
    assert!(ask(&world, "api.external.com", "/x").ends_with("203.0.113.12\n"));
    let (head, _) = response(&mut slow);
    assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
    assert_eq!(world.origin.seen().len(), 1);
}

#[test]
fn who_calls_the_listener_itself_is_closed() {
    let world = World::new("loop");
    let mut client = world.connect_to_listener();
    let _ = client.write_all(b"GET / HTTP/1.1\r\nHost: api.external.com\r\n\r\n");
    assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
    assert!(world.origin.seen().is_empty());
}

#[test]
fn more_connections_than_the_limit_are_closed() {
    let world = World::with("limit", |config| config.connections = 2);
    let mut held: Vec<_> = (0..2).map(|_| world.connect(PORT)).collect();
    for client in &mut held {
        write!(client, "GET /x HTTP/1.1\r\nHost: api.external.com\r\n\r\n").unwrap();
        assert_eq!(response(client).1, "203.0.113.12\n");
    }
    let mut third = world.connect(PORT);
    let _ = third.write_all(b"GET /x HTTP/1.1\r\nHost: api.external.com\r\n\r\n");
    assert_eq!(third.read(&mut [0]).unwrap_or(0), 0);
    assert_eq!(world.origin.seen().len(), 2);
}

#[test]
fn what_no_policy_names_goes_where_it_was_going_as_the_host() {
    let world = World::new("plain");
    let answer = ask(&world, "unnamed.example", "/x");
    assert!(answer.ends_with(&format!("\r\n\r\n{HOST}\n")), "{answer}");
    let mut other = world.connect(TLS_PORT);
    // No HTTP, no TLS: by address.
    other.write_all(b"PING\r\n").unwrap();
    let mut echo = [0; 6];
    other.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"PING\r\n");
}
