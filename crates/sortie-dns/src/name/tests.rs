use super::*;

#[test]
fn names_are_equal_when_a_server_takes_them_for_one() {
    assert_eq!(DnsName::from("API.Example."), DnsName::from("api.example"));
    assert_eq!(
        DnsName::of_labels(&[b"API", b"Example"]),
        DnsName::from("api.example")
    );
    assert_eq!(DnsName::of_labels(&[]).as_str(), ".");
    assert_eq!(DnsName::from(".").as_str(), ".");
}

#[test]
fn a_dot_in_a_label_is_not_a_dot_between_labels() {
    assert_eq!(
        DnsName::of_labels(&[b"a.b", b"c d\\"]).as_str(),
        "a\\046b.c\\032d\\092"
    );
}

#[test]
fn records_of_a_port_are_about_its_host() {
    let host = |name| DnsName::from(name).without_https_port();
    assert_eq!(
        host("_8443._https.api.example"),
        DnsName::from("api.example")
    );
    for other in [
        "_https.api.example",
        "_dns.api.example",
        "_99999._https.a",
        "8443._https.a",
    ] {
        assert_eq!(host(other), DnsName::from(other));
    }
}
