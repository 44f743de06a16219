//! TLS that the gateway looks into, with a CA that the workload trusts.

use std::net::Ipv4Addr;

use crate::world::{FIRST, HTTP2_TLS_PORT, PORT, SECOND, TLS_PORT, World};

/// What curl says that it spoke, and got as a status.
const TOLD: &str = "%{http_version} %{http_code} ";

fn url(name: &str, port: u16, path: &str) -> String {
    format!("https://{name}:{port}{path}")
}

/// One origin takes HTTP/1 only, the other one HTTP/2.
const WAYS: [(&str, u16, &str); 3] = [
    ("--http1.1", TLS_PORT, "1.1"),
    ("--http2", TLS_PORT, "2"),
    ("--http2", HTTP2_TLS_PORT, "2"),
];

#[test]
fn paths_inside_of_tls_have_their_own_source() {
    let world = World::new("inspect");
    for (version, port, spoken) in WAYS {
        // Two requests over one connection, and twice, so that connections are found again.
        for _ in 0..2 {
            let [api, other] = ["/api/x", "/api/../other"]
                .map(|path| url("inspected.partner.example", port, path));
            let told = ["--path-as-is", version, "--write-out", TOLD];
            let printed = world.trusting(&[&told[..], &[&api, &other]].concat());
            let expected = format!("{FIRST}\n{spoken} 200 {SECOND}\n{spoken} 200 ");
            assert_eq!(printed.unwrap(), expected, "{version} {port}");
        }
    }
    for request in world.http2_tls.seen() {
        let expected = match request.uri.path() {
            "/api/x" => FIRST,
            "/other" => SECOND,
            other => panic!("{other}"),
        };
        assert_eq!(request.source, expected);
        assert_eq!(request.uri.scheme_str(), Some("https"));
    }
    let names: Vec<_> = world
        .tls
        .seen()
        .iter()
        .map(|seen| seen.name.clone())
        .collect();
    assert_eq!(names, vec![Some("inspected.partner.example".to_owned()); 8]);
    world.log.wait_for("a line for a request", |line| {
        line["path"] == "/api/x"
            && line["host"] == "inspected.partner.example"
            && line["policy"] == "inspected"
            && line["port"] == HTTP2_TLS_PORT
            && line["upstream"] == "198.51.100.7:8444"
            && line["status"] == 200
    });
}

#[test]
fn tls_is_looked_into_for_no_other_name() {
    let world = World::new("inspect-not");
    // The certificate is the origin's own, signed by a CA that is not the inspection's.
    let other = url("a.partner.example", TLS_PORT, "/x");
    let error = world.trusting(&[&other]).unwrap_err();
    assert!(error.contains("certificate"), "{error}");
    assert_eq!(
        world.curl(&["--insecure", &other]).unwrap(),
        format!("{FIRST}\n")
    );
}

#[test]
fn an_origin_that_does_not_prove_its_name_gets_no_request() {
    let world = World::new("inspect-false");
    for (version, port, spoken) in WAYS {
        let url = url("inspected.example", port, "/x");
        let told = [version, "--include", "--write-out", TOLD, &url];
        let printed = world.trusting(&told).unwrap();
        assert!(printed.ends_with(&format!("{spoken} 502 ")), "{printed}");
        let told = "error=tls_certificate_error; policy=\"inspected\"";
        assert!(printed.contains(told), "{printed}");
    }
    assert!(world.tls.seen().is_empty() && world.http2_tls.seen().is_empty());
}

#[test]
fn a_request_for_another_host_is_misdirected() {
    let world = World::new("inspect-other");
    for (version, port, spoken) in WAYS {
        for host in ["Host: a.partner.example", "Host: 198.51.100.7"] {
            let url = url("inspected.partner.example", port, "/x");
            let told = [version, "--header", host, "--write-out", TOLD, &url];
            let printed = world.trusting(&told).unwrap();
            assert!(printed.ends_with(&format!("{spoken} 421 ")), "{printed}");
        }
    }
    assert!(world.tls.seen().is_empty() && world.http2_tls.seen().is_empty());
}

#[test]
fn a_client_that_does_not_trust_the_ca_goes_and_is_told_of() {
    let world = World::new("inspect-untrusted");
    let url = url("inspected.partner.example", TLS_PORT, "/x");
    let error = world.curl(&[&url]).unwrap_err();
    assert!(error.contains("certificate"), "{error}");
    world.log.wait_for("the log tells why", |line| {
        line["host"] == "inspected.partner.example"
            && line["refused"]
                .as_str()
                .is_some_and(|refused| refused.contains("does it trust the CA?"))
    });
}

#[test]
fn a_proxys_client_is_looked_into_as_well() {
    let world = World::new("inspect-proxy");
    let proxy = format!("http://{}:3128", Ipv4Addr::new(203, 0, 113, 5));
    for (path, source) in [("/api", FIRST), ("/x", SECOND)] {
        let url = url("inspected.partner.example", HTTP2_TLS_PORT, path);
        let printed = world.proxied(&["--proxy", &proxy, &url]).unwrap();
        assert_eq!(printed, format!("{source}\n"));
    }
    assert_ne!(PORT, HTTP2_TLS_PORT);
}
