use super::TokenHash;

/// FIPS 180-2, appendix B.1.
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

#[test]
fn a_hash_is_what_sha256sum_prints() {
    let hash = TokenHash::from_hex(ABC).unwrap();
    assert!(hash.is(&TokenHash::of(b"abc").unwrap()));
    assert!(hash.is(&TokenHash::from_hex(&ABC.to_uppercase()).unwrap()));
    assert!(!hash.is(&TokenHash::of(b"abd").unwrap()));
    let signed = format!("+{}", &ABC[1..]);
    for wrong in [&ABC[1..], "", &signed, &"é".repeat(32)] {
        assert_eq!(TokenHash::from_hex(wrong), None, "{wrong}");
    }
}
