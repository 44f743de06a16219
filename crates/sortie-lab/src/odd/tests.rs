use super::*;
use crate::frame::Headers;

const PAIRS: [(&str, &str, [u8; 2]); 2] = [
    ("172.17.0.2", "198.51.100.7", [0x08, 0]),
    ("fd00:17::2", "2001:db8:51::7", [0x86, 0xdd]),
];

fn shown(source: &str, destination: &str, ethertype: [u8; 2]) -> Vec<String> {
    let odd = OddPackets::new(source.parse().unwrap(), destination.parse().unwrap()).unwrap();
    odd.packets()
        .iter()
        .map(|(name, packet)| {
            let frame = [&[0; 12], &ethertype[..], packet].concat();
            let headers = Headers::parse(&frame).unwrap().to_string();
            format!(
                "{name}: {}",
                headers
                    .split_once("00:00:00:00:00:00 > 00:00:00:00:00:00 ")
                    .unwrap()
                    .1
            )
        })
        .collect()
}

#[test]
fn each_is_what_its_name_says() {
    let [(source, destination, ethertype), v6] = PAIRS;
    let expected = [
        "RST: TCP 172.17.0.2.1001 > 198.51.100.7.7777 flags 0x04",
        "SYN-ACK: TCP 172.17.0.2.1002 > 198.51.100.7.7777 flags 0x12",
        "FIN: TCP 172.17.0.2.1003 > 198.51.100.7.7777 flags 0x01",
        "null flags: TCP 172.17.0.2.1004 > 198.51.100.7.7777 flags 0x00",
        "bad checksum: TCP 172.17.0.2.1005 > 198.51.100.7.7777 flags 0x02",
        "ACK: TCP 172.17.0.2.1006 > 198.51.100.7.7777 flags 0x10",
        "SYN: TCP 172.17.0.2.1007 > 198.51.100.7.7777 flags 0x02",
        "echo reply: ICMP 172.17.0.2 > 198.51.100.7 type 0 code 0 id 77",
        "ICMP error: ICMP 172.17.0.2 > 198.51.100.7 type 3 code 1 id 0",
        "SCTP: protocol 132 172.17.0.2 > 198.51.100.7",
        "GRE: protocol 47 172.17.0.2 > 198.51.100.7",
        "first fragment: UDP 172.17.0.2.1111 > 198.51.100.7.2222 fragment",
        "later fragment: protocol 17 172.17.0.2 > 198.51.100.7 fragment",
        "unknown protocol: protocol 253 172.17.0.2 > 198.51.100.7",
    ];
    assert_eq!(shown(source, destination, ethertype), expected);
    let expected: Vec<String> = expected
        .iter()
        .map(|line| line.replace(source, v6.0).replace(destination, v6.1))
        .map(|line| {
            line.replace("type 0 ", "type 129 ")
                .replace("type 3 ", "type 1 ")
        })
        .collect();
    assert_eq!(shown(v6.0, v6.1, v6.2), expected);
}

#[test]
fn only_the_bad_checksum_is_bad() {
    for (source, destination, _) in PAIRS {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        let odd = OddPackets::new(source, destination).unwrap();
        let header = if source.is_ipv4() { 20 } else { 40 };
        for (name, packet) in odd.packets().iter().take(7) {
            let segment = &packet[header..];
            let ends = [octets(source), octets(destination)].concat();
            let sum = internet_checksum(&[&ends, &[0, TCP, 0, 20], segment]);
            assert_eq!(sum == 0, *name != "bad checksum", "{name} to {destination}");
        }
    }
}

#[test]
fn two_families_do_not_mix() {
    OddPackets::new([192, 0, 2, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()).unwrap_err();
}
