use super::*;

#[test]
fn a_name_is_read_to_its_end() {
    let message = b"\x03WwW\x07Ex-mple\x00rest";
    let (name, end) = plain_name(message, 0).expect("a name");
    assert_eq!((name.as_str(), end), ("www.ex-mple", 13));
    assert_eq!(
        plain_name(b"\x00", 0).map(|(name, _)| name),
        Some(DnsName::from("."))
    );
}

#[test]
fn a_name_that_is_cut_compressed_or_too_long_is_none() {
    assert_eq!(plain_name(b"\x03ab", 0), None);
    assert_eq!(plain_name(b"\xc0\x00", 0), None);
    let long: Vec<u8> = [[63; 64].as_slice(); 4]
        .concat()
        .into_iter()
        .chain([0])
        .collect();
    assert_eq!(plain_name(&long, 0), None);
    // 255 bytes are allowed: three labels of 63, one of 61.
    let mut longest = [[63; 64].as_slice(); 3].concat();
    longest.extend([61; 62]);
    longest.push(0);
    assert_eq!(longest.len(), 255);
    assert!(plain_name(&longest, 0).is_some());
}

#[test]
fn places_end_with_the_message_whatever_the_counts_say() {
    let header = Header {
        id: 0,
        flags: 0,
        questions: 0,
        records: [0xffff; 3],
    };
    assert_eq!(places(&[0; 64], header, HEADER), None);
    let one = Header {
        records: [0, 1, 0],
        ..header
    };
    let mut message = vec![0; HEADER];
    message.extend(b"\xc0\x00\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x01\x02\x03\x04");
    let found = places(&message, one, HEADER).expect("a record");
    let place = &found[0];
    assert_eq!(
        (place.section, place.kind, place.class, place.ttl),
        (1, 1, 1, 60)
    );
    assert_eq!(&message[place.rdata.clone()], [1, 2, 3, 4]);
    assert_eq!(be32(&message, place.ttl_at), Some(60));
    message.pop();
    assert_eq!(places(&message, one, HEADER), None);
}
