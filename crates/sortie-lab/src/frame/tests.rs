use proptest::prelude::*;

use super::*;

const ETHERNET: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

fn frame(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&ETHERNET[..], &ethertype.to_be_bytes(), payload].concat()
}

fn ipv4_packet(protocol: u8, fragmentation: u16, behind: &[u8]) -> Vec<u8> {
    let mut header = vec![0x45, 0, 0, 0, 0, 1];
    header.extend(fragmentation.to_be_bytes());
    header.extend([64, protocol, 0, 0]);
    header.extend([172, 17, 0, 2, 198, 51, 100, 7]);
    [header, behind.to_vec()].concat()
}

fn ipv6_packet(next: u8, behind: &[u8]) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0, 0, 0, next, 64];
    header.extend("fd00::2".parse::<Ipv6Addr>().unwrap().octets());
    header.extend("2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
    [header, behind.to_vec()].concat()
}

fn read(ethertype: u16, payload: &[u8]) -> String {
    Headers::parse(&frame(ethertype, payload))
        .unwrap()
        .to_string()
}

const TCP_SYN: [u8; 20] = [
    0x04, 0, 0x01, 0xbb, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0,
];

#[test]
fn reads_addresses_ports_and_flags() {
    assert_eq!(
        read(0x0800, &ipv4_packet(6, 0, &TCP_SYN)),
        "02:00:00:00:00:02 > 02:00:00:00:00:01 TCP 172.17.0.2.1024 > 198.51.100.7.443 flags 0x02"
    );
    assert!(
        read(0x0800, &ipv4_packet(17, 0, &[0, 53, 0, 54, 0, 8, 0, 0]))
            .ends_with("UDP 172.17.0.2.53 > 198.51.100.7.54")
    );
    assert!(read(0x86dd, &ipv6_packet(6, &TCP_SYN)).contains("TCP fd00::2.1024 > 2001:db8::7.443"));
}

#[test]
fn knows_an_echo_request_by_family() {
    let echo = |kind| [kind, 0, 0, 0, 0x12, 0x34, 0, 1];
    let v4 = Headers::parse(&frame(0x0800, &ipv4_packet(1, 0, &echo(8)))).unwrap();
    assert!(v4.packet().unwrap().is_echo_request());
    let v6 = Headers::parse(&frame(0x86dd, &ipv6_packet(58, &echo(128)))).unwrap();
    assert!(v6.packet().unwrap().is_echo_request());
    let reply = Headers::parse(&frame(0x0800, &ipv4_packet(1, 0, &echo(0)))).unwrap();
    assert!(!reply.packet().unwrap().is_echo_request());
}

#[test]
fn a_first_fragment_has_ports_and_a_later_one_has_none() {
    let udp = [0, 53, 0, 54, 0, 8, 0, 0];
    assert!(
        read(0x0800, &ipv4_packet(17, 0x2000, &udp))
            .ends_with("UDP 172.17.0.2.53 > 198.51.100.7.54 fragment")
    );
    assert!(
        read(0x0800, &ipv4_packet(17, 0x0010, &udp))
            .ends_with("protocol 17 172.17.0.2 > 198.51.100.7 fragment")
    );
    let first = [&[17, 0, 0, 1, 0, 0, 0, 9][..], &udp].concat();
    assert!(
        read(0x86dd, &ipv6_packet(44, &first))
            .ends_with("UDP fd00::2.53 > 2001:db8::7.54 fragment")
    );
    let later = [&[17, 0, 0, 9, 0, 0, 0, 9][..], &udp].concat();
    assert!(
        read(0x86dd, &ipv6_packet(44, &later))
            .ends_with("protocol 17 fd00::2 > 2001:db8::7 fragment")
    );
}

#[test]
fn looks_behind_extension_headers_and_tags() {
    let options = [6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let packet = ipv6_packet(0, &[&options[..], &TCP_SYN].concat());
    assert!(read(0x86dd, &packet).contains("TCP fd00::2.1024"));
    let tagged = [&[0x20, 0x07, 0x86, 0xdd][..], &packet].concat();
    assert!(read(0x8100, &tagged).contains("vlan 7 TCP"));
}

#[test]
fn reads_who_claims_an_address_in_arp() {
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 9];
    arp.extend([203, 0, 113, 11, 2, 0, 0, 0, 0, 1, 203, 0, 113, 1]);
    assert!(read(0x0806, &arp).ends_with("ARP 203.0.113.11 is-at 02:00:00:00:00:09"));
    arp[7] = 1;
    assert!(read(0x0806, &arp).ends_with("ARP who-has 203.0.113.1 tell 203.0.113.11"));
}

#[test]
fn what_is_cut_short_is_malformed_and_never_an_address() {
    let whole = ipv4_packet(6, 0, &TCP_SYN);
    assert!(Headers::parse(&frame(0x0800, &whole)[..13]).is_none());
    assert_eq!(
        Headers::parse(&frame(0x0800, &whole[..19]))
            .unwrap()
            .payload,
        Payload::Malformed
    );
    assert_eq!(
        Headers::parse(&frame(0x0800, &[0x65; 40])).unwrap().payload,
        Payload::Malformed
    );
    let no_ports = Headers::parse(&frame(0x0800, &whole[..21])).unwrap();
    assert_eq!(no_ports.packet().unwrap().transport, Transport::Opaque);
}

#[test]
fn a_mac_reads_back_as_it_prints() {
    let mac: Mac = "02:42:ac:11:00:02".parse().unwrap();
    assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
    for bad in [
        "",
        "02:42:ac:11:00",
        "02:42:ac:11:00:02:03",
        "02:42:ac:11:00:zz",
    ] {
        assert!(bad.parse::<Mac>().is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn any_bytes_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Headers::parse(&bytes).map(|headers| headers.to_string());
    }

    #[test]
    fn any_bytes_behind_a_known_ethertype_give_an_answer(
        ethertype in prop::sample::select(vec![0x0800_u16, 0x0806, 0x86dd, 0x8100, 0x88a8]),
        version in prop::sample::select(vec![0x45_u8, 0x46, 0x4f, 0x60]),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let frame = frame(ethertype, &[vec![version], bytes].concat());
        let _ = Headers::parse(&frame).map(|headers| headers.to_string());
    }

    #[test]
    fn ports_of_udp_are_the_ports_written(source: u16, destination: u16) {
        let udp = [source.to_be_bytes(), destination.to_be_bytes(), [0, 8], [0, 0]].concat();
        let headers = Headers::parse(&frame(0x0800, &ipv4_packet(17, 0, &udp))).unwrap();
        prop_assert_eq!(
            &headers.packet().unwrap().transport,
            &Transport::Udp { source_port: source, destination_port: destination }
        );
    }
}
