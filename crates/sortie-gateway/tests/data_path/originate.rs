//! TLS that the gateway begins: the workload speaks plain HTTP, the origin sees TLS.

use std::io::Write;

use crate::tls::Caller;
use crate::world::{FIRST, PORT, World, response};

/// What a request to a name is answered with.
fn ask(world: &World, name: &str) -> (String, String) {
    let mut client = world.connect(PORT);
    write!(client, "GET /x HTTP/1.1\r\nHost: {name}\r\n\r\n").unwrap();
    response(&mut client)
}

#[test]
fn plain_requests_leave_by_tls_from_their_source() {
    let world = World::new("begin");
    for _ in 0..3 {
        let (_, body) = ask(&world, "secure.example");
        assert_eq!(body, format!("{FIRST}\n"));
    }
    // One connection for all of them: the session's own messages do not end it.
    let expected = Caller::first(FIRST, "secure.example");
    assert_eq!(world.tls.seen(), vec![expected; 3]);
    assert!(world.origin.seen().is_empty());
}

#[test]
fn a_client_certificate_is_shown_to_who_asks() {
    let world = World::new("known");
    assert_eq!(ask(&world, "known.partner.example").1, format!("{FIRST}\n"));
    let expected = Caller {
        is_known: true,
        ..Caller::first(FIRST, "known.partner.example")
    };
    assert_eq!(world.tls.seen(), [expected]);
}

#[test]
fn who_does_not_prove_its_name_gets_no_request() {
    let world = World::new("untrusted");
    // Signed by another CA; signed for another name.
    for name in ["strange.partner.example", "wrong.example"] {
        let (head, body) = ask(&world, name);
        assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
        assert!(
            head.contains("error=tls_certificate_error; policy=\"secured\""),
            "{head}"
        );
        assert!(body.contains("198.51.100.7:8443"), "{body}");
    }
    assert!(world.tls.seen().is_empty());
}
