use super::*;

#[test]
fn a_comment_comes_back_among_other_items() {
    let mut userdata = Vec::new();
    push(&mut userdata, 5, &[1, 2, 3]);
    push_comment(&mut userdata, SET_COMMENT, "hello");
    assert_eq!(comment(&userdata, SET_COMMENT).as_deref(), Some("hello"));
    assert_eq!(comment(&userdata, 3), None);
}

#[test]
fn a_long_comment_is_cut_between_characters() {
    let mut userdata = Vec::new();
    push_comment(&mut userdata, RULE_COMMENT, &"é".repeat(100));
    assert_eq!(comment(&userdata, RULE_COMMENT), Some("é".repeat(63)));
}

#[test]
fn userdata_that_lies_about_its_length_has_no_comment() {
    assert_eq!(comment(&[0, 9, b'x'], RULE_COMMENT), None);
    assert_eq!(comment(&[0], RULE_COMMENT), None);
}
