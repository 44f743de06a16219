use super::{HttpMatch, PathPattern, Request};
use crate::policy::PathRegex;

fn prefix(path: &str) -> PathPattern {
    PathPattern::Prefix(path.to_owned())
}

#[test]
fn prefixes_match_by_segment() {
    for (pattern, path, answer) in [
        ("/api", "/api", true),
        ("/api", "/api/", true),
        ("/api", "/api/x", true),
        ("/api", "/apikeys", false),
        ("/api", "/ap", false),
        ("/api", "/x/api", false),
        ("/api/", "/api/x", true),
        ("/api/", "/api/", true),
        ("/api/", "/api", false),
        ("/", "/", true),
        ("/", "/x", true),
        ("/", "*", false),
    ] {
        assert_eq!(prefix(pattern).matches(path), answer, "{pattern} {path}");
    }
    let exact = PathPattern::Exact("/api".to_owned());
    assert!(exact.matches("/api") && !exact.matches("/api/"));
}

#[test]
fn every_condition_counts() {
    let entry = HttpMatch {
        path: Some(prefix("/api")),
        methods: vec!["GET".to_owned(), "POST".to_owned()],
        headers: [("x-tenant".to_owned(), "blue".to_owned())].into(),
    };
    let asked = |method, path, headers: &[(&str, &str)]| {
        let headers: &[(&str, &str)] = headers;
        let owned: Vec<(String, String)> = headers
            .iter()
            .map(|(n, v)| ((*n).into(), (*v).into()))
            .collect();
        let [a, b, c] = [0, 1, 2].map(|at| owned.get(at).cloned());
        match (a, b, c) {
            (None, ..) => entry.matches(&Request {
                method,
                path,
                headers: &[("x", "y"); 0],
            }),
            (Some(a), None, _) => entry.matches(&Request {
                method,
                path,
                headers: &[a],
            }),
            (Some(a), Some(b), None) => entry.matches(&Request {
                method,
                path,
                headers: &[a, b],
            }),
            (Some(a), Some(b), Some(c)) => entry.matches(&Request {
                method,
                path,
                headers: &[a, b, c],
            }),
        }
    };
    assert!(asked(
        "GET",
        "/api/x",
        &[("X-Tenant", "blue"), ("accept", "*/*")]
    ));
    assert!(!asked("get", "/api/x", &[("x-tenant", "blue")]));
    assert!(!asked("DELETE", "/api/x", &[("x-tenant", "blue")]));
    assert!(!asked("GET", "/apikeys", &[("x-tenant", "blue")]));
    assert!(!asked("GET", "/api", &[("x-tenant", "red")]));
    assert!(!asked("GET", "/api", &[]));
    // Two lines are a list of two values, neither of which is meant alone.
    assert!(!asked(
        "GET",
        "/api",
        &[("x-tenant", "blue"), ("x-tenant", "blue")]
    ));
    assert!(!asked(
        "GET",
        "/api",
        &[("x-tenant", "red"), ("x-tenant", "blue")]
    ));
}

#[test]
fn what_says_more_of_a_request_is_more_specific() {
    let of = |path| HttpMatch {
        path: Some(path),
        ..HttpMatch::default()
    };
    let regex = |text: &str| PathPattern::Regex(PathRegex::read("pathRegex", text).unwrap());
    let order = [
        HttpMatch::default(),
        HttpMatch {
            headers: [("a".to_owned(), "b".to_owned())].into(),
            ..HttpMatch::default()
        },
        HttpMatch {
            methods: vec!["GET".to_owned()],
            ..HttpMatch::default()
        },
        of(regex(".*/secret")),
        of(prefix("/")),
        of(regex("/api.*")),
        of(prefix("/api")),
        of(PathPattern::Exact("/api".to_owned())),
        HttpMatch {
            headers: [("a".to_owned(), "b".to_owned())].into(),
            ..of(PathPattern::Exact("/api".to_owned()))
        },
        of(regex("/api/v[0-9]+")),
        of(prefix("/api/v1")),
    ];
    for (at, one) in order.iter().enumerate() {
        for other in &order[at + 1..] {
            assert!(one.specificity() < other.specificity(), "{one:?} {other:?}");
        }
    }
}
