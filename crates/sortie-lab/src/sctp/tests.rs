use super::*;

#[test]
fn the_checksum_is_the_one_of_the_rfc() {
    // The check value of CRC-32C (RFC 3720, B.4 uses the same polynomial).
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}

#[test]
fn the_answer_has_the_beginners_tag() {
    let association = Association {
        source_port: 0x1112,
        destination_port: 0x2122,
        tag: 0x3132_3334,
    };
    let init = association.init();
    assert_eq!(init[..8], [0x11, 0x12, 0x21, 0x22, 0, 0, 0, 0]);
    assert_eq!(init[12..20], [1, 0, 0, 20, 0x31, 0x32, 0x33, 0x34]);
    let answer = association.init_ack();
    let head = [0x21, 0x22, 0x11, 0x12, 0x31, 0x32, 0x33, 0x34];
    assert_eq!(answer[..8], head);
    assert_eq!([init.len(), answer.len()], [32, 32]);
}
