//! THE GATE: what the language reads and nothing enforces yet is refused, here and nowhere else.
//!
//! The gateway for requests is not wired in. Once it is, this file goes, with its call in `parse.rs`,
//! the sentences in docs/policy.md that say "not in this version yet", and the test.

use super::virtual_service;
use crate::problem::{Fault, Span};
use crate::reader::Reader;
use crate::yaml::{Entry, Node, Value};

/// Reports every field that needs the gateway for requests.
pub(super) fn not_yet(reader: &mut Reader<'_>, documents: &[Node]) {
    for document in documents {
        if let Some(kind) = field(document, "kind")
            && matches!(&kind.value.value, Value::Scalar { text, .. } if text == virtual_service::KIND)
        {
            refuse(reader, kind.value.span, "`kind: VirtualService`");
            continue;
        }
        let Some(spec) = field(document, "spec").map(|entry| &entry.value) else {
            continue;
        };
        for workload in list(spec, "workloads") {
            refuse_field(reader, workload, "clients");
        }
        for destination in list(spec, "destinations") {
            refuse_field(reader, destination, "http");
        }
    }
}

fn refuse_field(reader: &mut Reader<'_>, node: &Node, name: &str) {
    if let Some(entry) = field(node, name) {
        refuse(reader, entry.key_span, &format!("`{name}`"));
    }
}

fn refuse(reader: &mut Reader<'_>, place: Span, what: &str) {
    let message = format!(
        "{what} needs the gateway for requests, which this version of Sortie does not have yet"
    );
    let help = "remove it: until then policies decide by `hosts`, `cidrs` and `ports`";
    reader.report(place, Fault::new(message, help));
}

fn field<'n>(node: &'n Node, name: &str) -> Option<&'n Entry> {
    match &node.value {
        Value::Map(entries) => entries.iter().find(|entry| entry.key == name),
        _ => None,
    }
}

fn list<'n>(node: &'n Node, name: &str) -> &'n [Node] {
    match field(node, name).map(|entry| &entry.value.value) {
        Some(Value::List(list)) => list,
        _ => &[],
    }
}

#[cfg(test)]
mod tests;
