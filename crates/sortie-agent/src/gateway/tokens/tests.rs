use super::Tokens;

/// Of `abc`, and of nothing.
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn a_token_is_known_by_its_hash_and_name() {
    let text = format!("# the runners\n\nci  {ABC}\nci {EMPTY}\nother\t{EMPTY}\n");
    let tokens = Tokens::parse(&text).unwrap();
    assert_eq!(tokens.name_of(b"abc", None), Some("ci"));
    assert_eq!(tokens.name_of(b"abc", Some(b"ci")), Some("ci"));
    assert_eq!(tokens.name_of(b"abc", Some(b"other")), None);
    assert_eq!(tokens.name_of(b"abd", None), None);
    assert_eq!(tokens.name_of(b"", Some(b"other")), Some("other"));
    let names: Vec<_> = tokens.names().into_iter().collect();
    assert_eq!(names, ["ci", "other"]);
}

#[test]
fn a_line_that_is_none_is_told_without_what_it_says() {
    for line in ["secret", "ci secret", &format!("ci {ABC} -"), ABC] {
        let error = Tokens::parse(&format!("# one\n{line}\n")).unwrap_err();
        assert!(error.starts_with("2: "), "{error}");
        assert!(!error.contains("secret") && !error.contains(ABC), "{error}");
    }
}
