//! Hosts and ports, right and wrong.

use super::*;

fn name(text: &str) -> Host<'_> {
    Host::Name(text.into())
}

#[test]
fn names_are_in_lower_case_and_without_the_roots_dot() {
    for text in ["api.external.com", "API.External.COM", "api.external.com."] {
        assert_eq!(Host::parse(text), Ok(name("api.external.com")), "{text}");
    }
    assert_eq!(
        Host::parse("_dmarc.a-b.example"),
        Ok(name("_dmarc.a-b.example"))
    );
}

#[test]
fn addresses_are_no_names() {
    assert_eq!(
        Host::parse("203.0.113.5"),
        Ok(Host::Ip([203, 0, 113, 5].into()))
    );
    assert_eq!(
        Host::parse("[::1]"),
        Ok(Host::Ip(Ipv6Addr::LOCALHOST.into()))
    );
}

#[test]
fn what_is_neither_is_refused() {
    let long = format!("{}.example", "a".repeat(64));
    let longer = ["abcdefgh."; 30].concat() + "example";
    for text in [
        "",
        ".",
        "..",
        "a..b",
        ".a",
        "a b",
        "a@b",
        "a/b",
        "a%2eb",
        "2130706433",
        "0x7f.1",
        "127.1",
        "0177.0.0.1",
        "1.2.3.4.5",
        "256.1.1.1",
        "[::1",
        "::1",
        "[v1.a]",
        "[::1%eth0]",
        "bücher.example",
        &long,
        &longer,
    ] {
        assert_eq!(Host::parse(text), Err(WRONG_HOST), "{text}");
    }
}

#[test]
fn ports_are_numbers() {
    let port = |text| Authority::parse(text).map(|authority| authority.port);
    assert_eq!(port("a.example"), Ok(None));
    assert_eq!(port("a.example:"), Ok(None));
    assert_eq!(port("a.example:8080"), Ok(Some(8080)));
    assert_eq!(port("[::1]:8080"), Ok(Some(8080)));
    assert_eq!(port("[::1]"), Ok(None));
    for text in ["a:0", "a:65536", "a:+80", "a: 80", "a:80:80", "[::1]:x"] {
        assert_eq!(port(text), Err(WRONG_PORT), "{text}");
    }
    for text in ["user@a.example", "user:1@a.example", "[::1]x:80", "::1:80"] {
        assert!(port(text).is_err(), "{text}");
    }
}
