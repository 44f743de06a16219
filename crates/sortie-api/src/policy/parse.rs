//! Reads the policies of a file.

use std::collections::BTreeMap;

use super::destinations::destinations;
use super::virtual_service::{self, virtual_service};
use super::workloads::selector;
use super::{
    Action, Egress, EgressPolicy, Enforcement, Mode, OnChange, OnUnavailable, Owner, PolicyName,
    Unlearned,
};
use crate::address::{add_egress, egress_address};
use crate::name;
use crate::problem::{Fault, FileErrors, Note, Span, quoted};
use crate::reader::{Fields, Names, Reader, not_in_this_version};
use crate::suggest::nearest;
use crate::yaml::{self, Entry, Node};

pub(super) const API_VERSION: &str = "sortie.dev/v1alpha1";
pub(super) const KIND: &str = "EgressPolicy";
const LATER_KINDS: [&str; 3] = ["ClusterEgressPolicy", "EgressPool", "EgressGateway"];

const DOCUMENT: Names = Names {
    known: &["apiVersion", "kind", "metadata", "spec"],
    later: &[],
};
const METADATA: Names = Names {
    known: &["name"],
    later: &["namespace", "labels", "annotations"],
};
const SPEC: Names = Names {
    known: &[
        "priority",
        "workloads",
        "destinations",
        "action",
        "egress",
        "onUnavailable",
        "onChange",
        "enforcement",
        "unlearned",
        "onlyTheseHosts",
    ],
    later: &["tier"],
};
const EGRESS: Names = Names {
    known: &["addresses", "mode"],
    later: &["pool", "addressFrom", "distribution"],
};

const ON_CHANGE: Names = Names {
    known: &["connections", "drainSeconds"],
    later: &[],
};
/// How long connections drain where nothing else is said, and at most.
const DRAIN_SECONDS: (u16, u16) = (30, 3600);

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    EgressPolicy,
    VirtualService,
}

/// What `action` says, before `egress` is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Egress,
    Bypass,
    Deny,
}

/// Reads every policy of a file. A file with a mistake is refused whole, and all its
/// mistakes are told. A file without a policy is a mistake too: a file caught while it is
/// being written is empty, and must not end what it said before.
///
/// `file` is only for messages.
pub fn parse(file: &str, text: &str) -> Result<Vec<EgressPolicy>, FileErrors> {
    let policies = parse_with_places(file, text)?.policies;
    Ok(policies.into_iter().map(|(policy, _)| policy).collect())
}

/// What a file holds.
#[derive(Debug)]
pub(super) struct Parsed {
    /// Each policy with its name's place.
    pub(super) policies: Vec<(EgressPolicy, Span)>,
    pub(super) notes: Vec<Note>,
}

/// As [`parse`], with all that there is to know.
pub(super) fn parse_with_places(file: &str, text: &str) -> Result<Parsed, FileErrors> {
    let mut reader = Reader::new(file, text);
    let documents = yaml::documents(&mut reader);
    let policies = policies(&mut reader, &documents);
    let notes = reader.take_notes();
    reader.finish(Parsed { policies, notes })
}

fn policies(reader: &mut Reader<'_>, documents: &[Node]) -> Vec<(EgressPolicy, Span)> {
    if documents.is_empty() && !reader.failed() {
        reader.report(
            Span::default(),
            Fault::new("this file holds no policy", "write one, or remove the file"),
        );
    }
    let mut policies = Vec::new();
    let mut places: BTreeMap<PolicyName, Span> = BTreeMap::new();
    let read = documents.iter().flat_map(|node| document(reader, node));
    for (policy, place) in read.collect::<Vec<_>>() {
        if let Some(first) = places.get(&policy.name) {
            let line = reader.source().line(first.offset);
            let message = format!("a second policy is named {}", quoted(&policy.name.0));
            let help = format!("the first is in line {line}: rename one of them");
            reader.report(place, Fault::new(message, help));
        } else {
            places.insert(policy.name.clone(), place);
        }
        policies.push((policy, place));
    }
    policies
}

/// One document. Without a name there is no policy, and the mistake is reported; with other
/// mistakes the policy is only good for comparing names.
fn document(reader: &mut Reader<'_>, node: &Node) -> Vec<(EgressPolicy, Span)> {
    // Of another kind, every field would be reported as unknown.
    match kind(reader, node) {
        Some(Kind::EgressPolicy) => egress_policy(reader, node).into_iter().collect(),
        Some(Kind::VirtualService) => virtual_service(reader, node),
        None => Vec::new(),
    }
}

fn egress_policy(reader: &mut Reader<'_>, node: &Node) -> Option<(EgressPolicy, Span)> {
    let fields = reader.fields(node, None, DOCUMENT)?;
    let help = format!("add `apiVersion: {API_VERSION}`");
    if let Some(entry) = fields.require(reader, "apiVersion", &help)
        && let Some(version) = reader.text(&entry.value)
        && version.text != API_VERSION
    {
        let message = format!("`apiVersion` cannot be {}", quoted(version.text));
        reader.report(
            version.span,
            Fault::new(message, format!("write `apiVersion: {API_VERSION}`")),
        );
    }
    fields.require(reader, "kind", "add `kind: EgressPolicy`");
    let name = fields
        .require(reader, "metadata", "add `metadata: {name: NAME}`")
        .and_then(|entry| metadata(reader, entry));
    let spec = fields
        .require(reader, "spec", "add `spec:` with `workloads` and `action`")
        .and_then(|entry| reader.fields(&entry.value, Some(entry.key_span), SPEC));
    let mut policy = EgressPolicy {
        name: PolicyName(String::new()),
        owner: Owner::Policy,
        priority: 0,
        workloads: Vec::new(),
        destinations: Vec::new(),
        action: Action::Deny,
        on_unavailable: OnUnavailable::Drop,
        on_change: OnChange::Reset,
        enforcement: Enforcement::Enforce,
        unlearned: Unlearned::Sniff,
        only_these_hosts: false,
    };
    if let Some(spec) = spec {
        read_spec(reader, &spec, &mut policy);
    }
    let (name, place) = name?;
    policy.name = name;
    Some((policy, place))
}

/// None where `kind` says something else, which is reported. Without it a document is taken for an
/// EgressPolicy.
fn kind(reader: &mut Reader<'_>, node: &Node) -> Option<Kind> {
    let yaml::Value::Map(entries) = &node.value else {
        return Some(Kind::EgressPolicy);
    };
    let Some(entry) = entries.iter().find(|e| e.key == "kind") else {
        return Some(Kind::EgressPolicy);
    };
    let kind = reader.text(&entry.value)?;
    match kind.text {
        KIND => return Some(Kind::EgressPolicy),
        virtual_service::KIND => return Some(Kind::VirtualService),
        _ => {}
    }
    let help = format!("this version reads `kind: {KIND}`");
    let fault = if LATER_KINDS.contains(&kind.text) {
        not_in_this_version(&format!("`kind: {}`", kind.text), &help)
    } else {
        let known = LATER_KINDS.into_iter().chain([KIND, virtual_service::KIND]);
        let help = match nearest(kind.text, known) {
            Some(word) => format!("did you mean `{word}`?"),
            None => help,
        };
        Fault::new(format!("unknown kind {}", quoted(kind.text)), help)
    };
    reader.report(kind.span, fault);
    None
}

fn metadata(reader: &mut Reader<'_>, entry: &Entry) -> Option<(PolicyName, Span)> {
    let fields = reader.fields(&entry.value, Some(entry.key_span), METADATA)?;
    let entry = fields.require(reader, "name", "add `name: NAME`")?;
    let name = reader.text(&entry.value)?;
    if let Err(fault) = name::policy(name.text) {
        reader.report(name.span, fault);
    }
    Some((PolicyName(name.text.to_owned()), name.span))
}

fn read_spec(reader: &mut Reader<'_>, spec: &Fields<'_>, policy: &mut EgressPolicy) {
    if let Some(entry) = spec.get("priority") {
        policy.priority = reader.integer(entry, 0, 1000).unwrap_or_default();
    }
    if let Some(entry) = spec.get("workloads") {
        let list = reader.list_or_empty(entry);
        policy.workloads = list
            .iter()
            .filter_map(|node| selector(reader, node))
            .collect();
    }
    if let Some(entry) = spec.get("enforcement") {
        let choices = [
            ("Enforce", Enforcement::Enforce),
            ("Audit", Enforcement::Audit),
        ];
        policy.enforcement = reader.choice(entry, &choices, &[]).unwrap_or_default();
    }
    if let Some(entry) = spec.get("destinations") {
        policy.destinations = destinations(reader, entry);
    }
    read_names(reader, spec, policy);
    let choices = [
        ("Egress", Verb::Egress),
        ("Bypass", Verb::Bypass),
        ("Deny", Verb::Deny),
    ];
    let help = "add `action: Egress`, `action: Bypass` or `action: Deny`";
    let action = spec.require(reader, "action", help);
    let verb = action.and_then(|entry| reader.choice(entry, &choices, &[]));
    let egress = spec.get("egress");
    let addresses = egress.and_then(|entry| read_egress(reader, entry));
    let unavailable = spec.get("onUnavailable");
    if let Some(entry) = unavailable {
        let choices = [
            ("Drop", OnUnavailable::Drop),
            ("NodeAddress", OnUnavailable::NodeAddress),
        ];
        policy.on_unavailable = reader.choice(entry, &choices, &[]).unwrap_or_default();
    }
    let change = spec.get("onChange");
    if let Some(entry) = change {
        policy.on_change = on_change(reader, entry).unwrap_or_default();
    }
    if addresses.is_some_and(|egress| egress.mode == Mode::Direct) {
        refuse_with_direct(reader, spec, policy);
    }
    match verb {
        Some(Verb::Egress) => {
            if let (Some(action), None) = (action, egress) {
                reader.report(
                    action.value.span,
                    Fault::new(
                        "`action: Egress` needs an address to leave with",
                        "add `egress: {addresses: [ADDRESS]}`, or write `action: Bypass` or `action: Deny`",
                    ),
                );
            }
            if let Some(addresses) = addresses {
                policy.action = Action::Egress(addresses);
            }
        }
        Some(verb @ (Verb::Bypass | Verb::Deny)) => {
            policy.action = if verb == Verb::Bypass {
                Action::Bypass
            } else {
                Action::Deny
            };
            for entry in [egress, unavailable, change].into_iter().flatten() {
                reader.report(
                    entry.key_span,
                    Fault::new(
                        format!("`{}` has no meaning with `action: {verb:?}`", entry.key),
                        format!("remove `{}`, or write `action: Egress`", entry.key),
                    ),
                );
            }
        }
        None => {}
    }
}

/// What is said of names besides: it has no meaning where no destination has any.
fn read_names(reader: &mut Reader<'_>, spec: &Fields<'_>, policy: &mut EgressPolicy) {
    let (unlearned, only) = (spec.get("unlearned"), spec.get("onlyTheseHosts"));
    if let Some(entry) = unlearned {
        let choices = [("Sniff", Unlearned::Sniff), ("Deny", Unlearned::Deny)];
        policy.unlearned = reader.choice(entry, &choices, &[]).unwrap_or_default();
    }
    if let Some(entry) = only {
        policy.only_these_hosts = reader.boolean(entry).unwrap_or_default();
    }
    // Hosts that could not be read have been reported.
    let any = policy.destinations.iter().any(|d| !d.hosts.is_empty()) || reader.failed();
    for entry in [unlearned, only].into_iter().flatten().filter(|_| !any) {
        let message = format!("`{}` has no meaning without `hosts`", entry.key);
        let help = format!("add `hosts` to a destination, or remove `{}`", entry.key);
        reader.report(entry.key_span, Fault::new(message, help));
    }
}

/// What cannot be said of a workload that has its address itself.
fn refuse_with_direct(reader: &mut Reader<'_>, spec: &Fields<'_>, policy: &EgressPolicy) {
    let node_address = policy.on_unavailable == OnUnavailable::NodeAddress;
    let drains = policy.on_change.drain().is_some();
    let faults = [
        (
            "destinations",
            true,
            "with `mode: Direct` the address is for every destination: a container has one of its own",
            "remove `destinations`, or write `mode: Translate`",
        ),
        (
            "onUnavailable",
            node_address,
            "with `mode: Direct` nothing but the container's own address leaves",
            "remove `onUnavailable`, or write `mode: Translate`",
        ),
        (
            "onChange",
            drains,
            "connections cannot drain with `mode: Direct`: they end with the container's former address",
            "remove `onChange`, or write `mode: Translate`",
        ),
    ];
    for (field, refused, message, help) in faults {
        if let Some(entry) = spec.get(field).filter(|_| refused) {
            reader.report(entry.key_span, Fault::new(message, help));
        }
    }
}

fn on_change(reader: &mut Reader<'_>, entry: &Entry) -> Option<OnChange> {
    let fields = reader.fields(&entry.value, Some(entry.key_span), ON_CHANGE)?;
    let help = "add `connections: Drain` or `connections: Reset`";
    let connections = fields.require(reader, "connections", help)?;
    let drain = reader.choice(connections, &[("Drain", true), ("Reset", false)], &[])?;
    let (usual, most) = DRAIN_SECONDS;
    let Some(entry) = fields.get("drainSeconds") else {
        let seconds = usual;
        return Some(if drain {
            OnChange::Drain { seconds }
        } else {
            OnChange::Reset
        });
    };
    let seconds = reader.integer(entry, 1, most)?;
    if !drain {
        let message = "`drainSeconds` has no meaning with `connections: Reset`";
        let help = "remove `drainSeconds`, or write `connections: Drain`";
        reader.report(entry.key_span, Fault::new(message, help));
    }
    Some(OnChange::Drain { seconds })
}

fn read_egress(reader: &mut Reader<'_>, entry: &Entry) -> Option<Egress> {
    let fields = reader.fields(&entry.value, Some(entry.key_span), EGRESS)?;
    // Whoever asks for a pool has been told; a missing address would be a second complaint.
    if fields.get("addresses").is_none() && fields.any_later() {
        return None;
    }
    let entry = fields.require(reader, "addresses", "add `addresses: [ADDRESS]`")?;
    let mut egress = Egress::without_address();
    if let Some(entry) = fields.get("mode") {
        let choices = [
            ("Auto", Mode::Auto),
            ("Translate", Mode::Translate),
            ("Direct", Mode::Direct),
        ];
        egress.mode = reader.choice(entry, &choices, &[]).unwrap_or_default();
    }
    for node in reader.list(entry, "") {
        let Some(text) = reader.text(node) else {
            continue;
        };
        let added = egress_address(text.text).and_then(|address| add_egress(&mut egress, address));
        if let Err(fault) = added {
            reader.report(text.span, fault);
        }
    }
    Some(egress)
}

#[cfg(test)]
mod tests;
