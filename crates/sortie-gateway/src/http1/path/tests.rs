//! Spellings of one path, and what cannot be told apart.

use proptest::prelude::*;

use super::*;

#[test]
fn spellings_of_one_path_become_one() {
    for (path, normal) in [
        ("/", "/"),
        ("/api", "/api"),
        ("/api/x", "/api/x"),
        ("//api/x", "/api/x"),
        ("/%61pi/x", "/api/x"),
        ("/api/../other", "/other"),
        ("/api/%2e%2E/other", "/other"),
        ("/api/.%2e/other", "/other"),
        ("/./api", "/api"),
        ("/api/.", "/api/"),
        ("/api/..", "/"),
        ("/..", "/"),
        ("/../../api", "/api"),
        ("/api//", "/api/"),
        ("/a//../b", "/b"),
        ("/...", "/..."),
        ("/.well-known/x", "/.well-known/x"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/a%20b%3fc", "/a%20b%3Fc"),
        ("/%252e%252e/x", "/%252e%252e/x"),
        ("/a+b,c=d:e@f!$&'()*", "/a+b,c=d:e@f!$&'()*"),
    ] {
        assert_eq!(normalise(path).as_deref(), Ok(normal), "{path}");
    }
}

#[test]
fn what_origins_do_not_agree_on_is_refused() {
    for path in [
        "/api%2Fx",
        "/api%2fx",
        "/api%5Cx",
        "/api%5cx",
        "/api%00",
        "/api\\..\\x",
        "/api;v=1/x",
        "/api;/../x",
        "/%",
        "/%4",
        "/%zz",
        "/%+1",
        "/%é",
    ] {
        assert_eq!(
            normalise(path).map_err(|refused| refused.status),
            Err(400),
            "{path}"
        );
    }
}

#[test]
fn what_is_normal_is_not_copied() {
    for path in ["/", "/api/v1/x", "/a%20b", "/a.b/..c/."] {
        let is_borrowed = matches!(normalise(path), Ok(Cow::Borrowed(_)));
        assert_eq!(is_borrowed, path != "/a.b/..c/.", "{path}");
    }
}

proptest! {
    #[test]
    fn twice_is_once(path in "/([a.%/2eE]|%2e|%61|\\.\\.|//){0,12}") {
        if let Ok(once) = normalise(&path) {
            let again = normalise(&once);
            prop_assert_eq!(again.as_deref(), Ok(&*once));
            prop_assert!(once.starts_with('/'));
            prop_assert!(!once.contains("//"));
            let has_dots = once.split('/').any(|segment| segment == "." || segment == "..");
            prop_assert!(!has_dots);
        }
    }
}
