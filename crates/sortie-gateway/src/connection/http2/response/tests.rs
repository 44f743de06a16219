//! Heads of responses on their way to a client.

use super::*;
use crate::http1::Refused;

#[test]
fn fields_of_the_origins_connection_do_not_go_on() {
    let response = Response::builder()
        .header("connection", "close, x-own")
        .header("x-own", "1")
        .header("transfer-encoding", "chunked")
        .header("keep-alive", "5")
        .header("proxy-authenticate", "Basic")
        .header("proxy-status", "next")
        .header("alt-svc", "h3=\":443\"")
        .header("alt-svc", "h2=\":443\"")
        .body(())
        .unwrap();
    let (parts, ()) = response.into_parts();
    let kept = forward(parts.clone(), true);
    assert_eq!(kept.headers().len(), 2);
    assert_eq!(kept.headers()["proxy-status"], "next");
    assert_eq!(kept.headers()["alt-svc"], "h2=\":443\"");
    assert_eq!(
        forward(parts, false)
            .headers()
            .get_all("alt-svc")
            .iter()
            .count(),
        2
    );
}

#[test]
fn a_refusal_is_a_whole_response() {
    let refusal = Refusal::request(Refused::bad("two Host fields"));
    let (head, body) = refused(&refusal);
    assert_eq!(head.status(), 400);
    assert_eq!(body, "sortie: two Host fields\n");
    assert_eq!(head.headers()["content-length"], "24");
    assert_eq!(
        head.headers()["proxy-status"],
        "sortie; error=http_request_error; details=\"two Host fields\""
    );
}
