//! Requests: what is read, what is forwarded, what is refused.

use proptest::prelude::*;

use super::super::authority::Host;
use super::*;

fn with<T>(input: &str, look: impl FnOnce(Parsed<Request<'_, '_>>) -> T) -> T {
    let mut space = FieldSpace::new();
    look(Request::parse(
        input.as_bytes(),
        &mut space,
        Limits::default(),
    ))
}

fn head<T>(input: &str, look: impl FnOnce(Request<'_, '_>) -> T) -> T {
    with(input, |parsed| match parsed {
        Parsed::Head(request) => look(request),
        other => panic!("{input:?}: {other:?}"),
    })
}

fn forwarded(input: &str) -> String {
    head(input, |request| {
        let mut out = Vec::new();
        request.write_head(&mut out);
        String::from_utf8(out).unwrap()
    })
}

fn status(input: &str) -> u16 {
    with(input, |parsed| match parsed {
        Parsed::Refused(refused) => refused.status,
        other => panic!("{input:?}: {other:?}"),
    })
}

#[test]
fn a_head_goes_on_byte_by_byte() {
    let text = "POST /api/x?y=%2e%2e//z HTTP/1.1\r\nhost: api.external.com\r\nX-CaSe:  two  spaces \
                \r\nx-case: b\r\nEmpty:\r\nContent-Length: 5\r\nCookie: a=b; c=\"d\"\r\n\r\n";
    assert_eq!(forwarded(text), text);
    head(text, |request| {
        assert_eq!(request.method, "POST");
        assert_eq!(request.target.path(), "/api/x");
        assert_eq!(request.body, Framing::Length(5));
        assert!(request.persists);
        assert_eq!(request.length, text.len());
        let values: Vec<_> = request.values("X-Case").collect();
        assert_eq!(values, [&b"two  spaces"[..], b"b"]);
        let authority = request.authority.unwrap();
        assert_eq!(authority.host, Host::Name("api.external.com".into()));
    });
}

#[test]
fn any_part_of_a_head_is_incomplete() {
    let text = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
    for end in 0..text.len() {
        with(&text[..end], |parsed| {
            assert_eq!(parsed, Parsed::Incomplete, "{end}");
        });
    }
    with(&format!("\r\n{text}GET"), |parsed| {
        let Parsed::Head(request) = parsed else {
            panic!("{parsed:?}");
        };
        assert_eq!(request.length, text.len() + 2);
    });
}

#[test]
fn what_is_for_one_connection_stays_here() {
    let text = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\
                X-End: 2\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nProxy-Authorization: y\r\n\
                TE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nX-Last: 3\r\n\r\n";
    assert_eq!(
        forwarded(text),
        "GET / HTTP/1.1\r\nHost: a.example\r\nX-End: 2\r\nX-Last: 3\r\n\r\n"
    );
    head(text, |request| {
        assert_eq!(request.values("X-Hop").count(), 0);
        assert!(!request.upgrades);
    });
}

#[test]
fn trailers_and_websocket_go_on() {
    assert_eq!(
        forwarded("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n"),
        "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n"
    );
    let websocket = "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\n\
                     Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n";
    head(websocket, |request| assert!(request.upgrades));
    assert_eq!(
        forwarded(websocket),
        "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\
         Connection: Upgrade\r\n\r\n"
    );
    // What else `Connection` names takes nothing of it away.
    let named = websocket.replace(
        "keep-alive, Upgrade",
        "X-Hop, TE, Upgrade\r\nTE: trailers\r\nX-Hop: 1",
    );
    assert_eq!(
        forwarded(&named),
        "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\nTE: trailers\r\n\
         Sec-WebSocket-Version: 13\r\nConnection: Upgrade, TE\r\n\r\n"
    );
    for other in [
        "POST / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c, websocket\r\nConnection: Upgrade\r\n\r\n",
    ] {
        assert!(!forwarded(other).contains("pgrade"), "{other}");
    }
}

#[test]
fn an_absolute_target_replaces_the_host() {
    let text = "GET http://API.external.com:8080/x?y HTTP/1.1\r\nA: 1\r\nHost: other.example\r\nB: 2\r\n\r\n";
    assert_eq!(
        forwarded(text),
        "GET /x?y HTTP/1.1\r\nA: 1\r\nHost: API.external.com:8080\r\nB: 2\r\n\r\n"
    );
    head(text, |request| {
        let authority = request.authority.unwrap();
        assert_eq!(authority.host, Host::Name("api.external.com".into()));
        assert_eq!(authority.port, Some(8080));
    });
    assert_eq!(
        forwarded("GET http://a.example HTTP/1.0\r\nA: 1\r\n\r\n"),
        "GET / HTTP/1.0\r\nHost: a.example\r\nA: 1\r\n\r\n"
    );
    assert_eq!(
        forwarded("GET HTTP://a.example?q HTTP/1.1\r\nHost: b\r\n\r\n"),
        "GET /?q HTTP/1.1\r\nHost: a.example\r\n\r\n"
    );
    assert_eq!(
        forwarded("OPTIONS http://a.example HTTP/1.1\r\nHost: b\r\n\r\n"),
        "OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n"
    );
}

#[test]
fn a_settled_path_is_the_one_that_goes_on() {
    let settled = |path: &str| {
        head(
            &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"),
            |mut request| {
                request.settle_path()?;
                let mut out = Vec::new();
                request.write_head(&mut out);
                let line = String::from_utf8(out).unwrap();
                Ok::<_, Refused>(line.lines().next().unwrap().to_owned())
            },
        )
    };
    for (path, line) in [
        ("/api/../other?a=/../%2e", "GET /other?a=/../%2e HTTP/1.1"),
        ("//%61pi", "GET /api HTTP/1.1"),
        ("/api?;\\", "GET /api?;\\ HTTP/1.1"),
        ("http://a/x/./y", "GET /x/y HTTP/1.1"),
    ] {
        assert_eq!(settled(path).as_deref(), Ok(line), "{path}");
    }
    assert_eq!(settled("/api%2f..").unwrap_err().status, 400);
    // Nobody asked for it: as it came.
    assert!(
        forwarded("GET //a/../%2F;b HTTP/1.1\r\nHost: a\r\n\r\n").starts_with("GET //a/../%2F;b ")
    );
}

#[test]
fn lengths_that_agree_are_one() {
    let text =
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX: y\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(
        forwarded(text),
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX: y\r\n\r\n"
    );
    head(
        "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n",
        |request| {
            assert_eq!(request.body, Framing::Chunked);
        },
    );
}

#[test]
fn who_keeps_the_connection() {
    let persists = |version: &str, connection: &str| {
        head(
            &format!("GET / {version}\r\nHost: a\r\n{connection}\r\n"),
            |request| request.persists,
        )
    };
    assert!(persists("HTTP/1.1", ""));
    assert!(!persists("HTTP/1.1", "Connection: x, Close\r\n"));
    assert!(!persists("HTTP/1.0", ""));
    assert!(persists("HTTP/1.0", "Connection: keep-alive\r\n"));
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    for fields in [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nHost: b\r\n",
        "Host:\r\n",
        "Host: a, b\r\n",
        "Host: a/b\r\n",
        "Host: user@a\r\n",
        "Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Host: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
        "Host: a\r\nContent-Length: 5, 5\r\n",
        "Host: a\r\nContent-Length: +5\r\n",
        "Host: a\r\nContent-Length: 0x5\r\n",
        "Host: a\r\nContent-Length: -1\r\n",
        "Host: a\r\nContent-Length:\r\n",
        "Host: a\r\nContent-Length: 18446744073709551616\r\n",
        "Host: a\r\nTransfer-Encoding: gzip\r\n",
        "Host: a\r\nTransfer-Encoding: chunked, gzip\r\n",
        "Host: a\r\nTransfer-Encoding: chunked, chunked\r\n",
        "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Host: a\r\nTransfer-Encoding: identity\r\n",
        "Host: a\r\nTransfer-Encoding: xchunked\r\n",
        "Host: a\r\nTransfer-Encoding: \"chunked\"\r\n",
        "Host: a\r\nTransfer-Encoding: chunked\x0b\r\n",
        "Host: a\r\nTransfer-Encoding:\r\n",
        "Host: a\r\nTransfer-Encoding : chunked\r\n",
        "Host : a\r\n",
        "Host: a\r\n folded\r\n",
        "Host: a\r\nX: y\r\n\tfolded\r\n",
        " Host: a\r\n",
        "Host: a\nX: y\r\n",
        "Host: a\r\nX: y\n\r\n",
        "Host: a\r\nX: y\rz\r\n",
        "Host: a\r\nX: y\0z\r\n",
        "Host: a\r\nX: y\x07z\r\n",
        "Host: a\r\nX: y\x7fz\r\n",
        "Host: a\r\nX\r\n",
        "Host: a\r\n: y\r\n",
        "Host: a\r\nX y: z\r\n",
        "Host: a\r\nConnection: Host\r\n",
        "Host: a\r\nConnection: close, content-length\r\nContent-Length: 5\r\n",
        "Host: a\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let text = format!("POST / HTTP/1.1\r\n{fields}\r\n");
        assert_eq!(status(&text), 400, "{fields:?}");
    }
    let coding = "Host: a\r\nTransfer-Encoding: gzip, chunked\r\n";
    assert_eq!(status(&format!("POST / HTTP/1.1\r\n{coding}\r\n")), 501);
    let old = "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(status(old), 400);
}

#[test]
fn start_lines_that_are_wrong_are_refused() {
    for line in [
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET /a b HTTP/1.1",
        " GET / HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET",
        "GET /",
        "GET /#top HTTP/1.1",
        "GET http://a/#top HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
        "GET /a\tb HTTP/1.1",
        "GET /\x7f HTTP/1.1",
        "GET * HTTP/1.1",
        "GET a.example:80 HTTP/1.1",
        "GET https://a/ HTTP/1.1",
        "GET http:///x HTTP/1.1",
        "GET http://u@a/ HTTP/1.1",
        "GET a HTTP/1.1",
        "CONNECT / HTTP/1.1",
        "CONNECT a.example HTTP/1.1",
        "CONNECT http://a.example:443/ HTTP/1.1",
        "GET /\nX: y HTTP/1.1",
    ] {
        assert_eq!(status(&format!("{line}\r\nHost: a\r\n\r\n")), 400, "{line}");
    }
    for line in [
        "GET / HTTP/2.0",
        "GET / HTTP/1.2",
        "GET / http/1.1",
        "PRI * HTTP/2.0",
    ] {
        let text = format!("{line}\r\nHost: a\r\n\r\n");
        assert!(matches!(status(&text), 505 | 400), "{line}");
    }
    head(
        "CONNECT a.example:443 HTTP/1.1\r\nHost: b\r\n\r\n",
        |request| {
            assert_eq!(request.target, Target::Authority);
            assert_eq!(request.authority.unwrap().text, "a.example:443");
        },
    );
    head("OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n", |request| {
        assert_eq!(request.target.path(), "*");
    });
    head("GET / HTTP/1.0\r\n\r\n", |request| {
        assert_eq!(request.authority, None);
    });
}

#[test]
fn a_line_feed_alone_is_refused_before_the_head_has_ended() {
    for text in ["GET / HTTP/1.1\n", "GET / HTTP/1.1\r\nHost: a\n", "\n"] {
        assert_eq!(status(text), 400, "{text:?}");
    }
}

#[test]
fn heads_are_bounded() {
    let limits = Limits { head: 100 };
    let parse = |text: &str| {
        let mut space = FieldSpace::new();
        match Request::parse(text.as_bytes(), &mut space, limits) {
            Parsed::Incomplete => 0,
            Parsed::Head(_) => 200,
            Parsed::Refused(refused) => refused.status,
        }
    };
    let sized = |size: usize| {
        let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        let fill = "x".repeat(size - start.len() - 4);
        format!("{start}{fill}\r\n\r\n")
    };
    assert_eq!(parse(&sized(100)), 200);
    assert_eq!(parse(&sized(101)), 431);
    assert_eq!(parse(&"x".repeat(99)), 0);
    assert_eq!(parse(&"x".repeat(100)), 431);
    let many = format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "X: y\r\n".repeat(super::super::MAX_FIELDS)
    );
    assert_eq!(status(&many), 431);
}

/// Lines that a head may be made of, right and wrong.
const LINES: [&str; 26] = [
    "Host: a.example",
    "host:b.example:8080",
    "Content-Length: 5",
    "content-length:5",
    "Content-Length: 6",
    "Content-Length: 0",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "Connection: close",
    "Connection: keep-alive, X-Hop",
    "Connection: upgrade, te",
    "Connection: TE",
    "Upgrade: websocket",
    "Upgrade: h2c",
    "HTTP2-Settings: AAA",
    "TE: trailers",
    "TE: gzip",
    "X-Hop: 1",
    "Keep-Alive: 5",
    "Proxy-Authorization: Basic x",
    "Expect: 100-continue",
    "Empty:",
    "Tab:\ta\t",
    " folded",
    "Space : x",
    "Bare: a\nb",
];

/// Start lines likewise.
const STARTS: [&str; 12] = [
    "GET / HTTP/1.1",
    "GET /api/%2e%2e//x?q=%2e HTTP/1.1",
    "POST /a;b HTTP/1.1",
    "GET http://c.example/x/./y HTTP/1.1",
    "GET http://c.example HTTP/1.0",
    "OPTIONS http://c.example HTTP/1.1",
    "OPTIONS * HTTP/1.1",
    "GET /caf%c3%a9 HTTP/1.0",
    "PUT /%2f HTTP/1.1",
    "GET /a#b HTTP/1.1",
    "GET /\t HTTP/1.1",
    "HEAD //a//b/../ HTTP/1.1",
];

proptest! {
    // Lines that say something only together are seldom drawn together.
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// What is forwarded means the same to whoever reads it next, and is forwarded as it is.
    #[test]
    fn what_is_forwarded_is_read_again_as_the_same(
        start in prop::sample::select(&STARTS[..]),
        lines in prop::collection::vec(prop::sample::select(&LINES[..]), 0..7),
    ) {
        let text = [&[start][..], &lines, &["", ""]].concat().join("\r\n");
        let mut space = FieldSpace::new();
        if let Parsed::Head(mut request) = Request::parse(text.as_bytes(), &mut space, Limits::default()) {
            let settles = request.settle_path().is_ok();
            let mut once = Vec::new();
            request.write_head(&mut once);
            let mut space = FieldSpace::new();
            let Parsed::Head(mut again) = Request::parse(&once, &mut space, Limits::default()) else {
                panic!("not read again: {}", String::from_utf8_lossy(&once));
            };
            if settles {
                again.settle_path().unwrap();
            }
            prop_assert_eq!(again.length, once.len());
            prop_assert_eq!(again.method, request.method);
            prop_assert_eq!(&again.target, &request.target);
            prop_assert_eq!(&again.authority, &request.authority);
            prop_assert_eq!((again.body, again.upgrades), (request.body, request.upgrades));
            let mut twice = Vec::new();
            again.write_head(&mut twice);
            prop_assert_eq!(once, twice);
        }
    }
}
