use super::internet_checksum;

#[test]
fn the_example_of_rfc_1071() {
    let words = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(internet_checksum(&[&words]), !0xddf2);
    assert_eq!(internet_checksum(&[&words[..4], &words[4..]]), !0xddf2);
}

#[test]
fn a_last_odd_byte_is_the_high_half_of_a_word() {
    assert_eq!(internet_checksum(&[&[0x12]]), !0x1200);
}

#[test]
fn what_holds_its_checksum_sums_to_nothing() {
    let mut message = [8, 0, 0, 0, 0x12, 0x34, 0, 1];
    let [high, low] = internet_checksum(&[&message]).to_be_bytes();
    message[2] = high;
    message[3] = low;
    assert_eq!(internet_checksum(&[&message]), 0);
}
