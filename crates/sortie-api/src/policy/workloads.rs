//! Reads `workloads`: which containers, or clients from outside, are meant.

use std::collections::BTreeSet;

use super::{Clients, Selector};
use crate::name;
use crate::problem::{Fault, quoted};
use crate::reader::{ANY, Names, Reader};
use crate::subject;
use crate::yaml::{Entry, Node};

const WORKLOADS: Names = Names {
    known: &["containers", "clients"],
    later: &["pods", "processes"],
};
const CONTAINERS: Names = Names {
    known: &["labels", "names", "networks"],
    later: &[],
};
const CLIENTS: Names = Names {
    known: &["tokens", "certificates"],
    later: &[],
};

/// One entry of `workloads`.
pub(super) fn selector(reader: &mut Reader<'_>, node: &Node) -> Option<Selector> {
    let fields = reader.fields(node, None, WORKLOADS)?;
    if let Some(entry) = fields.get("clients") {
        if let Some(containers) = fields.get("containers") {
            let message = "`containers` beside `clients`: nobody is both";
            let help = "write two entries of `workloads`";
            reader.report(containers.key_span, Fault::new(message, help));
        }
        return Some(Selector {
            clients: Some(clients(reader, entry)?),
            ..Selector::default()
        });
    }
    if fields.any_later() && fields.get("containers").is_none() {
        return None;
    }
    let entry = fields.require(
        reader,
        "containers",
        "write `- containers: {names: [NAME]}`",
    )?;
    containers(reader, entry)
}

fn containers(reader: &mut Reader<'_>, entry: &Entry) -> Option<Selector> {
    let fields = reader.fields(&entry.value, Some(entry.key_span), CONTAINERS)?;
    if fields.is_empty() {
        reader.report(
            fields.at(),
            Fault::new(
                "`containers` says nothing about the containers it means",
                "add `labels`, `names` or `networks`; for every container write `names: [\"*\"]`",
            ),
        );
    }
    let mut selector = Selector::default();
    if let Some(entry) = fields.get("labels") {
        for (key, value) in reader.strings(entry) {
            if key.text.is_empty() {
                reader.report(
                    key.span,
                    Fault::new("a label without a name", "write `LABEL: VALUE`"),
                );
            }
            selector
                .labels
                .insert(key.text.to_owned(), value.text.to_owned());
        }
    }
    if let Some(entry) = fields.get("names") {
        selector.names = names(reader, entry, ANY, name::container_glob);
    }
    if let Some(entry) = fields.get("networks") {
        selector.networks = names(reader, entry, ANY, name::network);
    }
    Some(selector)
}

fn clients(reader: &mut Reader<'_>, entry: &Entry) -> Option<Clients> {
    let fields = reader.fields(&entry.value, Some(entry.key_span), CLIENTS)?;
    if fields.is_empty() {
        let message = "`clients` says nothing about the clients it means";
        let help = "add `tokens` or `certificates`";
        reader.report(fields.at(), Fault::new(message, help));
    }
    let mut clients = Clients::default();
    if let Some(entry) = fields.get("tokens") {
        clients.tokens = names(reader, entry, ANY, name::token);
    }
    if let Some(entry) = fields.get("certificates") {
        clients.certificates = names(reader, entry, ANY, subject::check);
    }
    Some(clients)
}

/// A list of names that differ, each of which passes the check; `absent` as for
/// [`Reader::list`].
pub(crate) fn names(
    reader: &mut Reader<'_>,
    entry: &Entry,
    absent: &str,
    check: fn(&str) -> Result<(), Fault>,
) -> Vec<String> {
    let mut names = Vec::new();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for node in reader.list(entry, absent) {
        let Some(text) = reader.text(node) else {
            continue;
        };
        if let Err(fault) = check(text.text) {
            reader.report(text.span, fault);
        } else if !seen.insert(text.text) {
            let message = format!("{} is written twice", quoted(text.text));
            reader.report(text.span, Fault::new(message, "remove one of them"));
        }
        names.push(text.text.to_owned());
    }
    names
}
