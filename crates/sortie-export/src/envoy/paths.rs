//! Paths, methods and fields of requests as Envoy matches them.

use serde_json::{Value, json};
use sortie_api::policy::{HttpMatch, PathPattern};

/// What the gateway answers with 400 wherever policies look at paths: escapes that are none, and what
/// origins do not agree on. Of a backslash nothing is left by then: Envoy has made a slash of it.
pub(super) const ODD: &str =
    r"[^?]*(?:;|\\|%2[Ff]|%5[Cc]|%00|%[^0-9A-Fa-f]|%[0-9A-Fa-f][^0-9A-Fa-f]|%[0-9A-Fa-f]?$).*";

/// One entry of a route's `match`: what it means, and the opposite of each condition of others.
pub(super) fn of(
    entry: Option<&HttpMatch>,
    not: &[Condition<'_>],
    authority: Option<&Value>,
) -> Value {
    let path = entry.and_then(|entry| entry.path.as_ref());
    let mut fields: Vec<Value> = authority.cloned().into_iter().collect();
    if let Some(entry) = entry {
        let conditions = Condition::of(entry).into_iter();
        fields.extend(conditions.filter_map(Condition::field));
    }
    fields.extend(not.iter().copied().map(Condition::not));
    let mut all = path.map_or_else(|| json!({"prefix": "/"}), self::path);
    if !fields.is_empty() {
        all["headers"] = fields.into();
    }
    all
}

/// One condition of an entry. Envoy compares each line of a field for itself.
#[derive(Debug, Clone, Copy)]
pub(super) enum Condition<'a> {
    Path(&'a PathPattern),
    Methods(&'a [String]),
    /// A line of this field has this value.
    Has(&'a str, &'a str),
    /// No line of it has another one.
    NoOther(&'a str, &'a str),
}

impl<'a> Condition<'a> {
    /// Those of an entry, all of which hold for the requests that it means.
    pub(super) fn of(entry: &'a HttpMatch) -> Vec<Self> {
        let path = entry.path.iter().map(Self::Path);
        let methods = (!entry.methods.is_empty()).then_some(Self::Methods(&entry.methods));
        let headers = entry.headers.iter();
        let headers =
            headers.flat_map(|(name, value)| [Self::Has(name, value), Self::NoOther(name, value)]);
        path.chain(methods).chain(headers).collect()
    }

    /// As a condition on fields; a path is none.
    fn field(self) -> Option<Value> {
        match self {
            Self::Path(_) => None,
            Self::NoOther(..) => Some(inverted(self.bare())),
            Self::Methods(_) | Self::Has(..) => Some(self.bare()),
        }
    }

    /// That it does not hold.
    fn not(self) -> Value {
        match self {
            Self::NoOther(..) => self.bare(),
            Self::Path(_) | Self::Methods(_) | Self::Has(..) => inverted(self.bare()),
        }
    }

    fn bare(self) -> Value {
        match self {
            Self::Path(path) => {
                let regex = format!(r"(?:{})(?:\?.*)?", expression(path));
                field(":path", &json!({"safe_regex": {"regex": regex}}))
            }
            Self::Methods(methods) => method(methods),
            Self::Has(name, value) => field(name, &json!({"exact": value})),
            Self::NoOther(name, value) => {
                field(name, &json!({"safe_regex": {"regex": other_than(value)}}))
            }
        }
    }
}

/// What is missing is empty.
fn inverted(mut matcher: Value) -> Value {
    matcher["invert_match"] = true.into();
    matcher["treat_missing_header_as_empty"] = true.into();
    matcher
}

/// An expression for every text but this one.
fn other_than(text: &str) -> String {
    text.chars().rev().fold(".+".to_owned(), |rest, c| {
        let class = match c {
            '\\' | '^' | ']' | '-' => format!("\\{c}"),
            _ => c.to_string(),
        };
        format!("(?:{}(?:{rest})|[^{class}].*)?", literal(&c.to_string()))
    })
}

/// A field of the request, by its name or Envoy's own for other parts.
pub(super) fn field(name: &str, matcher: &Value) -> Value {
    json!({"name": name, "string_match": matcher})
}

fn method(methods: &[String]) -> Value {
    let matcher = match methods {
        [one] => json!({"exact": one}),
        several => {
            let several: Vec<String> = several.iter().map(|it| literal(it)).collect();
            json!({"safe_regex": {"regex": several.join("|")}})
        }
    };
    field(":method", &matcher)
}

/// Envoy leaves escapes in small letters, which mean the same.
fn path(pattern: &PathPattern) -> Value {
    match pattern {
        PathPattern::Exact(path) if !path.contains('%') => json!({"path": path}),
        PathPattern::Prefix(path) if path.ends_with('/') && !path.contains('%') => {
            json!({"prefix": path})
        }
        PathPattern::Prefix(path) if !path.contains('%') => json!({"path_separated_prefix": path}),
        _ => json!({"safe_regex": {"regex": expression(pattern)}}),
    }
}

/// As an expression for the whole path, without the query.
fn expression(pattern: &PathPattern) -> String {
    match pattern {
        PathPattern::Exact(path) => literal(path),
        PathPattern::Prefix(path) if path.ends_with('/') => literal(path) + "[^?]*",
        PathPattern::Prefix(path) => literal(path) + "(?:/[^?]*)?",
        PathPattern::Regex(regex) => regex.as_str().to_owned(),
    }
}

/// The text itself; escapes in either case.
fn literal(text: &str) -> String {
    let mut expression = String::new();
    let mut escaped = 0;
    for c in text.chars() {
        match c {
            '%' => {
                escaped = 2;
                expression.push(c);
                continue;
            }
            _ if escaped > 0 && c.is_ascii_alphabetic() => {
                let (small, large) = (c.to_ascii_lowercase(), c.to_ascii_uppercase());
                expression.extend(['[', large, small, ']']);
            }
            _ if c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '~') => expression.push(c),
            _ => {
                expression.push('\\');
                expression.push(c);
            }
        }
        escaped = i32::max(0, escaped - 1);
    }
    expression
}
