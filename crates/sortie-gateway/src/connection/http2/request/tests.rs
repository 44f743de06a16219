//! Requests as HTTP/2 can write them, and what becomes of them.

use super::*;

fn parts(method: &str, uri: &str, fields: &[(&str, &str)]) -> request::Parts {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn reason(method: &str, uri: &str, fields: &[(&str, &str)]) -> &'static str {
    read(parts(method, uri, fields)).unwrap_err().reason
}

#[test]
fn who_is_asked_is_told_in_one_way() {
    let url = "http://a.example:8080/x";
    for fields in [&[][..], &[("host", "A.example:8080")]] {
        let asked = read(parts("GET", url, fields)).unwrap();
        assert_eq!(asked.host, Host::Name("a.example".into()));
        let sent = asked.forward((), true, true).unwrap();
        assert_eq!(sent.uri(), "https://a.example:8080/x");
        assert!(sent.headers().is_empty());
    }
    let asked = read(parts("GET", "/x", &[("host", "a.example")])).unwrap();
    assert_eq!(
        asked.forward((), true, false).unwrap().uri(),
        "http://a.example/x"
    );
    for fields in [
        &[("host", "b.example:8080")][..],
        &[("host", "a.example")],
        &[("host", "a.example:8080"), ("host", "a.example:8080")],
    ] {
        reason("GET", url, fields);
    }
    assert_eq!(reason("GET", "/x", &[]), "neither :authority nor Host");
    reason("GET", "http://user@a.example/", &[]);
    reason("GET", "/x", &[("host", "a.example/b")]);
}

#[test]
fn http1_gets_a_host_field_and_a_path() {
    let fields = [("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers")];
    let mut asked = read(parts("GET", "http://a.example/b/../c?d", &fields)).unwrap();
    asked.settle_path().unwrap();
    let sent = asked.forward((), false, false).unwrap();
    assert_eq!(sent.uri(), "/c?d");
    assert_eq!(sent.version(), Version::HTTP_11);
    assert_eq!(sent.headers()["host"], "a.example");
    assert_eq!(sent.headers()["cookie"], "a=1; b=2");
}

#[test]
fn one_length_at_most() {
    let url = "http://a.example/";
    let same = [("content-length", "3"), ("content-length", "3")];
    let asked = read(parts("POST", url, &same)).unwrap();
    assert_eq!(asked.fields.get_all("content-length").iter().count(), 1);
    reason(
        "POST",
        url,
        &[("content-length", "3"), ("content-length", "4")],
    );
}

#[test]
fn the_asterisk_is_for_options() {
    let mut asterisk = parts("OPTIONS", "http://a.example/", &[]);
    let mut uri = asterisk.uri.into_parts();
    uri.path_and_query = Some(PathAndQuery::from_static("*"));
    asterisk.uri = Uri::from_parts(uri).unwrap();
    let mut asked = read(asterisk.clone()).unwrap();
    asked.settle_path().unwrap();
    assert_eq!(asked.path, "*");
    asterisk.method = Method::GET;
    read(asterisk).unwrap_err();
}

#[test]
fn fields_of_one_connection_do_not_go_on() {
    let fields = [
        ("proxy-authorization", "x"),
        ("keep-alive", "5"),
        ("http2-settings", "x"),
        ("x-kept", "1"),
    ];
    let asked = read(parts("GET", "http://a.example/", &fields)).unwrap();
    assert_eq!(asked.fields.keys().collect::<Vec<_>>(), ["x-kept"]);
}
