//! THE GATE: what the language reads and nothing enforces yet is refused, here and nowhere else.
//!
//! The resolver and the gateway are not wired in. Once they are, this file goes, with its call in
//! `parse.rs`, the sentences in docs/policy.md that say "not in this version yet", and the test.

use crate::problem::Fault;
use crate::reader::Reader;
use crate::yaml::{Entry, Node, Value};

/// Reports every field that needs the resolver or the gateway.
pub(super) fn not_yet(reader: &mut Reader<'_>, documents: &[Node]) {
    for document in documents {
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
        let message =
            format!("`{name}` needs {needs}, which this version of Sortie does not have yet");
        let help = "remove it: until then policies decide by address, with `cidrs` and `ports`";
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
