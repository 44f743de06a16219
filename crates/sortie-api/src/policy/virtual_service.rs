//! Istio's VirtualService as a policy: of its routes, those to hosts by path, method and header, each
//! with the source that its requests leave with.
//!
//! `source` on a route is not Istio's; it is what people write who expect it to be, and here it is
//! read. Everything else that a VirtualService can say would change requests or their ways, and is
//! refused: whoever wrote it relies on it.

mod requests;

use requests::http_match;

use super::{
    Action, Destination, Egress, EgressPolicy, Enforcement, HostPattern, Http, HttpMatch, OnChange,
    OnUnavailable, Owner, PolicyName, PortRange, Protocol, Selector, Unlearned,
};
use crate::address::{add_egress, egress_address};
use crate::name;
use crate::problem::{Fault, Span, quoted};
use crate::reader::{ANY, Fields, Names, Reader, Text, not_in_this_version};
use crate::yaml::{Entry, Node};

pub(super) const KIND: &str = "VirtualService";
/// All of one shape.
const API_VERSIONS: [&str; 3] = [
    "networking.istio.io/v1beta1",
    "networking.istio.io/v1",
    "networking.istio.io/v1alpha3",
];
const ANNOTATION: &str = "sortie.dev/egress";

const DOCUMENT: Names = Names {
    known: &["apiVersion", "kind", "metadata", "spec"],
    later: &["status"],
};
const METADATA: Names = Names {
    known: &["name", "namespace", "labels", "annotations"],
    later: &[],
};
const SPEC: Names = Names {
    known: &["hosts", "gateways", "http"],
    later: &["tls", "tcp", "exportTo"],
};
const ROUTE: Names = Names {
    known: &["name", "match", "route", "source"],
    later: &[
        "redirect",
        "directResponse",
        "delegate",
        "rewrite",
        "timeout",
        "retries",
        "fault",
        "mirror",
        "mirrors",
        "mirrorPercent",
        "mirrorPercentage",
        "corsPolicy",
        "headers",
    ],
};
const WEIGHTED: Names = Names {
    known: &["destination"],
    later: &["weight", "headers"],
};
const DESTINATION: Names = Names {
    known: &["host", "port"],
    later: &["subset"],
};
const PORT: Names = Names {
    known: &["number"],
    later: &[],
};
const SOURCE: Names = Names {
    known: &["ip"],
    later: &[],
};
/// Where no port is said (RFC 9110, 4.2.1).
const HTTP_PORT: u16 = 80;

/// A route as it was read.
struct Route {
    name: Option<String>,
    /// Empty: every request.
    matches: Vec<HttpMatch>,
    /// None: as before.
    action: Option<Action>,
}

/// Reads a VirtualService: one policy for each source, in the order of their first routes.
///
/// Istio takes the first route that matches. So each route is for what its own entries mean and no
/// entry of an earlier route does.
pub(super) fn virtual_service(reader: &mut Reader<'_>, node: &Node) -> Vec<(EgressPolicy, Span)> {
    let Some(fields) = reader.fields(node, None, DOCUMENT) else {
        return Vec::new();
    };
    api_version(reader, &fields);
    let metadata = fields
        .require(reader, "metadata", "add `metadata: {name: NAME}`")
        .and_then(|entry| reader.fields(&entry.value, Some(entry.key_span), METADATA));
    let name = metadata.and_then(|fields| self::name(reader, &fields));
    let annotated = metadata.and_then(|fields| annotations(reader, &fields));
    let spec = fields
        .require(reader, "spec", "add `spec:` with `hosts` and `http`")
        .and_then(|entry| reader.fields(&entry.value, Some(entry.key_span), SPEC));
    let Some(spec) = spec else {
        return Vec::new();
    };
    let hosts = hosts(reader, &spec);
    let routes = routes(reader, &spec, &hosts, annotated.as_ref());
    let Some(name) = name else {
        return Vec::new();
    };
    if routes.iter().all(|route| route.action.is_none()) && !reader.failed() {
        let message = "no route of this VirtualService has a source: it would change nothing";
        let help =
            format!("add `source: [{{ip: ADDRESS}}]` to a route, or the annotation `{ANNOTATION}`");
        reader.report(spec.at(), Fault::new(message, help));
    }
    let what = "this VirtualService is for HTTP on port 80 of every container";
    reader.note(name.span, what);
    policies(&name, &hosts, routes)
}

fn policies(
    name: &Text<'_>,
    hosts: &[HostPattern],
    routes: Vec<Route>,
) -> Vec<(EgressPolicy, Span)> {
    let mut earlier: Vec<HttpMatch> = Vec::new();
    let mut by_action: Vec<(Action, Vec<Destination>)> = Vec::new();
    for route in routes {
        let unless = earlier.clone();
        earlier.extend(route.matches.iter().cloned());
        let Some(action) = route.action else {
            continue;
        };
        let destination = Destination {
            name: route.name,
            hosts: hosts.to_vec(),
            ports: vec![PortRange {
                protocol: Protocol::Tcp,
                first: HTTP_PORT,
                last: HTTP_PORT,
            }],
            http: Some(Http {
                matches: route.matches,
                unless,
                ..Http::default()
            }),
            ..Destination::default()
        };
        match by_action.iter_mut().find(|(known, _)| *known == action) {
            Some((_, destinations)) => destinations.push(destination),
            None => by_action.push((action, vec![destination])),
        }
    }
    let numbered = by_action.into_iter().enumerate();
    let policies = numbered.map(|(number, (action, destinations))| {
        let policy = EgressPolicy {
            name: policy_name(name.text, number),
            owner: Owner::VirtualService,
            priority: 0,
            workloads: vec![Selector {
                names: vec!["*".to_owned()],
                ..Selector::default()
            }],
            destinations,
            action,
            on_unavailable: OnUnavailable::Drop,
            on_change: OnChange::Reset,
            enforcement: Enforcement::Enforce,
            unlearned: Unlearned::Sniff,
            only_these_hosts: false,
        };
        (policy, name.span)
    });
    policies.collect()
}

/// No policy file can use such a name: it has a slash.
fn policy_name(name: &str, number: usize) -> PolicyName {
    PolicyName(match number {
        0 => format!("virtualservice/{name}"),
        _ => format!("virtualservice/{name}/{}", number + 1),
    })
}

fn api_version(reader: &mut Reader<'_>, fields: &Fields<'_>) {
    let help = format!("add `apiVersion: {}`", API_VERSIONS[0]);
    if let Some(entry) = fields.require(reader, "apiVersion", &help)
        && let Some(version) = reader.text(&entry.value)
        && !API_VERSIONS.contains(&version.text)
    {
        let message = format!(
            "`apiVersion` of a VirtualService cannot be {}",
            quoted(version.text)
        );
        let help = format!("write `apiVersion: {}`", API_VERSIONS[0]);
        reader.report(version.span, Fault::new(message, help));
    }
}

fn name<'n>(reader: &mut Reader<'_>, fields: &Fields<'n>) -> Option<Text<'n>> {
    let entry = fields.require(reader, "name", "add `name: NAME`")?;
    let name = reader.text(&entry.value)?;
    if let Err(fault) = name::policy(name.text) {
        reader.report(name.span, fault);
    }
    if let Some(entry) = fields.get("namespace") {
        let message = "`namespace` has no meaning on a host";
        reader.note(entry.key_span, message);
    }
    Some(name)
}

/// What `sortie.dev/egress` says. Other programs' annotations are theirs.
fn annotations(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Action> {
    let mut action = None;
    for (name, value) in reader.strings(fields.get("annotations")?) {
        if name.text == ANNOTATION {
            action = egress(reader, value);
        } else if name.text.to_ascii_lowercase().starts_with("sortie") {
            let message = format!("Sortie has no annotation {} here", quoted(name.text));
            reader.report(
                name.span,
                Fault::new(message, format!("write `{ANNOTATION}`")),
            );
        }
    }
    action
}

fn egress(reader: &mut Reader<'_>, value: Text<'_>) -> Option<Action> {
    const HELP: &str = "write an address of this host, such as `203.0.113.11` or `203.0.113.11,2001:db8::11`, or `bypass`";
    let later = ["pool/", "eipalloc-", "load-balancer"];
    if value.text == "bypass" {
        return Some(Action::Bypass);
    }
    if later.iter().any(|prefix| value.text.starts_with(prefix)) {
        reader.report(value.span, not_in_this_version(&quoted(value.text), HELP));
        return None;
    }
    let mut egress = Egress::without_address();
    for text in value.text.split(',').map(str::trim) {
        let added = egress_address(text).and_then(|address| add_egress(&mut egress, address));
        if let Err(fault) = added {
            reader.report(value.span, fault);
        }
    }
    Some(Action::Egress(egress))
}

fn hosts(reader: &mut Reader<'_>, spec: &Fields<'_>) -> Vec<HostPattern> {
    if let Some(entry) = spec.get("gateways") {
        for node in reader.list(entry, ANY) {
            reader.text(node);
        }
        let message = "`gateways` has no meaning here: Sortie's own gateway takes these requests";
        reader.note(entry.key_span, message);
    }
    let entry = spec.require(reader, "hosts", "add `hosts: [NAME]`");
    entry.map_or_else(Vec::new, |entry| super::destinations::hosts(reader, entry))
}

fn routes(
    reader: &mut Reader<'_>,
    spec: &Fields<'_>,
    hosts: &[HostPattern],
    annotated: Option<&Action>,
) -> Vec<Route> {
    let help = "add `http:` with a list of routes";
    let Some(entry) = spec.require(reader, "http", help) else {
        return Vec::new();
    };
    let mut routes = Vec::new();
    let mut whole: Option<usize> = None;
    for node in reader.list(entry, "") {
        let Some(fields) = reader.fields(node, None, ROUTE) else {
            continue;
        };
        let read = route(reader, &fields, hosts, annotated);
        let line = reader.source().line(node.span.offset);
        match whole {
            Some(first) => {
                let message = "no request reaches this route";
                let help = format!("the route in line {first} takes every request: put it last");
                reader.report(node.span, Fault::new(message, help));
            }
            None if read.matches.is_empty() => whole = Some(line),
            None => {}
        }
        routes.push(read);
    }
    routes
}

fn route(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    hosts: &[HostPattern],
    annotated: Option<&Action>,
) -> Route {
    let name = fields
        .get("name")
        .and_then(|entry| reader.text(&entry.value));
    let mut matches = Vec::new();
    if let Some(entry) = fields.get("match") {
        for node in reader.list(entry, "; without the field every request is meant") {
            matches.push(http_match(reader, node));
        }
    }
    let help = "add `route: [{destination: {host: NAME}}]`";
    if let Some(entry) = fields.require(reader, "route", help) {
        destinations(reader, entry, hosts);
    }
    let source = fields.get("source").map(|entry| source(reader, entry));
    Route {
        name: name.map(|name| name.text.to_owned()),
        matches,
        action: source.map(Action::Egress).or_else(|| annotated.cloned()),
    }
}

/// A request goes to the host that it is for, at the port that it is for: no other way is made.
fn destinations(reader: &mut Reader<'_>, entry: &Entry, hosts: &[HostPattern]) {
    let list = reader.list(entry, "");
    if let Some(second) = list.get(1) {
        let message = "requests of one route would be spread over several destinations";
        reader.report(second.span, Fault::new(message, "keep one of them"));
    }
    for node in list {
        let Some(fields) = reader.fields(node, None, WEIGHTED) else {
            continue;
        };
        let destination = fields
            .require(reader, "destination", "add `destination: {host: NAME}`")
            .and_then(|entry| reader.fields(&entry.value, Some(entry.key_span), DESTINATION));
        if let Some(fields) = destination {
            destination_host(reader, &fields, hosts);
            destination_port(reader, &fields);
        }
    }
}

fn destination_host(reader: &mut Reader<'_>, fields: &Fields<'_>, hosts: &[HostPattern]) {
    let entry = fields.require(reader, "host", "add `host: NAME`, one of `hosts`");
    let Some(text) = entry.and_then(|entry| reader.text(&entry.value)) else {
        return;
    };
    let host = match HostPattern::read(text.text) {
        Ok(host) => host,
        Err(fault) => return reader.report(text.span, fault),
    };
    if let Some(other) = hosts.iter().find(|other| **other != host) {
        let message = format!("requests for `{other}` would go to `{host}`");
        let help = format!(
            "write `host: {other}`, and a VirtualService for each host: requests go where they are for"
        );
        reader.report(text.span, Fault::new(message, help));
    }
}

fn destination_port(reader: &mut Reader<'_>, fields: &Fields<'_>) {
    let fields = fields
        .get("port")
        .and_then(|entry| reader.fields(&entry.value, Some(entry.key_span), PORT));
    let entry = fields.and_then(|fields| fields.require(reader, "number", "add `number: 80`"));
    let number = entry.and_then(|entry| Some((entry, reader.integer(entry, 1, u16::MAX)?)));
    if let Some((entry, number)) = number.filter(|(_, number)| *number != HTTP_PORT) {
        let message = format!("requests to port {HTTP_PORT} would go to port {number}");
        let help =
            "remove `port`; for TLS write an EgressPolicy with `http: {tls: {originate: true}}`";
        reader.report(entry.value.span, Fault::new(message, help));
    }
}

/// One address of each family.
fn source(reader: &mut Reader<'_>, entry: &Entry) -> Egress {
    let mut egress = Egress::without_address();
    for node in reader.list(entry, "; without the field requests leave as before") {
        let Some(fields) = reader.fields(node, None, SOURCE) else {
            continue;
        };
        let ip = fields.require(reader, "ip", "add `ip: ADDRESS`");
        let Some(text) = ip.and_then(|entry| reader.text(&entry.value)) else {
            continue;
        };
        let added = one_address(text.text).and_then(|bare| {
            let address = egress_address(bare)?;
            add_egress(&mut egress, address)
        });
        if let Err(fault) = added {
            reader.report(text.span, fault);
        }
    }
    egress
}

/// Without the prefix length that means the one address.
fn one_address(text: &str) -> Result<&str, Fault> {
    let Some((address, prefix)) = text.split_once('/') else {
        return Ok(text);
    };
    let whole = if address.contains(':') { "128" } else { "32" };
    if prefix == whole {
        return Ok(address);
    }
    let message = format!(
        "{} is a network: a request leaves with one address",
        quoted(text)
    );
    Err(Fault::new(
        message,
        format!("write `{address}/{whole}`, or `{address}`"),
    ))
}

#[cfg(test)]
mod tests;
