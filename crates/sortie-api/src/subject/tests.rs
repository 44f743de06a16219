use super::*;

#[test]
fn only_the_one_spelling_can_be_named() {
    for right in [
        "CN=runner",
        "CN=runner,O=Example\\, Inc.,C=DE",
        "CN=My Runner,OU=a=b",
        "CN=a+UID=7,DC=example,DC=com",
        "CN=\\#1",
        "CN=\\ x\\ ",
        "CN=Jürgen",
        "CN=a\\00b",
        "1.2.840.113549.1.9.1=#160161,CN=x",
    ] {
        assert!(check(right).is_ok(), "{right}");
    }
    for wrong in [
        "",
        "runner",
        "CN=",
        "=a",
        "cn=runner",
        "CN=runner, O=Example",
        "CN=runner,",
        "CN= x",
        "CN=#1",
        "CN=a;b",
        "CN=\\72unner",
        "CN=a\\",
        "E=a",
        "1.2.3=a",
        "1.2.3=#A",
        "CN=a\nb",
    ] {
        assert!(check(wrong).is_err(), "{wrong:?}");
    }
}
