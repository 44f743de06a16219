//! THE GATE: what the language reads and nothing enforces yet is refused, here and nowhere else.
//!
//! The gateway asks clients for no certificate.
//! Once it does, this file goes, with its call in `parse.rs`, the sentences in docs/policy.md that say
//! "not in this version yet", and the test.

use crate::problem::Fault;
use crate::reader::Reader;
use crate::yaml::{Entry, Node, Value};

/// Reports every field that needs more of the gateway than there is.
pub(super) fn not_yet(reader: &mut Reader<'_>, documents: &[Node]) {
    for document in documents {
        let Some(spec) = field(document, "spec").map(|entry| &entry.value) else {
            continue;
        };
        for workload in list(spec, "workloads") {
            if let Some(clients) = field(workload, "clients") {
                refuse_field(reader, &clients.value, "certificates");
            }
        }
    }
}

fn refuse_field(reader: &mut Reader<'_>, node: &Node, name: &str) {
    if let Some(entry) = field(node, name) {
        let message =
            format!("`{name}` is something that the gateway of this version cannot do yet");
        let help = "remove it: policies decide by `hosts`, `http.match`, `cidrs` and `ports`";
        reader.report(entry.key_span, Fault::new(message, help));
    }
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
