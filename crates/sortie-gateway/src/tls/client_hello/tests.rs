//! Hellos as clients send them, cut at every byte, and what is none.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;

/// As `curl` with OpenSSL 3.0 sends it for `https://api.external.com/`.
const CURL: &[u8] = include_bytes!("curl.bin");

/// A hello as rustls sends it.
fn rustls_hello(name: &str, alpn: &[&[u8]]) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let name = name.to_owned().try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut out = Vec::new();
    client.write_tls(&mut out).unwrap();
    out
}

/// The same message in records of so many bytes.
fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for part in hello[5..].chunks(size) {
        out.extend([22, 3, 1]);
        out.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
        out.extend(part);
    }
    out
}

/// A hello of nothing but these extensions.
fn with_extensions(extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let vector = |bytes: &[u8]| {
        let mut out = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
        out.extend(bytes);
        out
    };
    let mut list = Vec::new();
    for (kind, value) in extensions {
        list.extend(kind.to_be_bytes());
        list.extend(vector(value));
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend(vector(&list));
    let mut message = vec![1, 0];
    message.extend(vector(&body));
    let mut out = vec![22, 3, 1];
    out.extend(vector(&message));
    out
}

fn server_name_value(name: &[u8]) -> Vec<u8> {
    let length = u16::try_from(name.len()).unwrap();
    let mut value = (length + 3).to_be_bytes().to_vec();
    value.push(0);
    value.extend(length.to_be_bytes());
    value.extend(name);
    value
}

fn found(input: &[u8]) -> ClientHello {
    match sniff(input) {
        Sniffed::Found(hello) => hello,
        other => panic!("{other:?}"),
    }
}

#[test]
fn real_clients_are_understood() {
    let hello = found(CURL);
    assert_eq!(hello.name.as_deref(), Some("api.external.com"));
    assert_eq!(hello.alpn, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert!(!hello.encrypted);

    let hello = found(&rustls_hello("Partner.Example", &[b"http/1.1"]));
    assert_eq!(hello.name.as_deref(), Some("partner.example"));
    assert_eq!(hello.alpn, [b"http/1.1".to_vec()]);

    let hello = found(&rustls_hello("203.0.113.5", &[]));
    assert_eq!((hello.name, hello.alpn), (None, Vec::new()));
}

#[test]
fn each_part_is_incomplete_and_what_follows_changes_nothing() {
    for whole in [
        CURL.to_vec(),
        rustls_hello("a.example", &[b"h2"]),
        in_records(CURL, 7),
    ] {
        for end in 0..whole.len() {
            assert_eq!(sniff(&whole[..end]), Sniffed::Incomplete, "{end}");
        }
        let mut more = whole.clone();
        more.extend(b"\x17\x03\x03 early data");
        assert_eq!(sniff(&more), sniff(&whole));
    }
}

#[test]
fn records_may_cut_it_anywhere() {
    for size in [1, 2, 3, 4, 5, 100, CURL.len()] {
        assert_eq!(found(&in_records(CURL, size)), found(CURL), "{size}");
    }
}

#[test]
fn an_encrypted_hello_is_seen() {
    let name = server_name_value(b"public.example");
    let hello = found(&with_extensions(&[(0, &name), (0xfe0d, b"\0inner")]));
    assert!(hello.encrypted);
    assert_eq!(hello.name.as_deref(), Some("public.example"));
    // A hello without extensions is one too.
    let mut bare = with_extensions(&[]);
    bare.truncate(bare.len() - 2);
    bare[4] -= 2;
    bare[8] -= 2;
    assert_eq!(found(&bare), ClientHello::default());
}

#[test]
fn what_is_no_tls_is_told_at_its_first_wrong_byte() {
    for input in [
        &b"GET / HTTP/1.1"[..],
        b"SSH-2.0-x",
        b"\x16\x02",
        b"\x16\x03\x07",
        b"\x16\x03\x01\x41",
        b"\x16\x03\x01\x00\x05\x02",
        b"\x17\x03\x03",
        b"\0",
    ] {
        assert_eq!(sniff(input), Sniffed::NotTls, "{input:?}");
    }
}

#[test]
fn what_no_server_would_answer_is_malformed() {
    let name = server_name_value(b"a.example");
    let list_of_two = [&name[..2], &name[2..], &name[2..]].concat();
    for extensions in [
        vec![(0, &name[..]), (0, &name[..])],
        vec![(0, &list_of_two[..])],
        vec![(0, &b""[..])],
        vec![(0, &server_name_value(b"203.0.113.5")[..])],
        vec![(0, &server_name_value(b"")[..])],
        vec![(0, &server_name_value(b"a.example\0.b")[..])],
        vec![(0, &server_name_value(&[0xff])[..])],
        vec![(16, &b"\0\x03\x05h2"[..])],
        vec![(16, &b"\0\x03\x02h2x"[..])],
    ] {
        assert_eq!(
            sniff(&with_extensions(&extensions)),
            Sniffed::Malformed,
            "{extensions:?}"
        );
    }
    let mut empty_record = CURL.to_vec();
    empty_record.splice(0..0, [22, 3, 1, 0, 0]);
    assert_eq!(sniff(&empty_record), Sniffed::NotTls);
    let mut cut = in_records(CURL, 100);
    cut[105] = 23;
    assert_eq!(sniff(&cut), Sniffed::Malformed);
    assert_eq!(
        sniff(b"\x16\x03\x01\x40\x00\x01\x01\x00\x00"),
        Sniffed::Incomplete
    );
    for large in [&b"\x16\x03\x01\x40\x01"[..], b"\x16\x03\x01\x40\x01\x00"] {
        assert_eq!(sniff(large), Sniffed::Malformed);
    }
    let mut huge = b"\x16\x03\x01\x00\x04\x01\x01\x00\x00".to_vec();
    assert_eq!(sniff(&huge), Sniffed::Malformed);
    huge.truncate(5);
    huge[3..5].copy_from_slice(&[0x40, 0]);
    huge.push(1);
    huge.resize(MAX_LENGTH, 0);
    assert_eq!(sniff(&huge), Sniffed::Malformed);
}

proptest! {
    #[test]
    fn any_bytes_have_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..CURL.len()) {
        let _ = sniff(&bytes);
        // And any damage to a real one.
        let mut damaged = CURL.to_vec();
        let end = (at + bytes.len()).min(CURL.len());
        damaged[at..end].copy_from_slice(&bytes[..end - at]);
        let _ = sniff(&damaged);
    }
}
