use super::PathRegex;

fn matches(regex: &str, path: &str) -> bool {
    PathRegex::read("pathRegex", regex).unwrap().matches(path)
}

/// Go's `regexp`, which has RE2's syntax, answers the same.
#[test]
fn a_path_matches_as_a_whole() {
    for (regex, path, answer) in [
        ("/api", "/api", true),
        ("/api", "/api/x", false),
        ("/api", "/x/api", false),
        ("/a|/b", "/b", true),
        ("/a|/b", "/a/b", false),
        ("/v[0-9]+/.*", "/v12/x", true),
        (r"/v\d+", "/v١", false),
        (r"(?i)/API", "/api", true),
        (r"/a\.b", "/a.b", true),
        (r"/a\.b", "/axb", false),
        (r"/\x41", "/A", true),
        (r"/[[:alpha:]]+", "/abc", true),
        (r"^/a$", "/a", true),
        (r"/a{2,3}", "/aaaa", false),
        (r"/a(b|)c", "/ac", true),
        (r"(?U)/a*b", "/aab", true),
        (r"/\w+\b", "/a_1", true),
        (r"/.", "/\n", false),
        (r"(?s)/.", "/\n", true),
        (r"/(?P<name>x)", "/x", true),
        (r"/[]a]", "/]", true),
        (r"/[^/]+", "/a/b", false),
        (r"/a\/b", "/a/b", true),
    ] {
        assert_eq!(matches(regex, path), answer, "{regex} {path}");
    }
}

/// RE2 reads these as something else, or not at all.
#[test]
fn what_differs_from_re2_is_refused() {
    for regex in [
        "/[a&&b]",
        "/[a--b]",
        "/[a~~b]",
        "/[[a]]",
        r"/\<a",
        r"/a\>",
        r"/\b{start}a",
        r"/\pL",
        r"/\p{Greek}",
        "(?x)/ a",
        "(?u)/a",
        "(?R)/a",
        "/a{,3}",
        "/a**",
        "/a*+",
        "/a{2}{3}",
        "/a{1001}",
        "/a{1001,}",
        r"/\u0041",
        r"/\U00000041",
        r"/\u{41}",
        r"/\_",
        r"/\1",
        r"/\C",
        r"/\Q.\E",
        r"/\Z",
        "/a{x}",
        "/(",
        "/)",
        "/[",
        "/ä",
        "\n",
        "",
        r"/\x{e4}",
        "/a{2 }",
        "/a{ 2}",
    ] {
        assert!(PathRegex::read("pathRegex", regex).is_err(), "{regex}");
    }
}

#[test]
fn what_is_fixed_at_the_beginning_counts() {
    for (regex, fixed) in [
        ("/api", 4),
        ("/api/v[0-9]", 6),
        ("/api.*", 4),
        ("/apis?", 4),
        (r"/a\.b", 4),
        ("^/a", 2),
        (".*", 0),
        ("/a|/b", 0),
        ("(?i)/a", 0),
        ("(/a)b", 0),
    ] {
        assert_eq!(
            PathRegex::read("pathRegex", regex).unwrap().fixed(),
            fixed,
            "{regex}"
        );
    }
}
