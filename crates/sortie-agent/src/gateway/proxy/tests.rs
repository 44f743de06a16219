use super::base64;

#[test]
fn base64_is_decoded_strictly() {
    // RFC 4648 §10.
    for (text, bytes) in [
        ("", ""),
        ("Zg==", "f"),
        ("Zm8=", "fo"),
        ("Zm8", "fo"),
        ("Zm9v", "foo"),
        ("Y2k6dG9rZW4=", "ci:token"),
    ] {
        assert_eq!(base64(text.as_bytes()).as_deref(), Some(bytes.as_bytes()));
    }
    for wrong in ["Z", "Zm9vY", "Zm=v", "Zm9v\n", "-_8="] {
        assert_eq!(base64(wrong.as_bytes()), None, "{wrong:?}");
    }
}
