//! Reads `destinations`: CIDRs, the parts of them that are not meant, and ports.

use std::fmt::Display;

use ipnet::IpNet;

use super::{Destination, PortRange, Protocol};
use crate::address::cidr;
use crate::problem::{Fault, quoted};
use crate::reader::{Names, Reader, Text, not_in_this_version};
use crate::yaml::{Entry, Node, Value};

const DESTINATION: Names = Names {
    known: &["name", "cidrs", "except", "ports"],
    later: &["hosts", "http"],
};
const PORT: Names = Names {
    known: &["protocol", "port", "endPort"],
    later: &[],
};

pub(super) fn destinations(reader: &mut Reader<'_>, entry: &Entry) -> Vec<Destination> {
    let list = reader.list(entry).iter();
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
        let message = format!("a destination cannot be named {}", quoted(name.text));
        reader.report(
            name.span,
            Fault::new(
                message,
                "write a name that can be printed, or remove the field",
            ),
        );
    }
    let unsupported = DESTINATION
        .later
        .iter()
        .any(|name| fields.get(name).is_some());
    let (cidrs, except, ports) = (
        fields.get("cidrs"),
        fields.get("except"),
        fields.get("ports"),
    );
    if cidrs.or(except).or(ports).is_none() && !unsupported {
        reader.report(
            fields.at(),
            Fault::new(
                "this destination says neither `cidrs` nor `ports`",
                "add one of them; for every address write `cidrs: [\"0.0.0.0/0\", \"::/0\"]`",
            ),
        );
    }
    let read_cidrs = cidrs.map(|entry| nets(reader, entry)).unwrap_or_default();
    let read_except = except.map(|entry| nets(reader, entry)).unwrap_or_default();
    match (cidrs, except) {
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
    Some(Destination {
        name: name.map(|name| name.text.to_owned()),
        cidrs: read_cidrs.into_iter().map(|(net, _)| net).collect(),
        except: read_except.into_iter().map(|(net, _)| net).collect(),
        ports: ports
            .map(|entry| port_ranges(reader, entry))
            .unwrap_or_default(),
    })
}

/// A list of CIDRs that differ, with their places.
fn nets<'n>(reader: &mut Reader<'_>, entry: &'n Entry) -> Vec<(IpNet, Text<'n>)> {
    let mut nets: Vec<(IpNet, Text<'n>)> = Vec::new();
    for node in reader.list(entry) {
        let Some(text) = reader.text(node) else {
            continue;
        };
        match cidr(text.text) {
            Ok(net) if nets.iter().any(|(n, _)| *n == net) => twice(reader, text, net),
            Ok(net) => nets.push((net, text)),
            Err(fault) => reader.report(text.span, fault),
        }
    }
    nets
}

/// The CIDRs of a list, as [`nets`].
pub(crate) fn cidrs(reader: &mut Reader<'_>, entry: &Entry) -> Vec<IpNet> {
    let nets = nets(reader, entry);
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
    for (net, text) in except {
        if complete && !cidrs.iter().any(|(cidr, _)| cidr.contains(net)) {
            let list: Vec<String> = cidrs.iter().map(|(c, _)| format!("`{c}`")).collect();
            let message = format!("{} is in none of `cidrs`", quoted(text.text));
            let help = format!("write a part of {}, or remove it", list.join(" or "));
            reader.report(text.span, Fault::new(message, help));
        }
        if let Some((cidr, _)) = cidrs.iter().find(|(cidr, _)| net.contains(cidr)) {
            let message = format!("{} leaves nothing of `{cidr}`", quoted(text.text));
            let help = format!("write a part of `{cidr}`, or remove both");
            reader.report(text.span, Fault::new(message, help));
        }
    }
}

fn port_ranges(reader: &mut Reader<'_>, entry: &Entry) -> Vec<PortRange> {
    let mut ranges: Vec<PortRange> = Vec::new();
    for node in reader.list(entry) {
        let Some(range) = port_range(reader, node) else {
            continue;
        };
        if ranges.contains(&range) {
            let text = Text {
                text: "",
                span: node.span,
            };
            twice(reader, text, "this port");
        } else {
            ranges.push(range);
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

fn twice(reader: &mut Reader<'_>, text: Text<'_>, what: impl Display) {
    reader.report(
        text.span,
        Fault::new(format!("{what} is written twice"), "remove one of them"),
    );
}
