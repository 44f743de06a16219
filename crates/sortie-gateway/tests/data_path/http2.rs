//! HTTP/2 without TLS, as gRPC speaks it inside of clusters: stream by stream.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Version};
use hyper::body::Frame;
use sortie_lab::{SOON, eventually_true};

use crate::http2_client::{Client, get, nothing, parts};
use crate::http2_origin::LARGE;
use crate::world::{FIRST, HOST, HTTP2_PORT, HTTP2_TLS_PORT, ORIGIN, SECOND, World};

const URL: &str = "http://api.external.com:8082";

/// The source that a path of the API's host must have.
fn expected(path: &str) -> IpAddr {
    let is_api = path == "/api" || path.starts_with("/api/");
    (if is_api { FIRST } else { SECOND }).into()
}

fn client(world: &World) -> Client {
    Client::new(world.connect(HTTP2_PORT))
}

#[test]
fn streams_of_one_connection_have_the_source_of_their_own_path() {
    let world = World::new("h2-paths");
    let client = client(&world);
    for round in 0..10 {
        let paths: Vec<String> = (0..60)
            .map(|number| match number % 3 {
                0 => format!("/api/{round}/{number}"),
                1 => format!("/other/{round}/{number}"),
                _ => format!("/apis/{round}/{number}"),
            })
            .collect();
        let urls: Vec<String> = paths.iter().map(|path| format!("{URL}{path}")).collect();
        for (path, answer) in paths.iter().zip(client.at_once(&urls)) {
            assert_eq!(answer.body, format!("{}\n", expected(path)), "{path}");
        }
    }
    let seen = world.http2.seen();
    assert_eq!(seen.len(), 600);
    for request in &seen {
        assert_eq!(request.source, expected(request.uri.path()), "{request:?}");
        assert_eq!(request.uri.scheme_str(), Some("http"));
        assert_eq!(request.uri.authority().unwrap(), "api.external.com:8082");
    }
    // Few connections carried all of it, each for one source: what came before the first was there
    // opened its own.
    let connections: BTreeSet<_> = seen
        .iter()
        .map(|request| (request.connection, request.source))
        .collect();
    let numbers: BTreeSet<_> = connections.iter().map(|(number, _)| number).collect();
    assert_eq!(numbers.len(), connections.len(), "{connections:?}");
    assert!(numbers.len() <= 60, "{connections:?}");
    world.log.wait_for("a line for a stream", |line| {
        line["workload"] == "docker/web"
            && line["path"] == "/api/7/3"
            && line["host"] == "api.external.com"
            && line["policy"] == "api"
            && line["intended_source"] == FIRST.to_string()
            && line["upstream"] == "198.51.100.7:8082"
            && line["status"] == 200
            && line["reused"] == true
            && line["bytes_received"] == 13
    });
}

#[test]
fn curl_speaks_http2_without_asking() {
    let world = World::new("h2-curl");
    // One path each: curl 7.88 fails on its second request over such a connection, with any server.
    for (path, source) in [("/api/x", FIRST), ("/x", SECOND)] {
        let url = format!("{URL}{path}");
        let told = ["--http2-prior-knowledge", "--write-out", "%{http_version}"];
        let printed = world.curl(&[&told[..], &[&url]].concat()).unwrap();
        assert_eq!(printed, format!("{source}\n2"));
    }
}

#[test]
fn the_path_is_decided_and_forwarded_in_its_one_spelling() {
    let world = World::new("h2-spelling");
    let client = client(&world);
    for (asked, forwarded) in [
        ("/api/../other?q=/api", "/other?q=/api"),
        ("//api/x", "/api/x"),
        ("/%61pi/x", "/api/x"),
        ("/apikeys", "/apikeys"),
    ] {
        let answer = client.get(&format!("{URL}{asked}"));
        let path = forwarded.split('?').next().unwrap();
        assert_eq!(answer.body, format!("{}\n", expected(path)), "{asked}");
        let seen = world.http2.seen();
        assert_eq!(
            seen.last().unwrap().uri.path_and_query().unwrap(),
            forwarded
        );
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    let world = World::new("h2-refused");
    let client = client(&world);
    let asked = |path: &str| Request::get(format!("{URL}{path}"));
    let refused = [
        (asked("/api%2Fx").body(nothing()), 400, ""),
        (asked("/api;x").body(nothing()), 400, ""),
        (
            asked("/x").header("host", "other.example").body(nothing()),
            400,
            "",
        ),
        (
            Request::get("http://denied.example:8082/").body(nothing()),
            403,
            "policy=\"refuses\"; reason=Denied",
        ),
        (
            Request::get("http://inside.partner.example:8082/").body(nothing()),
            502,
            "policy=\"partner\"; reason=PrivateAnswer",
        ),
        (
            Request::get("http://gone.example:8082/").body(nothing()),
            503,
            "error=proxy_configuration_error; policy=\"gone\"",
        ),
        (
            Request::connect("api.external.com:8082").body(nothing()),
            405,
            "",
        ),
    ];
    for (request, status, told) in refused {
        let answer = client.whole(request.unwrap());
        assert_eq!(answer.status, status, "{answer:?}");
        let proxy_status = answer.field("proxy-status");
        assert!(proxy_status.starts_with("sortie; error="), "{answer:?}");
        assert!(proxy_status.contains(told), "{answer:?}");
        assert!(answer.body.starts_with("sortie: "), "{answer:?}");
    }
    assert!(world.http2.seen().is_empty());
    // The connection goes on.
    assert_eq!(client.get(&format!("{URL}/api")).body, format!("{FIRST}\n"));
    world.log.wait_for("the log tells a refusal", |line| {
        line["host"] == "denied.example"
            && line["status"] == 403
            && line["refused"]
                .as_str()
                .is_some_and(|refused| refused.contains("reason=Denied"))
    });
}

#[test]
fn fields_go_on_but_those_of_the_connection() {
    let world = World::new("h2-fields");
    let client = client(&world);
    let request = Request::get(format!("{URL}/offers"))
        .header("host", "api.external.com:8082")
        .header("x-tenant", "blue")
        .header("te", "trailers")
        .header("proxy-authorization", "Basic eA==")
        .header("cookie", "a=1")
        .header("cookie", "b=2");
    let answer = client.whole(request.body(nothing()).unwrap());
    // By its field.
    assert_eq!(answer.body, format!("{FIRST}\n"));
    assert_eq!(answer.fields.get("alt-svc"), None);
    let seen = world.http2.seen().remove(0);
    assert_eq!(seen.fields["x-tenant"], "blue");
    assert_eq!(seen.fields["te"], "trailers");
    let cookies: Vec<_> = seen.fields.get_all("cookie").iter().collect();
    assert_eq!(cookies, ["a=1; b=2"]);
    for gone in ["host", "proxy-authorization"] {
        assert_eq!(seen.fields.get(gone), None, "{gone}");
    }
}

#[test]
fn trailers_go_both_ways() {
    let world = World::new("h2-trailers");
    let client = client(&world);
    let (send, body) = parts();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-end", "1".parse().unwrap());
    client.runtime.spawn(async move {
        send.send(Frame::data(Bytes::from_static(b"part")))
            .await
            .unwrap();
        send.send(Frame::trailers(trailers)).await.unwrap();
    });
    let request = Request::post(format!("{URL}/api/trailers")).body(body);
    let answer = client.whole(request.unwrap());
    assert_eq!(answer.body, format!("{FIRST}\n"));
    assert_eq!(answer.trailers.unwrap()["x-sum"], "7");
    let seen = world.http2.seen().remove(0);
    assert_eq!(seen.trailers.unwrap()["x-end"], "1");
    assert_eq!(seen.length, 4);
    // Nothing but a head, as gRPC refuses.
    let answer = client.get(&format!("{URL}/api/head"));
    assert_eq!(answer.field("grpc-status"), "7");
    assert_eq!(answer.body, "");
    assert!(answer.trailers.is_none());
}

#[test]
fn both_bodies_flow_at_once() {
    let world = World::new("h2-echo");
    let client = client(&world);
    let (send, body) = parts();
    let request = Request::post(format!("{URL}/api/echo")).body(body).unwrap();
    let mut answer = client.ask(request).unwrap();
    for round in 0..20 {
        let text = format!("message {round}");
        send.blocking_send(Frame::data(Bytes::from(text.clone())))
            .unwrap();
        let frame = client.frame(answer.body_mut()).unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), text);
    }
    drop(send);
    assert_eq!(client.rest(answer.body_mut()), 0);
    assert_eq!(world.http2.seen()[0].source, IpAddr::from(FIRST));
    world.log.wait_for("the stream's line", |line| {
        line["path"] == "/api/echo" && line["bytes_sent"] == 190 && line["bytes_received"] == 190
    });
}

#[test]
fn who_does_not_take_holds_up_who_sends() {
    // What all windows and sockets on the way hold together.
    const MOST: u64 = 24 << 20;
    let world = World::new("h2-pressure");
    let client = client(&world);
    // The origin does not take the request's body.
    let (send, body) = parts();
    let request = Request::post(format!("{URL}/api/stuck"))
        .body(body)
        .unwrap();
    let uploaded = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&uploaded);
    client.runtime.spawn(async move {
        let part = Bytes::from_static(&[b'x'; 16 * 1024]);
        while send.send(Frame::data(part.clone())).await.is_ok() {
            counted.fetch_add(16 * 1024, Ordering::Relaxed);
        }
    });
    let mut stuck = Box::pin({
        let mut sender = client.sender();
        async move { sender.send_request(request).await }
    });
    let asked = client
        .runtime
        .block_on(async { tokio::time::timeout(Duration::from_millis(10), &mut stuck).await });
    assert!(asked.is_err());
    // Others go on meanwhile, also one that the client does not take.
    let mut large = client.ask(get(&format!("{URL}/large"))).unwrap();
    let taken = || world.http2.taken.load(Ordering::Relaxed);
    let mut before = (0, 0);
    eventually_true(SOON, "nothing moves any more", || {
        let now = (uploaded.load(Ordering::Relaxed), taken());
        let is_still = now == before && now.0 > 0 && now.1 > 0;
        before = now;
        is_still
    })
    .unwrap();
    assert!(before.0 < MOST && before.1 < MOST, "{before:?}");
    assert_eq!(client.get(&format!("{URL}/api")).body, format!("{FIRST}\n"));
    // All of it comes when it is taken.
    assert_eq!(client.rest(large.body_mut()), LARGE);
}

#[test]
fn a_client_that_resets_a_stream_resets_it_at_the_origin() {
    let world = World::new("h2-reset");
    let client = client(&world);
    let answer = client.ask(get(&format!("{URL}/large"))).unwrap();
    drop(answer);
    world.log.wait_for("the stream's line", |line| {
        line["path"] == "/large" && line["bytes_received"].as_u64().unwrap() < LARGE
    });
    assert_eq!(client.get(&format!("{URL}/api")).body, format!("{FIRST}\n"));
}

#[test]
fn streams_that_are_reset_again_and_again_hold_up_nobody() {
    let world = World::new("h2-resets");
    let resetting = client(&world);
    for _ in 0..20 {
        let resets: Vec<_> = (0..50)
            .map(|_| {
                let mut sender = resetting.sender();
                let answer = sender.send_request(get(&format!("{URL}/api/stuck")));
                let soon = async { tokio::time::timeout(Duration::ZERO, answer).await.is_ok() };
                resetting.runtime.spawn(soon)
            })
            .collect();
        for reset in resets {
            // It may also be told that the connection is over.
            let _ = resetting.runtime.block_on(reset).unwrap();
        }
    }
    let other = client(&world);
    assert_eq!(other.get(&format!("{URL}/api")).body, format!("{FIRST}\n"));
}

#[test]
fn what_begins_tls_speaks_http2_where_the_origin_does() {
    let world = World::new("h2-originate");
    let client = client(&world);
    let answer = client.get("http://h2.partner.example:8082/api/length");
    assert_eq!(answer.body, format!("{FIRST} 0\n"));
    let seen = world.http2_tls.seen().remove(0);
    assert_eq!(seen.source, IpAddr::from(FIRST));
    assert_eq!(seen.uri.scheme_str(), Some("https"));
    // And HTTP/1 where it does not.
    for connection in 0..2 {
        let answer = client.get("http://secure.example:8082/x");
        assert_eq!(
            (answer.status, &*answer.body),
            (200, &*format!("{FIRST}\n"))
        );
        assert_eq!(world.tls.seen()[connection].source, IpAddr::from(FIRST));
        assert_eq!(world.tls.seen()[connection].connection, 0);
    }
    // Who does not prove its name gets no request.
    let answer = client.get("http://wrong.example:8082/x");
    assert_eq!(answer.status, 502);
    assert!(
        answer
            .field("proxy-status")
            .contains("error=tls_certificate_error")
    );
    assert_ne!(HTTP2_TLS_PORT, HTTP2_PORT);
}

#[test]
fn a_gateway_that_drains_lets_streams_end() {
    let world = World::new("h2-drain");
    let client = client(&world);
    let (send, body) = parts();
    let request = Request::post(format!("{URL}/api/echo")).body(body).unwrap();
    let mut answer = client.ask(request).unwrap();
    let log = Arc::clone(&world.log);
    let drains = thread::spawn(move || world.drain());
    for text in ["one", "two"] {
        send.blocking_send(Frame::data(Bytes::from(text))).unwrap();
        let frame = client.frame(answer.body_mut()).unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), text);
    }
    assert!(!drains.is_finished());
    drop(send);
    assert_eq!(client.rest(answer.body_mut()), 0);
    assert_eq!(answer.version(), Version::HTTP_2);
    drains.join().unwrap();
    log.wait_for("the stream's line", |line| line["path"] == "/api/echo");
}

#[test]
fn an_address_in_place_of_a_name_decides_nothing() {
    let world = World::new("h2-address");
    let client = client(&world);
    let answer = client.get(&format!("http://{ORIGIN}:8082/api"));
    assert_eq!(answer.body, format!("{HOST}\n"));
}
