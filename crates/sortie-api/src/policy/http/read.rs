//! Reads `http`: matches of requests, and TLS.

use std::collections::BTreeMap;

use super::{Http, HttpMatch, Inspect, Originate, PathPattern, Tls, WhenEncrypted};
use crate::policy::path_regex::PathRegex;
use crate::policy::workloads::names;
use crate::problem::{Fault, Span, quoted};
use crate::reader::{ANY, Fields, Names, Reader};
use crate::yaml::{Entry, Node};

const HTTP: Names = Names {
    known: &["match", "whenEncrypted", "tls"],
    later: &[],
};
const MATCH: Names = Names {
    known: &["path", "pathPrefix", "pathRegex", "methods", "headers"],
    later: &[],
};
const TLS: Names = Names {
    known: &["originate", "port", "ca", "clientCertificate", "inspect"],
    later: &[],
};
const PATHS: [&str; 3] = ["path", "pathPrefix", "pathRegex"];
/// Where the gateway speaks TLS to when nothing is said (RFC 9110, 4.2.2).
const HTTPS: u16 = 443;

/// Reads `http`.
pub(in crate::policy) fn http(reader: &mut Reader<'_>, entry: &Entry) -> Option<Http> {
    let fields = reader.fields(&entry.value, Some(entry.key_span), HTTP)?;
    let mut http = Http::default();
    if fields.get("match").or(fields.get("tls")).is_none() {
        let message = "`http` says neither which requests it means nor what to do about TLS";
        let help = "add `match: [{pathPrefix: /}]`, or leave `http` out: then all traffic to `hosts` is meant";
        reader.report(fields.at(), Fault::new(message, help));
    }
    if let Some(entry) = fields.get("match") {
        let absent = "; without the field every request is meant";
        let list = reader.list(entry, absent);
        let read = list.iter().filter_map(|node| http_match(reader, node));
        http.matches = read.collect();
    }
    if let Some(entry) = fields.get("tls") {
        http.tls = tls(reader, entry);
    }
    if let Some(entry) = fields.get("whenEncrypted") {
        let choices = [
            ("Refuse", WhenEncrypted::Refuse),
            ("UseHostPolicy", WhenEncrypted::UseHostPolicy),
        ];
        http.when_encrypted = reader.choice(entry, &choices, &[]).unwrap_or_default();
        if matches!(http.tls, Some(Tls::Inspect(_))) {
            let message = "`whenEncrypted` has no meaning with `tls: {inspect: true}`: nothing is hidden then";
            reader.report(entry.key_span, Fault::new(message, "remove one of them"));
        }
    }
    Some(http)
}

fn http_match(reader: &mut Reader<'_>, node: &Node) -> Option<HttpMatch> {
    let fields = reader.fields(node, None, MATCH)?;
    if fields.is_empty() {
        let help = "add `path`, `pathPrefix`, `pathRegex`, `methods` or `headers`; for every request write `pathPrefix: /`";
        let message = "this entry of `match` says nothing about the requests it means";
        reader.report(fields.at(), Fault::new(message, help));
    }
    let mut found = HttpMatch {
        path: path(reader, &fields),
        ..HttpMatch::default()
    };
    if let Some(entry) = fields.get("methods") {
        found.methods = names(reader, entry, ANY, method);
    }
    if let Some(entry) = fields.get("headers") {
        found.headers = headers(reader, entry);
    }
    Some(found)
}

fn path(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<PathPattern> {
    let mut entries = PATHS.into_iter().filter_map(|name| fields.get(name));
    let entry = entries.next()?;
    if let Some(second) = entries.next() {
        let message = format!(
            "`{}` beside `{}`: one path cannot be both",
            second.key, entry.key
        );
        let help = "write two entries of `match`";
        reader.report(second.key_span, Fault::new(message, help));
    }
    let text = reader.text(&entry.value)?;
    match path_pattern(&entry.key, text.text) {
        Ok(pattern) => Some(pattern),
        Err(fault) => {
            reader.report(text.span, fault);
            None
        }
    }
}

/// A path's pattern, by the name of its field, here or in a VirtualService.
pub(in crate::policy) fn path_pattern(field: &str, text: &str) -> Result<PathPattern, Fault> {
    match field {
        "pathRegex" | "regex" => PathRegex::read(field, text).map(PathPattern::Regex),
        "pathPrefix" | "prefix" => normalised(field, text).map(PathPattern::Prefix),
        _ => normalised(field, text).map(PathPattern::Exact),
    }
}

/// A path as the gateway compares it, with large letters in escapes. One that is written in another
/// way could never match.
fn normalised(field: &str, text: &str) -> Result<String, Fault> {
    let fault = |why: &str, help: &str| {
        Err(Fault::new(
            format!("`{field}` {} {why}", quoted(text)),
            help,
        ))
    };
    if text.contains("://") {
        return fault(
            "is a URL",
            "write its path alone, such as `/api`; the host is for `hosts`",
        );
    }
    if text.is_empty() {
        let message = format!("`{field}` is an empty string");
        return Err(Fault::new(
            message,
            "write a path, such as `/api`; for every one `pathPrefix: /`",
        ));
    }
    if !text.starts_with('/') {
        let help = format!("write `/{text}`");
        return fault("does not begin with `/`", &help);
    }
    if text.contains(['?', '#']) {
        return fault(
            "has a query or fragment",
            "write the path alone: a query has no say",
        );
    }
    if let Some(strange) = text.chars().find(|c| !c.is_ascii_graphic()) {
        let help = "write escapes for it, such as `%20` for a space and `%C3%A4` for ä";
        let why = format!("has {}, which no path has", quoted(&strange.to_string()));
        return fault(&why, help);
    }
    if text.contains('*') {
        let help = "write a prefix, or a regular expression, in which `\\*` is the character";
        return fault("has a `*`, which stands for nothing in a path", help);
    }
    if text.contains(['\\', ';']) {
        let help = "remove it: the gateway refuses requests with `\\` or `;` where a path decides";
        return fault("can match no request", help);
    }
    if text.contains("//") || text.split('/').any(|part| part == "." || part == "..") {
        return fault("is not normalised", "write it without `//`, `.` and `..`");
    }
    escapes(text).or_else(|help| fault("has an escape that no normalised path has", &help))
}

/// With large letters in escapes, which all stand for characters that need one.
fn escapes(text: &str) -> Result<String, String> {
    let mut parts = text.split('%');
    let mut path = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let Some(code) = code.filter(|_| part.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit))
        else {
            return Err(
                "write two hexadecimal digits behind `%`, and `%25` for `%` itself".to_owned(),
            );
        };
        // RFC 3986, 2.3.
        if code.is_ascii_alphanumeric() || b"-._~".contains(&code) {
            return Err(format!("write `{}`", char::from(code)));
        }
        if matches!(code, b'/' | b'\\' | 0) {
            return Err("remove it: the gateway refuses requests with `%2F`, `%5C` or `%00` where a path decides".to_owned());
        }
        path.push('%');
        path.push_str(&part[..2].to_ascii_uppercase());
        path.push_str(&part[2..]);
    }
    Ok(path)
}

/// A method (RFC 9110, 9.1: a token, and case-sensitive).
pub(in crate::policy) fn method(text: &str) -> Result<(), Fault> {
    let fault = |message: String, help: &str| Err(Fault::new(message, help));
    if text == "CONNECT" {
        let help = "write a destination with `hosts` and `ports`, without `http`";
        return fault(
            "`CONNECT` asks for a tunnel, and has no path".to_owned(),
            help,
        );
    }
    if text.is_empty() || !text.bytes().all(is_token) {
        let message = format!("{} is no method", quoted(text));
        return fault(message, "write methods such as `GET` and `POST`");
    }
    let upper = text.to_ascii_uppercase();
    if upper != text {
        let help = format!("write `{upper}`: methods are case-sensitive");
        return fault(
            format!("{} is no method that is known", quoted(text)),
            &help,
        );
    }
    Ok(())
}

/// A token's characters (RFC 9110, 5.6.2).
fn is_token(c: u8) -> bool {
    c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c)
}

fn headers(reader: &mut Reader<'_>, entry: &Entry) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    for (name, value) in reader.strings(entry) {
        let header = match header_name(name.text) {
            Ok(header) => header,
            Err(fault) => {
                reader.report(name.span, fault);
                continue;
            }
        };
        if let Err(fault) = header_value(value.text) {
            reader.report(value.span, fault);
        }
        if headers.insert(header, value.text.to_owned()).is_some() {
            twice(reader, name.span, name.text);
        }
    }
    headers
}

fn twice(reader: &mut Reader<'_>, place: Span, name: &str) {
    let message = format!(
        "{} is written twice: case has no meaning in names of headers",
        quoted(name)
    );
    reader.report(place, Fault::new(message, "remove one of them"));
}

/// A header's name, in small letters.
pub(in crate::policy) fn header_name(text: &str) -> Result<String, Fault> {
    if text.is_empty() || !text.bytes().all(is_token) {
        let message = format!("{} is no header's name", quoted(text));
        let help = "write a name such as `x-tenant`, and one header a line";
        return Err(Fault::new(message, help));
    }
    let name = text.to_ascii_lowercase();
    if name == "host" {
        let help = "write the host into `hosts`";
        return Err(Fault::new("`host` is no header to match", help));
    }
    Ok(name)
}

/// A header's value, as it can arrive (RFC 9110, 5.5).
pub(in crate::policy) fn header_value(text: &str) -> Result<(), Fault> {
    let help = "write it as it is sent, without white space around it, in ASCII";
    let printable = text
        .bytes()
        .all(|c| c.is_ascii_graphic() || c == b' ' || c == b'\t');
    if !printable || text.trim_matches([' ', '\t']) != text {
        let message = format!("{} can be no header's value", quoted(text));
        return Err(Fault::new(message, help));
    }
    Ok(())
}

/// 1. It says one of `originate` and `inspect`.
/// 2. `port` is for `originate`: what is inspected goes to the port that was called.
fn tls(reader: &mut Reader<'_>, entry: &Entry) -> Option<Tls> {
    let fields = reader.fields(&entry.value, Some(entry.key_span), TLS)?;
    let mut said = |name| {
        let entry = fields.get(name)?;
        Some((entry, reader.boolean(entry)?))
    };
    let (originate, inspect) = (said("originate"), said("inspect"));
    let yes = |said: Option<(&Entry, bool)>| said.is_some_and(|(_, yes)| yes);
    match (yes(originate), yes(inspect)) {
        (true, true) => {
            let message =
                "`originate` beside `inspect`: the gateway speaks TLS to the host with either";
            if let Some((entry, _)) = inspect {
                reader.report(entry.key_span, Fault::new(message, "remove one of them"));
            }
        }
        (false, false) => {
            let wrong = ["originate", "inspect"].map(|name| fields.get(name).is_some());
            // A value that is none has been reported.
            if originate.is_some() == wrong[0] && inspect.is_some() == wrong[1] {
                let message = "`tls` says neither `originate: true` nor `inspect: true`";
                reader.report(
                    fields.at(),
                    Fault::new(message, "add one of them, or remove `tls`"),
                );
            }
        }
        _ => {}
    }
    let port = fields
        .get("port")
        .map(|entry| reader.integer(entry, 1, u16::MAX));
    let ca = fields.get("ca").map(|entry| text(reader, entry, file));
    let certificate = fields.get("clientCertificate");
    let certificate = certificate.map(|entry| text(reader, entry, certificate_name));
    let (ca, client_certificate) = (ca.flatten(), certificate.flatten());
    if yes(inspect) {
        if let Some(entry) = fields.get("port") {
            let message = "`port` has no meaning with `inspect: true`: requests go to the port that was called";
            let help = "remove `port`, or write `originate: true`";
            reader.report(entry.key_span, Fault::new(message, help));
        }
        return Some(Tls::Inspect(Inspect {
            ca,
            client_certificate,
        }));
    }
    Some(Tls::Originate(Originate {
        port: port.flatten().unwrap_or(HTTPS),
        ca,
        client_certificate,
    }))
}

fn text(
    reader: &mut Reader<'_>,
    entry: &Entry,
    check: fn(&str) -> Result<(), Fault>,
) -> Option<String> {
    let text = reader.text(&entry.value)?;
    if let Err(fault) = check(text.text) {
        reader.report(text.span, fault);
    }
    Some(text.text.to_owned())
}

fn file(path: &str) -> Result<(), Fault> {
    if path.starts_with('/') && !path.chars().any(char::is_control) {
        return Ok(());
    }
    let message = format!("`ca` cannot be {}", quoted(path));
    Err(Fault::new(
        message,
        "write a file's whole path, such as `/etc/ssl/partner.pem`",
    ))
}

pub(crate) fn certificate_name(name: &str) -> Result<(), Fault> {
    let inner = |c: char| c.is_ascii_alphanumeric() || ['_', '.', '-'].contains(&c);
    if !name.is_empty() && !name.starts_with('.') && name.chars().all(inner) {
        return Ok(());
    }
    let message = format!("no certificate can be named {}", quoted(name));
    Err(Fault::new(
        message,
        "write a name of letters, digits, `_`, `.` and `-`",
    ))
}
