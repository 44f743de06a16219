use etherparse::PacketBuilder;

use super::*;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const CLIENT: [u8; 4] = [172, 17, 0, 2];

/// An answer (RFC 1035, section 4.1) to a question for `Db.example`, with these A records.
fn answer(records: &[[u8; 4]]) -> Vec<u8> {
    let count = u8::try_from(records.len()).unwrap();
    let mut message = vec![0x12, 0x34, 0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0];
    message.extend(b"\x02Db\x07example\x00\x00\x01\x00\x01");
    for record in records {
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        message.extend(record);
    }
    message
}

#[test]
fn who_was_told_what() {
    let told = answer(&[[198, 51, 100, 7], [198, 51, 100, 8]]);
    let heard = |client: IpAddr| Overheard {
        client,
        name: "db.example".to_owned(),
        addresses: vec![[198, 51, 100, 7].into(), [198, 51, 100, 8].into()],
    };
    let mut v4 = Vec::new();
    let builder = PacketBuilder::ipv4([9, 9, 9, 9], CLIENT, 60).udp(53, 40_000);
    builder.write(&mut v4, &told).unwrap();
    assert_eq!(overheard(IPV4, &v4), Some(heard(CLIENT.into())));
    let (server, client) = ([0x20; 16], [0xfd; 16]);
    let mut v6 = Vec::new();
    let builder = PacketBuilder::ipv6(server, client, 60).udp(53, 40_000);
    builder.write(&mut v6, &told).unwrap();
    assert_eq!(overheard(IPV6, &v6), Some(heard(client.into())));

    for length in 0..v4.len() {
        assert_eq!(overheard(IPV4, &v4[..length]), None);
    }
}

#[test]
fn what_tells_no_address_is_passed_over() {
    for payload in [answer(&[]), vec![0; 12], Vec::new(), b"no message".to_vec()] {
        let mut bytes = Vec::new();
        let builder = PacketBuilder::ipv4([9, 9, 9, 9], CLIENT, 60).udp(53, 40_000);
        builder.write(&mut bytes, &payload).unwrap();
        assert_eq!(overheard(IPV4, &bytes), None);
    }
}
