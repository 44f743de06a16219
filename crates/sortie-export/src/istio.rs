//! Istio's resources: requests go through the egress gateway, and there each source is a subset of its
//! own. Istio has no field for a source, so EnvoyFilters set it on the clusters of those subsets.

mod route;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::{Value, json};
use sortie_api::policy::{EgressPolicy, Enforcement, HostPattern};
use sortie_plan::precedence::{Candidate, Scope};

use crate::names::Class;
use crate::ports;
use crate::way::Way;

const V1: &str = "networking.istio.io/v1";
/// The Gateway of this name is on the mesh's own egress gateway.
const GATEWAY: &str = "sortie-egress";
const EGRESS: &str = "istio-egressgateway.istio-system.svc.cluster.local";
/// Longest range of ports that is written port by port.
const RANGE: u16 = 16;

/// A name with all that is said of it.
struct Host<'c> {
    name: String,
    /// The policies that are asked, in order.
    candidates: Vec<&'c Candidate<'c>>,
    /// Ports, and whether HTTP is read there.
    ports: BTreeMap<u16, bool>,
}

/// All of them, in an order in which they can be applied.
pub(crate) fn resources(policies: &[EgressPolicy]) -> Vec<Value> {
    let enforced = policies
        .iter()
        .filter(|it| it.enforcement == Enforcement::Enforce);
    let candidates = Candidate::ordered(enforced);
    let hosts: Vec<Host<'_>> = Class::all(&candidates)
        .into_iter()
        .filter_map(|class| host(&candidates, class))
        .collect();
    let mut resources = Vec::new();
    if !hosts.is_empty() {
        resources.push(gateway(&hosts));
    }
    for host in &hosts {
        let mut ways = BTreeSet::new();
        let service = route::virtual_service(&candidates, host, &mut ways);
        resources.push(entry(host, &ways));
        resources.push(destination_rule(host, &ways));
        resources.push(service);
        resources.extend(ways.iter().filter_map(|way| source(host, way)));
    }
    resources
}

/// An exact name; others have no service that a gateway could resolve.
fn host<'c>(candidates: &'c [Candidate<'c>], class: Class) -> Option<Host<'c>> {
    let Class::Of(HostPattern::Exact(name)) = class else {
        return None;
    };
    let asked: Vec<&Candidate<'_>> = candidates
        .iter()
        .filter(|it| match it.scope {
            Scope::Everything => true,
            Scope::Prefix(_) | Scope::Unlearned => false,
            Scope::Host(_) | Scope::Request { .. } => it.names(&name),
        })
        .collect();
    let mut all = BTreeMap::from([(80, true), (443, false)]);
    for candidate in &asked {
        let http = matches!(candidate.scope, Scope::Request { .. });
        for (first, last) in ports::of(candidate.ports()).unwrap_or_default() {
            for port in first..=last.min(first.saturating_add(RANGE - 1)) {
                *all.entry(port).or_insert(false) |= http && port != 443;
            }
        }
    }
    Some(Host {
        name,
        candidates: asked,
        ports: all,
    })
}

/// One server for each port, since two may not share one.
fn gateway(hosts: &[Host<'_>]) -> Value {
    let mut servers: BTreeMap<(u16, bool), Vec<&str>> = BTreeMap::new();
    for host in hosts {
        for (port, http) in &host.ports {
            servers.entry((*port, *http)).or_default().push(&host.name);
        }
    }
    let servers: Vec<Value> = servers
        .into_iter()
        .map(|((port, http), hosts)| {
            let mut server = json!({"port": named_port(port, http), "hosts": hosts});
            if !http {
                server["tls"] = json!({"mode": "PASSTHROUGH"});
            }
            server
        })
        .collect();
    json!({
        "apiVersion": V1,
        "kind": "Gateway",
        "metadata": {"name": GATEWAY},
        "spec": {"selector": {"istio": "egressgateway"}, "servers": servers},
    })
}

fn entry(host: &Host<'_>, ways: &BTreeSet<Way>) -> Value {
    let originated = ways.iter().filter_map(|way| match way {
        Way::Out {
            tls: Some((tls, _)),
            ..
        } => Some((tls.port, false)),
        _ => None,
    });
    let mut all = host.ports.clone();
    for (port, http) in originated {
        all.entry(port).or_insert(http);
    }
    let all: Vec<Value> = all
        .iter()
        .map(|(port, http)| named_port(*port, *http))
        .collect();
    json!({
        "apiVersion": V1,
        "kind": "ServiceEntry",
        "metadata": {"name": resource(&host.name)},
        "spec": {
            "hosts": [host.name],
            "location": "MESH_EXTERNAL",
            "resolution": "DNS",
            "ports": all,
        },
    })
}

/// A subset without labels for each source, and so a cluster.
fn destination_rule(host: &Host<'_>, ways: &BTreeSet<Way>) -> Value {
    let subsets: Vec<Value> = ways
        .iter()
        .filter_map(|way| {
            let mut subset = json!({"name": subset(way)?});
            if let Way::Out {
                tls: Some((tls, _)),
                ..
            } = way
            {
                let mut settings = json!({"mode": "SIMPLE", "sni": host.name});
                if let Some(ca) = &tls.ca {
                    settings["caCertificates"] = ca.clone().into();
                }
                if let Some(name) = &tls.client_certificate {
                    settings["mode"] = "MUTUAL".into();
                    settings["clientCertificate"] = format!("/etc/istio/{name}.crt").into();
                    settings["privateKey"] = format!("/etc/istio/{name}.key").into();
                }
                subset["trafficPolicy"] = json!({
                    "portLevelSettings": [{"port": {"number": tls.port}, "tls": settings}],
                });
            }
            Some(subset)
        })
        .collect();
    json!({
        "apiVersion": V1,
        "kind": "DestinationRule",
        "metadata": {"name": resource(&host.name)},
        "spec": {"host": host.name, "subsets": subsets},
    })
}

/// What Istio has no field for.
fn source(host: &Host<'_>, way: &Way) -> Option<Value> {
    let Way::Out { sources, .. } = way else {
        return None;
    };
    let (first, more) = sources.split_first()?;
    let address = |source: &IpAddr| json!({"address": source, "port_value": 0});
    let mut bind = json!({"source_address": address(first)});
    if let [second] = more {
        bind["extra_source_addresses"] = json!([{"address": address(second)}]);
    }
    let subset = subset(way)?;
    let text: Vec<String> = sources.iter().map(ToString::to_string).collect();
    Some(json!({
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {
            "name": format!("{}-{subset}", resource(&host.name)),
            "annotations": {
                "sortie.dev/source": text.join(","),
                "sortie.dev/needs": "the egress gateway's pod must have this address, and the CNI must not masquerade it",
            },
        },
        "spec": {
            "workloadSelector": {"labels": {"istio": "egressgateway"}},
            "configPatches": [{
                "applyTo": "CLUSTER",
                "match": {"context": "GATEWAY", "cluster": {"service": host.name, "subset": subset}},
                "patch": {"operation": "MERGE", "value": {"upstream_bind_config": bind}},
            }],
        },
    }))
}

fn named_port(port: u16, http: bool) -> Value {
    let (word, protocol) = if http {
        ("http", "HTTP")
    } else {
        ("tls", "TLS")
    };
    json!({"number": port, "name": format!("{word}-{port}"), "protocol": protocol})
}

fn resource(host: &str) -> String {
    format!("sortie-{}", host.replace('.', "-"))
}

/// A label of DNS (RFC 1035), as subsets are named.
fn subset(way: &Way) -> Option<String> {
    let name = way.cluster()?;
    let label = name.chars().map(|c| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    });
    Some(label.collect())
}
