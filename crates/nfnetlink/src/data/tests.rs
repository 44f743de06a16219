use super::*;

#[test]
fn concatenations_pad_each_part_to_four_bytes() {
    let data = Data::new()
        .ifindex(3)
        .mac([1, 2, 3, 4, 5, 6])
        .ipv4(Ipv4Addr::new(10, 0, 0, 1))
        .port(0x1234)
        .proto(17);
    let mut expected = 3_u32.to_ne_bytes().to_vec();
    expected.extend([
        1, 2, 3, 4, 5, 6, 0, 0, 10, 0, 0, 1, 0x12, 0x34, 0, 0, 17, 0, 0, 0,
    ]);
    assert_eq!(data.as_slice(), expected);
    assert_eq!(data.u32_at(0), Some(3));
    assert_eq!(data.mac_at(4), Some([1, 2, 3, 4, 5, 6]));
    assert_eq!(data.ipv4_at(12), Some(Ipv4Addr::new(10, 0, 0, 1)));
    assert_eq!(data.port_at(16), Some(0x1234));
    assert_eq!(data.ipv6_at(20), None);
}

#[test]
fn single_values_keep_their_length() {
    assert_eq!(Data::from(80_u16).as_slice(), [0, 80]);
    assert_eq!(Data::from([1_u8, 2, 3, 4, 5, 6]).len(), 6);
    assert_eq!(Data::from("lo").len(), 16);
    assert_eq!(Data::from("a-name-much-too-long").as_slice()[15], 0);
}

#[test]
fn bytes_beyond_the_limit_are_cut() {
    assert_eq!(Data::unpadded(&[7; 100]).len(), MAX_LEN);
}

#[test]
fn the_successor_carries_and_ends() {
    let next = Data::from(Ipv4Addr::new(10, 0, 0, 255)).successor();
    assert_eq!(next, Some(Data::from(Ipv4Addr::new(10, 0, 1, 0))));
    assert_eq!(Data::from(Ipv4Addr::BROADCAST).successor(), None);
}
