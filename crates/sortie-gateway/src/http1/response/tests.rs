//! Responses: where their bodies end, what is forwarded, what is no answer.

use super::*;

const ASKED: Asked = Asked {
    head: false,
    upgrades: false,
    version: Version::Http11,
};

fn with<T>(input: &str, asked: Asked, look: impl FnOnce(Parsed<Response<'_, '_>>) -> T) -> T {
    let mut space = FieldSpace::new();
    look(Response::parse(
        input.as_bytes(),
        &mut space,
        asked,
        Limits::default(),
    ))
}

fn body(text: &str, asked: Asked) -> Option<(Framing, bool)> {
    with(&format!("{text}\r\n"), asked, |parsed| match parsed {
        Parsed::Head(response) => Some((response.body, response.persists)),
        Parsed::Refused(_) => None,
        Parsed::Incomplete => panic!("{text:?}"),
    })
}

fn forwarded(text: &str, asked: Asked, closes: bool) -> String {
    with(text, asked, |parsed| {
        let Parsed::Head(mut response) = parsed else {
            panic!("{text:?}: {parsed:?}");
        };
        response.remove_http3();
        let mut out = Vec::new();
        response.write_head(&mut out, closes);
        String::from_utf8(out).unwrap()
    })
}

#[test]
fn the_end_of_each_body_is_known() {
    let head = Asked {
        head: true,
        ..ASKED
    };
    for (text, asked, expected) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
            ASKED,
            (Framing::Length(5), true),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n",
            ASKED,
            (Framing::None, true),
        ),
        (
            "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n",
            ASKED,
            (Framing::Chunked, true),
        ),
        ("HTTP/1.1 200 OK\r\n", ASKED, (Framing::UntilClose, false)),
        (
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n",
            ASKED,
            (Framing::Length(5), false),
        ),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n",
            ASKED,
            (Framing::Length(5), false),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
            head,
            (Framing::None, true),
        ),
        ("HTTP/1.1 204 No Content\r\n", ASKED, (Framing::None, true)),
        (
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n",
            ASKED,
            (Framing::None, true),
        ),
        ("HTTP/1.1 100 Continue\r\n", ASKED, (Framing::None, true)),
        (
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n",
            ASKED,
            (Framing::None, true),
        ),
    ] {
        assert_eq!(body(text, asked), Some(expected), "{text}");
    }
}

#[test]
fn what_is_no_answer() {
    let old = Asked {
        version: Version::Http10,
        ..ASKED
    };
    for (text, asked) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            ASKED,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
            ASKED,
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n", ASKED),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n",
            ASKED,
        ),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n", ASKED),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", old),
        (
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n",
            ASKED,
        ),
        ("HTTP/1.1 99 Too Low\r\n", ASKED),
        ("HTTP/1.1 20 OK\r\n", ASKED),
        ("HTTP/1.1 099 OK\r\n", ASKED),
        ("HTTP/2 200 OK\r\n", ASKED),
        ("HTTP/1.1 200 OK\nX: y\r\n", ASKED),
        ("HTTP/1.1 200 OK\r\nX: y\r\n folded\r\n", ASKED),
        ("HTTP/1.1 200 OK\r\nX : y\r\n", ASKED),
        ("SSH-2.0-OpenSSH\r\n", ASKED),
    ] {
        assert_eq!(body(text, asked), None, "{text}");
    }
}

#[test]
fn a_head_goes_on_without_the_origins_connection() {
    let text = "HTTP/1.0 200 Very OK\r\nServer: x\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\
                Keep-Alive: timeout=5\r\nUpgrade: h2c\r\nset-cookie: a\r\nSet-Cookie: b\r\n\r\n";
    assert_eq!(
        forwarded(text, ASKED, false),
        "HTTP/1.1 200 Very OK\r\nServer: x\r\nset-cookie: a\r\nSet-Cookie: b\r\n\r\n"
    );
    assert!(forwarded(text, ASKED, true).ends_with("Connection: close\r\n\r\n"));
    let upgrades = Asked {
        upgrades: true,
        ..ASKED
    };
    let switch =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    assert_eq!(forwarded(switch, upgrades, true), switch);
    let named = switch.replace("Connection: ", "X-Hop: 1\r\nConnection: X-Hop, ");
    assert_eq!(forwarded(&named, upgrades, true), switch);
    let interim = "HTTP/1.1 100 Continue\r\n\r\n";
    assert_eq!(forwarded(interim, ASKED, true), interim);
}

#[test]
fn http3_is_not_offered() {
    let text = |value: &str| format!("HTTP/1.1 204 x\r\nAlt-Svc: {value}\r\n\r\n");
    for value in [
        "h3=\":443\"; ma=86400",
        "h2=\":443\", h3-29=\":443\"",
        "quic=\":443\"",
    ] {
        assert_eq!(
            forwarded(&text(value), ASKED, false),
            "HTTP/1.1 204 x\r\n\r\n"
        );
    }
    for value in ["clear", "h2=\"alt.example:443\""] {
        assert_eq!(forwarded(&text(value), ASKED, false), text(value));
    }
}

#[test]
fn schemes_that_prove_a_connection_pin_it() {
    let pins = |value: &str| {
        let text =
            format!("HTTP/1.1 401 x\r\nWWW-Authenticate: {value}\r\nContent-Length: 0\r\n\r\n");
        with(
            &text,
            ASKED,
            |parsed| matches!(parsed, Parsed::Head(response) if response.pins),
        )
    };
    assert!(pins("NTLM") && pins("Negotiate abc="));
    assert!(!pins("Basic realm=\"NTLM\"") && !pins("Negotiated"));
}
