//! THE GATE: what the language reads and nothing enforces yet is refused, here and nowhere else.
//!
//! The resolver and the gateway are not wired in. Once they are, this file goes, with its call in
//! `parse.rs`, the sentences in docs/policy.md that say "not in this version yet", and the test.

use super::virtual_service;
use crate::problem::{Fault, Span};
use crate::reader::Reader;
use crate::yaml::{Entry, Node, Value};

/// Reports every field that needs the resolver or the gateway.
pub(super) fn not_yet(reader: &mut Reader<'_>, documents: &[Node]) {
    for document in documents {
        if let Some(kind) = field(document, "kind")
            && matches!(&kind.value.value, Value::Scalar { text, .. } if text == virtual_service::KIND)
        {
            refuse(
                reader,
                kind.value.span,
                "`kind: VirtualService`",
                "the gateway",
            );
            continue;
        }
        let Some(spec) = field(document, "spec").map(|entry| &entry.value) else {
            continue;
        };
        let resolver = "the resolver";
        refuse_field(reader, spec, "unlearned", resolver);
        refuse_field(reader, spec, "onlyTheseHosts", resolver);
        for workload in list(spec, "workloads") {
            refuse_field(reader, workload, "clients", "the gateway");
        }
        for destination in list(spec, "destinations") {
            refuse_field(reader, destination, "hosts", resolver);
            refuse_field(reader, destination, "http", "the gateway");
        }
    }
}

fn refuse_field(reader: &mut Reader<'_>, node: &Node, name: &str, needs: &str) {
    if let Some(entry) = field(node, name) {
        refuse(reader, entry.key_span, &format!("`{name}`"), needs);
    }
}

fn refuse(reader: &mut Reader<'_>, place: Span, what: &str, needs: &str) {
    let message = format!("{what} needs {needs}, which this version of Sortie does not have yet");
    let help = "remove it: until then policies decide by address, with `cidrs` and `ports`";
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
