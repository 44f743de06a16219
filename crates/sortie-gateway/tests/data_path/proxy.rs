//! The gateway as a proxy that is asked: whole URLs, CONNECT, SOCKS5.

use std::io::{Read, Write};

use crate::tls::Caller;
use crate::world::{FIRST, HOST, SECOND, USER, World, response};

const HTTP: [&str; 2] = ["--proxy", "http://203.0.113.5:3128"];
const SOCKS: [&str; 2] = ["--proxy", "socks5h://203.0.113.5:3128"];
/// An address that nobody knows.
const STRANGER: [&str; 2] = ["--interface", "198.51.100.9"];

#[test]
fn whole_urls_have_a_source_each() {
    let world = World::new("forward");
    let (api, other) = (
        "http://api.external.com:8080//api/x",
        "http://api.external.com:8080/x",
    );
    let told = ["--write-out", "%{num_connects} "];
    let printed = world.proxied(&[&HTTP[..], &told, &[api, other, api]].concat());
    assert_eq!(
        printed.unwrap(),
        format!("{FIRST}\n1 {SECOND}\n0 {FIRST}\n0 ")
    );
    let seen = world.origin.seen();
    assert!(
        seen[0]
            .head
            .starts_with("GET /api/x HTTP/1.1\r\nHost: api.external.com:8080\r\n")
    );
    assert!(!seen[0].head.contains("Proxy-"));
    // Without a policy for it, the host's own address.
    let printed = world.proxied(&[&HTTP[..], &["http://unnamed.example:8080/"]].concat());
    assert_eq!(printed.unwrap(), format!("{HOST}\n"));
}

#[test]
fn connect_is_decided_by_its_host() {
    let world = World::new("connect");
    let url = "https://a.partner.example:8443/x";
    let printed = world.proxied(&[&HTTP[..], &[url]].concat());
    assert_eq!(printed.unwrap(), format!("{FIRST}\n"));
    assert_eq!(
        world.tls.seen(),
        [Caller::first(FIRST, "a.partner.example")]
    );
    for refused in [
        "https://denied.example:8443/",
        // A path inside decides.
        "https://api.external.com:8443/",
        // No policy names these, and the port is not 443.
        "https://unnamed.example:8443/",
        "https://198.51.100.7:8443/",
    ] {
        let error = world
            .proxied(&[&HTTP[..], &[refused]].concat())
            .unwrap_err();
        assert!(error.contains("response 403"), "{refused}: {error}");
    }
    assert_eq!(world.tls.seen().len(), 1);
}

#[test]
fn tls_inside_asks_for_the_name_that_connect_did() {
    let world = World::new("fronting");
    let mut client = world.connect_to_proxy();
    write!(
        client,
        "CONNECT a.partner.example:8443 HTTP/1.1\r\nHost: a.partner.example\r\n\r\n"
    )
    .unwrap();
    let (head, _) = response(&mut client);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    // For api.external.com.
    client
        .write_all(include_bytes!("../../src/tls/client_hello/curl.bin"))
        .unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, sortie_gateway::tls::ACCESS_DENIED);
    assert!(world.tls.seen().is_empty());
}

#[test]
fn socks_leads_to_the_same_decisions() {
    let world = World::new("socks");
    for (url, source) in [
        ("http://api.external.com:8080/api/x", FIRST),
        ("http://api.external.com:8080/x", SECOND),
        ("https://a.partner.example:8443/x", FIRST),
        ("http://unnamed.example:8080/x", HOST),
    ] {
        let printed = world.proxied(&[&SOCKS[..], &[url]].concat());
        assert_eq!(printed, Ok(format!("{source}\n")), "{url}");
    }
    let hidden = [&SOCKS[..], &["https://api.external.com:8443/"]].concat();
    let error = world.proxied(&hidden).unwrap_err();
    assert!(error.contains("alert access denied"), "{error}");
    assert_eq!(world.tls.seen().len(), 1);
}

#[test]
fn who_is_not_known_is_served_nothing() {
    let world = World::new("stranger");
    let url = "http://api.external.com:8080/api/x";
    let plain = [&HTTP[..], &STRANGER, &["--include", url]].concat();
    let printed = world.proxied(&plain).unwrap();
    assert!(printed.starts_with("HTTP/1.1 407 "), "{printed}");
    assert!(
        printed.contains("Proxy-Authenticate: Basic realm="),
        "{printed}"
    );
    let socks = [&SOCKS[..], &STRANGER, &[url]].concat();
    world.proxied(&socks).unwrap_err();
    let wrong = [&SOCKS[..], &STRANGER, &["--proxy-user", "ci:wrong", url]].concat();
    world.proxied(&wrong).unwrap_err();
    assert!(world.origin.seen().is_empty());

    for way in [HTTP, SOCKS] {
        let proved = [&way[..], &STRANGER, &["--proxy-user", USER, url]].concat();
        assert_eq!(world.proxied(&proved), Ok(format!("{FIRST}\n")));
    }
    for seen in world.origin.seen() {
        assert_eq!(seen.source, FIRST);
        assert!(!seen.head.contains("uthorization"), "{}", seen.head);
    }
}

#[test]
fn a_proxys_client_reaches_nothing_of_the_host() {
    let world = World::new("inside");
    for url in [
        "http://127.0.0.1:3128/",
        "http://203.0.113.5:3128/",
        "http://10.0.0.1:8080/",
        "http://inside.partner.example:8080/",
    ] {
        let printed = world.proxied(&[&HTTP[..], &["--include", url]].concat());
        let printed = printed.unwrap();
        assert!(printed.starts_with("HTTP/1.1 502 "), "{url}: {printed}");
        assert!(printed.contains("reason=PrivateAnswer"), "{url}: {printed}");
    }
    let origin_form = {
        let mut client = world.connect_to_proxy();
        write!(client, "GET / HTTP/1.1\r\nHost: api.external.com\r\n\r\n").unwrap();
        response(&mut client).0
    };
    assert!(origin_form.starts_with("HTTP/1.1 400 "), "{origin_form}");
    assert!(world.origin.seen().is_empty());
}
