//! First bytes of connections.

use super::*;

#[test]
fn http_is_what_an_origin_could_take_for_it() {
    for input in [
        "GET / HTTP/1.1\r\n",
        "\r\nGET /",
        "\nGET /",
        " GET /",
        "M-SEARCH * HTTP/1.1",
        "get /",
        "GET\t/api HTTP/1.1",
        "GET\r\n",
        "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        " PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        assert_eq!(
            protocol(input.as_bytes()),
            Some(Some(Protocol::Http)),
            "{input:?}"
        );
    }
}

#[test]
fn only_the_whole_preface_is_http2() {
    let (last, cut) = PREFACE.split_last().unwrap();
    assert_eq!(protocol(cut), None);
    assert_eq!(
        protocol(&[cut, &[*last, 0]].concat()),
        Some(Some(Protocol::Http2))
    );
}

#[test]
fn other_protocols_are_told_at_once() {
    for input in [
        "SSH-2.0-OpenSSH_9\r\n",
        "PING\r\n",
        "*1\r\n$4\r\n",
        "\0\0\0\x08\x04\x52\x16\x2f",
    ] {
        assert_eq!(
            protocol(input.as_bytes()),
            Some(Some(Protocol::Other)),
            "{input:?}"
        );
    }
    assert_eq!(
        protocol(&[b'A'; MAX_METHOD + 1]),
        Some(Some(Protocol::Other))
    );
}

#[test]
fn what_could_become_either_is_waited_for() {
    for input in ["", "\r\n", "G", "GET", "SSH-2", "\x16\x03"] {
        assert_eq!(protocol(input.as_bytes()), None, "{input:?}");
    }
    assert_eq!(
        protocol(b"\x16\x03\x01\x00\x04\x01\xff\xff\xff"),
        Some(None)
    );
}
