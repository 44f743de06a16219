//! Observers' URLs and answers, and probes of real observers inside a network namespace.

mod namespace;

use super::{ObserverUrl, answer};

fn url(text: &str) -> String {
    match text.parse::<ObserverUrl>() {
        Ok(url) => format!("{} {:?}", url.address, url.scheme),
        Err(error) => error.to_string(),
    }
}

#[test]
fn urls() {
    for (text, expected) in [
        ("http://203.0.113.9", r#"203.0.113.9:80 Http { path: "/" }"#),
        (
            "http://203.0.113.9:8080/ip?x=1",
            r#"203.0.113.9:8080 Http { path: "/ip?x=1" }"#,
        ),
        (
            "http://[2001:db8::9]/",
            r#"[2001:db8::9]:80 Http { path: "/" }"#,
        ),
        (
            "http://203.0.113.9?x",
            r#"203.0.113.9:80 Http { path: "/?x" }"#,
        ),
        ("tcp://203.0.113.9:1", "203.0.113.9:1 Tcp"),
        ("udp://[2001:db8::9]:65535/", "[2001:db8::9]:65535 Udp"),
    ] {
        assert_eq!(url(text), expected, "{text}");
    }
    for (text, part) in [
        ("203.0.113.9:80", "write http://ADDRESS"),
        ("ftp://203.0.113.9", "write http://ADDRESS"),
        ("https://203.0.113.9/", "TLS is not spoken here"),
        ("http://example.com/", "names are not resolved"),
        ("http:///", "names are not resolved"),
        ("tcp://203.0.113.9", "it has no port"),
        ("tcp://203.0.113.9:1/x", "tcp has no path"),
        ("udp://203.0.113.9:0", "port 0"),
        ("udp://203.0.113.9:70000", "needs an IP address"),
        ("http://2001:db8::9/", "write [2001:db8::9]"),
        ("http://203.0.113.9/a b", "percent-encoded"),
        ("http://203.0.113.9/a\r\nHost: b", "percent-encoded"),
        ("http://user@203.0.113.9/", "names are not resolved"),
    ] {
        let answer = url(text);
        assert!(answer.contains(part), "{text}: {answer}");
    }
}

#[test]
fn answers() {
    for (text, expected) in [
        ("203.0.113.11\n", "203.0.113.11"),
        ("203.0.113.11 4711\n", "203.0.113.11"),
        ("203.0.113.11:4711\n", "203.0.113.11"),
        ("[2001:db8::11]:4711", "2001:db8::11"),
        ("2001:db8::11 4711", "2001:db8::11"),
        ("::ffff:203.0.113.11", "203.0.113.11"),
        (r#"{"ip": "203.0.113.11"}"#, "203.0.113.11"),
        (r#"{"port": 1, "address": "2001:db8::11"}"#, "2001:db8::11"),
        (r#"{"origin": "203.0.113.11"}"#, "203.0.113.11"),
        (r#""203.0.113.11""#, "203.0.113.11"),
    ] {
        assert_eq!(
            answer::address(text.as_bytes()).map(|a| a.to_string()),
            Ok(expected.to_owned()),
            "{text}"
        );
    }
    for text in [
        "",
        "hello",
        "<html>203.0.113.11",
        "203.0.113",
        r#"{"address": 1}"#,
        r#"{"origin": "203.0.113.11, 203.0.113.12"}"#,
        r#"{"other": "203.0.113.11"}"#,
    ] {
        answer::address(text.as_bytes()).unwrap_err();
    }
}

#[test]
fn http_answers() {
    let good = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n203.0.113.11\n";
    assert_eq!(answer::of_http(good).unwrap().to_string(), "203.0.113.11");
    assert!(answer::http_is_whole(good));
    assert!(!answer::http_is_whole(&good[..good.len() - 1]));
    let closed = b"HTTP/1.0 200 OK\r\n\r\n203.0.113.11";
    assert_eq!(answer::of_http(closed).unwrap().to_string(), "203.0.113.11");
    assert!(!answer::http_is_whole(closed));
    let missing = answer::of_http(b"HTTP/1.1 404 Not Found\r\n\r\n203.0.113.11");
    assert_eq!(missing.unwrap_err(), "`HTTP/1.1 404 Not Found`");
    answer::of_http(b"203.0.113.11\n").unwrap_err();
}
