//! Which requests an entry of a route's `match` means.

use std::collections::BTreeMap;

use crate::policy::http::{header_name, header_value, method, path_pattern};
use crate::policy::{HttpMatch, PathPattern};
use crate::problem::{Fault, quoted};
use crate::reader::{Names, Reader, Text};
use crate::yaml::{Entry, Node};

const MATCH: Names = Names {
    known: &["name", "uri", "method", "headers"],
    later: &[
        "scheme",
        "authority",
        "port",
        "sourceLabels",
        "sourceNamespace",
        "gateways",
        "queryParams",
        "ignoreUriCase",
        "withoutHeaders",
        "statPrefix",
    ],
};
const URI: Names = Names {
    known: &["exact", "prefix", "regex"],
    later: &[],
};
const EXACT: Names = Names {
    known: &["exact"],
    later: &["prefix", "regex"],
};

/// Reads one entry.
pub(super) fn http_match(reader: &mut Reader<'_>, node: &Node) -> HttpMatch {
    let mut found = HttpMatch::default();
    let Some(fields) = reader.fields(node, None, MATCH) else {
        return found;
    };
    if fields.is_empty() {
        let message = "this entry of `match` says nothing about the requests it means";
        let help = "add `uri`, `method` or `headers`; for every request leave `match` out";
        reader.report(fields.at(), Fault::new(message, help));
    }
    found.path = fields.get("uri").and_then(|entry| uri(reader, entry));
    if let Some(entry) = fields.get("method")
        && let Some(value) = exact(reader, entry)
    {
        if let Err(fault) = method(value.text) {
            reader.report(value.span, fault);
        }
        found.methods.push(value.text.to_owned());
    }
    if let Some(entry) = fields.get("headers") {
        found.headers = headers(reader, entry);
    }
    found
}

fn uri(reader: &mut Reader<'_>, entry: &Entry) -> Option<PathPattern> {
    let fields = reader.fields(&entry.value, Some(entry.key_span), URI)?;
    let mut said = URI.known.iter().filter_map(|name| fields.get(name));
    let Some(entry) = said.next() else {
        let help = "add `exact`, `prefix` or `regex`";
        reader.report(fields.at(), Fault::new("`uri` says no path", help));
        return None;
    };
    if let Some(second) = said.next() {
        let message = format!(
            "`{}` beside `{}`: one path cannot be both",
            second.key, entry.key
        );
        reader.report(
            second.key_span,
            Fault::new(message, "write two entries of `match`"),
        );
    }
    let text = reader.text(&entry.value)?;
    let pattern = path_pattern(&entry.key, text.text);
    pattern
        .map_err(|fault| reader.report(text.span, fault))
        .ok()
}

/// `{exact: VALUE}`.
fn exact<'n>(reader: &mut Reader<'_>, entry: &'n Entry) -> Option<Text<'n>> {
    let fields = reader.fields(&entry.value, Some(entry.key_span), EXACT)?;
    if fields.any_later() {
        return None;
    }
    let help = format!("write `{}: {{exact: VALUE}}`", entry.key);
    let entry = fields.require(reader, "exact", &help)?;
    reader.text(&entry.value)
}

fn headers(reader: &mut Reader<'_>, entry: &Entry) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    for pair in reader.entries(entry, "write `headers: {NAME: {exact: VALUE}}`") {
        let name = header_name(&pair.key).map_err(|fault| reader.report(pair.key_span, fault));
        let Some(value) = exact(reader, pair) else {
            continue;
        };
        if let Err(fault) = header_value(value.text) {
            reader.report(value.span, fault);
        }
        if let Ok(name) = name
            && headers.insert(name, value.text.to_owned()).is_some()
        {
            let message = format!("{} is written twice", quoted(&pair.key));
            reader.report(pair.key_span, Fault::new(message, "remove one of them"));
        }
    }
    headers
}
