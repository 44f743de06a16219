//! Reads `destinations`: CIDRs, the parts of them that are not meant, names of hosts, and ports.

use std::collections::BTreeSet;
use std::iter::successors;

use ipnet::IpNet;

use super::http::http;
use super::{Destination, HostPattern, PortRange, Protocol};
use crate::address::cidr;
use crate::problem::{Fault, Span, quoted};
use crate::reader::{ANY, Names, Reader, Text, not_in_this_version};
use crate::yaml::{Entry, Node, Value};

const DESTINATION: Names = Names {
    known: &["name", "cidrs", "except", "hosts", "ports", "http"],
    later: &[],
};
const PORT: Names = Names {
    known: &["protocol", "port", "endPort"],
    later: &[],
};

pub(super) fn destinations(reader: &mut Reader<'_>, entry: &Entry) -> Vec<Destination> {
    let absent = "; without the field every address that is not local is meant";
    let list = reader.list(entry, absent).iter();
    list.filter_map(|node| destination(reader, node)).collect()
}

fn destination(reader: &mut Reader<'_>, node: &Node) -> Option<Destination> {
    let fields = reader.fields(node, None, DESTINATION)?;
    let name = fields
        .get("name")
        .and_then(|entry| reader.text(&entry.value));
    if let Some(name) = name
        && (name.text.is_empty() || name.text.chars().any(char::is_control))
    {
        let message = format!("`name` cannot be {}", quoted(name.text));
        reader.report(
            name.span,
            Fault::new(
                message,
                "write a name that can be printed, or remove the field",
            ),
        );
    }
    let (cidrs, except, ports) = (
        fields.get("cidrs"),
        fields.get("except"),
        fields.get("ports"),
    );
    let (hosts, http_field) = (fields.get("hosts"), fields.get("http"));
    if cidrs
        .or(except)
        .or(ports)
        .or(hosts)
        .or(http_field)
        .is_none()
    {
        reader.report(
            fields.at(),
            Fault::new(
                "this destination says neither `cidrs`, `hosts` nor `ports`",
                "add one of them; for every address write `cidrs: [\"0.0.0.0/0\", \"::/0\"]`",
            ),
        );
    }
    by_name_or_address(reader, cidrs, hosts, http_field);
    let read_cidrs = cidrs
        .map(|entry| nets(reader, entry, ANY))
        .unwrap_or_default();
    let read_except = except
        .map(|entry| nets(reader, entry, ", or remove the field"))
        .unwrap_or_default();
    match (cidrs, except) {
        (None, Some(except)) if hosts.is_some() => reader.report(
            except.key_span,
            Fault::new(
                "`except` has no meaning with `hosts`: it is a part of `cidrs`",
                "remove it; another policy with `cidrs` and `action: Deny` keeps addresses from names",
            ),
        ),
        (None, Some(except)) => reader.report(
            except.key_span,
            Fault::new(
                "`except` needs `cidrs` that it is taken from",
                "add `cidrs`; for every address write `cidrs: [\"0.0.0.0/0\", \"::/0\"]`",
            ),
        ),
        (Some(cidrs), _) => check_except(reader, cidrs, &read_cidrs, &read_except),
        (None, None) => {}
    }
    let read_hosts = hosts.map(|entry| self::hosts(reader, entry));
    let read_ports = ports.map(|entry| port_ranges(reader, entry));
    if let (Some(_), Some(entry), Some(read)) = (http_field, ports, &read_ports)
        && read.iter().any(|range| range.protocol == Protocol::Udp)
    {
        let message = "`http` is about TCP: HTTP over UDP (QUIC) is kept from these hosts";
        let help = "write `protocol: TCP`, or a destination without `http` for UDP";
        reader.report(entry.key_span, Fault::new(message, help));
    }
    Some(Destination {
        name: name.map(|name| name.text.to_owned()),
        cidrs: read_cidrs.into_iter().map(|(net, _)| net).collect(),
        except: read_except.into_iter().map(|(net, _)| net).collect(),
        hosts: read_hosts.unwrap_or_default(),
        ports: read_ports.unwrap_or_default(),
        http: http_field.and_then(|entry| http(reader, entry)),
    })
}

/// A destination is one of both: whoever means the addresses that a name may have within CIDRs
/// would not see from either list what is left.
fn by_name_or_address(
    reader: &mut Reader<'_>,
    cidrs: Option<&Entry>,
    hosts: Option<&Entry>,
    http: Option<&Entry>,
) {
    if let (Some(_), Some(cidrs)) = (hosts, cidrs) {
        let message = "`cidrs` beside `hosts`: a destination is meant by address or by name";
        let help = "write two destinations; a Deny for `cidrs` holds for names too";
        reader.report(cidrs.key_span, Fault::new(message, help));
    }
    if let (None, Some(http)) = (hosts, http) {
        let message = "`http` needs `hosts` that the requests are for";
        let help = "add `hosts`; for every host write `hosts: [\"*\"]`";
        reader.report(http.key_span, Fault::new(message, help));
    }
}

/// A list of names that differ.
pub(super) fn hosts(reader: &mut Reader<'_>, entry: &Entry) -> Vec<HostPattern> {
    let mut patterns = Vec::new();
    let mut seen = BTreeSet::new();
    for node in reader.list(entry, ANY) {
        let Some(text) = reader.text(node) else {
            continue;
        };
        match HostPattern::read(text.text) {
            Ok(pattern) if seen.insert(pattern.clone()) => patterns.push(pattern),
            Ok(pattern) => twice(reader, text.span, &format!("`{pattern}`")),
            Err(fault) => reader.report(text.span, fault),
        }
    }
    patterns
}

/// A list of CIDRs that differ, with their places.
fn nets<'n>(reader: &mut Reader<'_>, entry: &'n Entry, absent: &str) -> Vec<(IpNet, Text<'n>)> {
    let mut nets = Vec::new();
    let mut seen = BTreeSet::new();
    for node in reader.list(entry, absent) {
        let Some(text) = reader.text(node) else {
            continue;
        };
        match cidr(text.text) {
            Ok(net) if seen.insert(net) => nets.push((net, text)),
            Ok(net) => twice(reader, text.span, &format!("`{net}`")),
            Err(fault) => reader.report(text.span, fault),
        }
    }
    nets
}

/// The CIDRs of a list, as [`nets`].
pub(crate) fn cidrs(reader: &mut Reader<'_>, entry: &Entry, absent: &str) -> Vec<IpNet> {
    let nets = nets(reader, entry, absent);
    nets.into_iter().map(|(net, _)| net).collect()
}

fn check_except(
    reader: &mut Reader<'_>,
    entry: &Entry,
    cidrs: &[(IpNet, Text<'_>)],
    except: &[(IpNet, Text<'_>)],
) {
    // A CIDR that could not be read may be what an exception belongs to.
    let complete = matches!(&entry.value.value, Value::List(list) if list.len() == cidrs.len());
    let cidrs: BTreeSet<IpNet> = cidrs.iter().map(|(net, _)| *net).collect();
    for (net, text) in except {
        let mut wider = successors(Some(*net), IpNet::supernet);
        if complete && !wider.any(|net| cidrs.contains(&net)) {
            let mut list: Vec<String> = cidrs.iter().take(3).map(|c| format!("`{c}`")).collect();
            if cidrs.len() > 3 {
                list.push("another".to_owned());
            }
            let message = format!("{} is in none of `cidrs`", quoted(text.text));
            let help = format!("write a part of {}, or remove it", list.join(" or "));
            reader.report(text.span, Fault::new(message, help));
        }
        // Networks are in the order of their addresses, the wider first: if any is inside
        // this one, the next is.
        if let Some(cidr) = cidrs.range(net..).next().filter(|cidr| net.contains(*cidr)) {
            let message = format!("{} leaves nothing of `{cidr}`", quoted(text.text));
            let help = format!("write a part of `{cidr}`, or remove both");
            reader.report(text.span, Fault::new(message, help));
        }
    }
}

fn port_ranges(reader: &mut Reader<'_>, entry: &Entry) -> Vec<PortRange> {
    let mut ranges = Vec::new();
    let mut seen = BTreeSet::new();
    for node in reader.list(entry, ANY) {
        match port_range(reader, node) {
            Some(range) if seen.insert(range) => ranges.push(range),
            Some(_) => twice(reader, node.span, "this port"),
            None => {}
        }
    }
    ranges
}

fn port_range(reader: &mut Reader<'_>, node: &Node) -> Option<PortRange> {
    let fields = reader.fields(node, None, PORT)?;
    let protocol = fields
        .require(reader, "protocol", "add `protocol: TCP` or `protocol: UDP`")
        .and_then(|entry| protocol(reader, entry));
    let first = fields
        .require(
            reader,
            "port",
            "add `port`; for every port write `port: 1, endPort: 65535`",
        )
        .and_then(|entry| reader.integer(entry, 1, u16::MAX));
    let end = fields.get("endPort");
    let last = match end {
        Some(entry) => reader.integer(entry, 1, u16::MAX)?,
        None => first?,
    };
    let (protocol, first) = (protocol?, first?);
    if let Some(end) = end
        && last < first
    {
        reader.report(
            end.value.span,
            Fault::new(
                format!("`endPort` {last} is below `port` {first}"),
                format!("write `port: {last}, endPort: {first}`"),
            ),
        );
    }
    Some(PortRange {
        protocol,
        first,
        last,
    })
}

fn protocol(reader: &mut Reader<'_>, entry: &Entry) -> Option<Protocol> {
    let text = reader.text(&entry.value)?;
    let fault = match text.text {
        "TCP" => return Some(Protocol::Tcp),
        "UDP" => return Some(Protocol::Udp),
        "SCTP" | "DCCP" | "UDPLITE" => not_in_this_version(
            &format!("`protocol: {}`", text.text),
            "write `TCP` or `UDP`",
        ),
        "ICMP" | "ICMPv6" => Fault::new(
            format!("`{}` has no ports", text.text),
            "a destination without `ports` means every protocol, ICMP included",
        ),
        other => {
            let upper = other.to_ascii_uppercase();
            let help = if upper == "TCP" || upper == "UDP" {
                format!("write `protocol: {upper}`")
            } else {
                "write `TCP` or `UDP`".to_owned()
            };
            Fault::new(format!("`protocol` cannot be {}", quoted(other)), help)
        }
    };
    reader.report(text.span, fault);
    None
}

fn twice(reader: &mut Reader<'_>, place: Span, what: &str) {
    let message = format!("{what} is written twice");
    reader.report(place, Fault::new(message, "remove one of them"));
}
