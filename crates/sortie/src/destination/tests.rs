//! What is a destination, and what is said of the rest.

use super::Destination;

fn parsed(text: &str) -> String {
    match text.parse::<Destination>() {
        Ok(Destination {
            address,
            port,
            protocol,
        }) => format!("{address} {port:?} {protocol:?}"),
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
    ] {
        assert_eq!(parsed(text), expected, "{text}");
    }
}

#[test]
fn refused() {
    for (text, part) in [
        ("", "is no IP address"),
        ("example.com", "names are not resolved"),
        ("example.com:443", "names are not resolved"),
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
