//! What the first bytes decide, and what is answered.

use std::net::SocketAddr;

use super::http::{First, answer, read};

fn peer() -> SocketAddr {
    "[::ffff:203.0.113.11]:4711".parse().unwrap()
}

fn answered(bytes: &str) -> String {
    match read(bytes.as_bytes()) {
        First::Request(request) => answer(&request, peer()),
        other => format!("{other:?}"),
    }
}

#[test]
fn requests() {
    for (request, status, kind, body) in [
        (
            "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "200 OK",
            "text/plain",
            "203.0.113.11\n",
        ),
        (
            "GET / HTTP/1.0\n\n",
            "200 OK",
            "text/plain",
            "203.0.113.11\n",
        ),
        (
            "GET /?a=b HTTP/1.1\r\n\r\nrest",
            "200 OK",
            "text/plain",
            "203.0.113.11\n",
        ),
        (
            "GET /json HTTP/1.1\r\n\r\n",
            "200 OK",
            "application/json",
            "{\"address\":\"203.0.113.11\",\"port\":4711}\n",
        ),
        (
            "GET / HTTP/1.1\r\naccept: text/html, Application/JSON\r\n\r\n",
            "200 OK",
            "application/json",
            "{\"address\":\"203.0.113.11\",\"port\":4711}\n",
        ),
        (
            "GET /other HTTP/1.1\r\n\r\n",
            "404 Not Found",
            "text/plain",
            "ask for / or /json\n",
        ),
    ] {
        let answer = answered(request);
        let (head, rest) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{answer}"
        );
        assert!(
            head.contains(&format!("\r\nContent-Type: {kind}\r\n")),
            "{answer}"
        );
        assert!(
            head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())),
            "{answer}"
        );
        assert_eq!(rest, body, "{request}");
    }
    let head = answered("HEAD / HTTP/1.1\r\n\r\n");
    assert!(
        head.contains("Content-Length: 13\r\n") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
}

#[test]
fn first_bytes() {
    for incomplete in ["", "G", "GET", "GET ", "GET / HTTP/1.1\r\nHost: x\r\n"] {
        assert_eq!(
            read(incomplete.as_bytes()),
            First::Incomplete,
            "{incomplete}"
        );
    }
    for unknown in [
        "hello\n",
        " ",
        "\u{16}\u{3}\u{1}",
        "GET\n",
        "GET /\r\n\r\n",
        "GET / HTTP/2\r\n\r\n",
        "GET / x HTTP/1.1\r\n\r\n",
        "AVERYLONGMETHODNAME",
    ] {
        assert_eq!(read(unknown.as_bytes()), First::Unknown, "{unknown}");
    }
    assert_eq!(read(b"GET /\xff HTTP/1.1\r\n\r\n"), First::Unknown);
    let endless = format!("GET /{} HTTP/1.1\r\n", "a".repeat(9000));
    assert_eq!(read(endless.as_bytes()), First::Unknown);
}
