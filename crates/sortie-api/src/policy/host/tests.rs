use super::HostPattern;

fn pattern(text: &str) -> HostPattern {
    HostPattern::read(text).unwrap()
}

#[test]
fn names_are_compared_as_dns_compares_them() {
    let exact = pattern("API.external.com.");
    for name in ["api.external.com", "Api.External.Com", "api.external.com."] {
        assert!(exact.matches(name), "{name}");
    }
    for name in [
        "",
        ".",
        "external.com",
        "x.api.external.com",
        "api.external.com.x",
        "api-external.com",
    ] {
        assert!(!exact.matches(name), "{name}");
    }
}

#[test]
fn a_star_stands_for_labels_in_front() {
    let below = pattern("*.Partner.example");
    for name in ["a.partner.example", "a.b.PARTNER.example."] {
        assert!(below.matches(name), "{name}");
    }
    for name in [
        "partner.example",
        ".partner.example",
        "xpartner.example",
        "a.partner.example.com",
        "ä",
    ] {
        assert!(!below.matches(name), "{name}");
    }
    let any = pattern("*");
    assert!(any.matches("db") && any.matches("a.example."));
    assert!(!any.matches("") && !any.matches("203.0.113.7") && !any.matches("[2001:db8::1]"));
}

#[test]
fn one_name_is_more_specific_than_a_long_end() {
    let order = ["*", "*.example", "*.partner.example", "a.b"];
    let ranks: Vec<_> = order.map(|text| pattern(text).specificity()).into();
    assert!(ranks.is_sorted(), "{ranks:?}");
}

#[test]
fn is_written_as_it_is_compared() {
    for (text, canonical) in [
        ("*.A.example.", "*.a.example"),
        ("DB", "db"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("*", "*"),
        ("_dmarc.a", "_dmarc.a"),
    ] {
        assert_eq!(pattern(text).to_string(), canonical);
        assert_eq!(pattern(canonical), pattern(text));
    }
}
