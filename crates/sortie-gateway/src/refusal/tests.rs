//! What clients are told.

use super::*;

#[test]
fn a_policys_refusal_names_it() {
    let refusal = Refusal::policy(Some("bank \"x\"".into()), Reason::PathNotVisible);
    assert_eq!(
        refusal.proxy_status(),
        "sortie; error=http_request_denied; policy=\"bank \\\"x\\\"\"; reason=PathNotVisible; \
         details=\"TLS hides the path, which decides about the source address\""
    );
}

#[test]
fn nothing_of_a_message_gets_into_the_head() {
    let error = io::Error::other("a\r\nSet-Cookie: b\u{e9}");
    let mut out = Vec::new();
    Refusal::name("x.example", &error).write(&mut out, true, false);
    let text = String::from_utf8(out).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\nProxy-Status: sortie; error=dns_error;"));
    assert!(head.contains("x.example: a??Set-Cookie: b?\""));
    assert!(head.ends_with("Connection: close"));
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
}

#[test]
fn head_gets_no_body() {
    let mut out = Vec::new();
    Refusal::late().write(&mut out, false, true);
    assert!(out.ends_with(b"\r\n\r\n"));
}
