//! What is a destination, and what is said of the rest.

use super::{Address, Destination, Name, Url};

fn parsed(text: &str) -> String {
    match text.parse::<Destination>() {
        Ok(Destination::Address(Address { ip, port, protocol })) => {
            format!("{ip} {port:?} {protocol:?}")
        }
        Ok(Destination::Name(Name {
            text,
            port,
            protocol,
        })) => format!("name {text} {port:?} {protocol:?}"),
        Ok(Destination::Url(Url {
            encrypted,
            name,
            port,
            path,
        })) => {
            let tls = if encrypted { "TLS" } else { "plain" };
            format!("{tls} {name} {port} {path}")
        }
        Err(error) => error,
    }
}

#[test]
fn accepted() {
    for (text, expected) in [
        ("203.0.113.9", "203.0.113.9 None None"),
        ("203.0.113.9:443", "203.0.113.9 Some(443) None"),
        ("203.0.113.9:53/udp", r#"203.0.113.9 Some(53) Some("udp")"#),
        ("203.0.113.9:53/TCP", r#"203.0.113.9 Some(53) Some("tcp")"#),
        ("2001:db8::1", "2001:db8::1 None None"),
        ("::1", "::1 None None"),
        ("[2001:db8::1]", "2001:db8::1 None None"),
        ("[2001:db8::1]:443", "2001:db8::1 Some(443) None"),
        (
            "[2001:db8::1]:443/udp",
            r#"2001:db8::1 Some(443) Some("udp")"#,
        ),
        // All of these are addresses: a bare one has no port.
        ("2001:db8::1:443", "2001:db8::1:443 None None"),
        ("::ffff:203.0.113.9", "203.0.113.9 None None"),
        ("fe80::1", "fe80::1 None None"),
        ("db", "name db None None"),
        ("API.Example.", "name api.example None None"),
        ("db.example:5432", "name db.example Some(5432) None"),
        (
            "db.example:53/UDP",
            r#"name db.example Some(53) Some("udp")"#,
        ),
        ("http://Api.Example", "plain api.example 80 /"),
        ("https://api.example/v1?q=1#top", "TLS api.example 443 /v1"),
        (
            "HTTP://api.example:8080/a%2fb",
            "plain api.example 8080 /a%2fb",
        ),
        ("http://api.example?q", "plain api.example 80 /"),
        ("http://api.example:/x", "plain api.example 80 /x"),
        // An address in a URL is no name.
        ("https://203.0.113.9/x", "203.0.113.9 Some(443) None"),
        ("http://[2001:db8::1]:8080/x", "2001:db8::1 Some(8080) None"),
        ("http://[2001:db8::1]", "2001:db8::1 Some(80) None"),
    ] {
        assert_eq!(parsed(text), expected, "{text}");
    }
}

#[test]
fn refused() {
    for (text, part) in [
        ("", "is no IP address"),
        ("*.example.com", "means many names"),
        ("exa mple.com", "exa mple.com"),
        ("müller.example", "müller.example"),
        ("example.com:https", "`https` is no port"),
        ("example.com:", "a port is missing behind the colon"),
        ("example.com/udp", "write it as in example.com:443/udp"),
        ("example.com/api", "write a URL, http://example.com/api"),
        (
            "example.com:80/api",
            "write a URL, http://example.com:80/api",
        ),
        ("ftp://example.com", "write http or https"),
        ("http://", "an empty string cannot be a host's name"),
        ("http://user:secret@example.com/", "leave the user"),
        ("http://example.com:0/", "`0` is no port"),
        ("http://example.com/a b", "must be percent-encoded"),
        ("http://[2001:db8::1]x/", "cannot follow the bracket"),
        ("http://[example.com]/", "is no IPv6 address"),
        ("203.0.113.300", "`203.0.113.300` is no IP address"),
        ("203.0.113.9:", "a port is missing behind the colon"),
        ("[2001:db8::1]:", "a port is missing behind the colon"),
        ("203.0.113.9:0", "`0` is no port; write 1 to 65535"),
        ("203.0.113.9:65536", "`65536` is no port"),
        ("203.0.113.9:https", "`https` is no port"),
        ("203.0.113.9/tcp", "write it as in 203.0.113.9:443/tcp"),
        ("2001:db8::1/udp", "write it as in [2001:db8::1]:443/udp"),
        ("203.0.113.0/24", "without a prefix length"),
        ("203.0.113.9:80/icmp", "write tcp or udp"),
        ("203.0.113.9:80/", "write tcp or udp"),
        ("[2001:db8::1", "has no closing bracket"),
        ("[203.0.113.9]:80", "`203.0.113.9` is no IPv6 address"),
        ("[2001:db8::1]443", "write [ADDRESS]:PORT"),
        ("2001:0db8:0:0:0:0:0:1:443", "write [2001:db8::1]:PORT"),
    ] {
        let answer = parsed(text);
        assert!(answer.contains(part), "{text}: {answer}");
    }
}
