//! Routes of a VirtualService: from the mesh to the egress gateway, and from there by policies.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sortie_api::policy::{HttpMatch, PathPattern};
use sortie_plan::precedence::{Candidate, Scope};

use super::{EGRESS, GATEWAY, Host, V1, resource, subset};
use crate::envoy::route::sealed;
use crate::ports;
use crate::way::Way;

pub(super) fn virtual_service(
    candidates: &[Candidate<'_>],
    host: &Host<'_>,
    ways: &mut BTreeSet<Way>,
) -> Value {
    let (mut http, mut tls) = (Vec::new(), Vec::new());
    for (port, reads) in &host.ports {
        if *reads {
            http.push(json!({
                "match": [{"gateways": ["mesh"], "port": port}],
                "route": [{"destination": to(EGRESS, None, *port)}],
            }));
            http.extend(requests(host, *port, ways));
        } else {
            tls.push(json!({
                "match": [{"gateways": ["mesh"], "port": port, "sniHosts": [host.name]}],
                "route": [{"destination": to(EGRESS, None, *port)}],
            }));
            // Without a route the gateway closes it.
            let (_, way) = sealed(candidates, &host.name, (*port, *port));
            if let Some(subset) = subset(&way) {
                tls.push(json!({
                    "match": [{"gateways": [GATEWAY], "port": port, "sniHosts": [host.name]}],
                    "route": [{"destination": to(&host.name, Some(&subset), *port)}],
                }));
                ways.insert(way);
            }
        }
    }
    json!({
        "apiVersion": V1,
        "kind": "VirtualService",
        "metadata": {"name": resource(&host.name)},
        "spec": {
            "hosts": [host.name],
            "gateways": ["mesh", GATEWAY],
            "http": http,
            "tls": tls,
        },
    })
}

/// In the order in which policies are asked, at one port.
fn requests(host: &Host<'_>, port: u16, ways: &mut BTreeSet<Way>) -> Vec<Value> {
    let mut routes = Vec::new();
    for candidate in &host.candidates {
        let ports = ports::of(candidate.ports());
        let takes = |ports: Vec<ports::Ports>| {
            let mut ports = ports.into_iter();
            ports.any(|(first, last)| (first..=last).contains(&port))
        };
        if !ports.is_none_or(takes) {
            continue;
        }
        let (entry, excepts) = match candidate.scope {
            Scope::Request { http, entry, .. } => (entry, !http.unless.is_empty()),
            _ => (None, false),
        };
        // What Istio cannot except is refused.
        let way = if excepts {
            let policy = &candidate.policy.name.0;
            Way::Refused(format!("policy {policy}: requests of earlier routes"))
        } else {
            Way::of(candidate)
        };
        let matches: Vec<Value> = matches(entry)
            .into_iter()
            .map(|mut one| {
                one["gateways"] = json!([GATEWAY]);
                one["port"] = port.into();
                one
            })
            .collect();
        routes.push(route(host, port, &matches, &way, ways));
        if entry.is_none_or(|it| *it == HttpMatch::default()) && !excepts {
            return routes;
        }
    }
    let all = vec![json!({"gateways": [GATEWAY], "port": port})];
    routes.push(route(host, port, &all, &Way::as_host(), ways));
    routes
}

fn route(
    host: &Host<'_>,
    port: u16,
    matches: &[Value],
    way: &Way,
    ways: &mut BTreeSet<Way>,
) -> Value {
    let subset = subset(way);
    match (way, subset) {
        (Way::Out { tls, .. }, Some(subset)) => {
            ways.insert(way.clone());
            let port = tls.as_ref().map_or(port, |(tls, _)| tls.port);
            let destination = to(&host.name, Some(&subset), port);
            json!({"match": matches, "route": [{"destination": destination}]})
        }
        (Way::Refused(text), _) => json!({
            "match": matches,
            "directResponse": {"status": 403, "body": {"string": format!("{text}\n")}},
        }),
        (Way::Out { .. }, None) => Value::Null,
    }
}

/// Istio's prefixes know no segments: `/api` is the path itself, and what begins with `/api/`.
fn matches(entry: Option<&HttpMatch>) -> Vec<Value> {
    let Some(entry) = entry else {
        return vec![json!({})];
    };
    let paths = match &entry.path {
        None => vec![json!({})],
        Some(PathPattern::Exact(path)) => vec![json!({"uri": {"exact": path}})],
        Some(PathPattern::Prefix(path)) if path.ends_with('/') => {
            vec![json!({"uri": {"prefix": path}})]
        }
        Some(PathPattern::Prefix(path)) => vec![
            json!({"uri": {"exact": path}}),
            json!({"uri": {"prefix": format!("{path}/")}}),
        ],
        Some(PathPattern::Regex(regex)) => vec![json!({"uri": {"regex": regex.as_str()}})],
    };
    let with_rest = paths.into_iter().map(|mut one| {
        match entry.methods.as_slice() {
            [] => {}
            [method] => one["method"] = json!({"exact": method}),
            several => one["method"] = json!({"regex": several.join("|")}),
        }
        if !entry.headers.is_empty() {
            let headers = entry.headers.iter();
            one["headers"] = headers
                .map(|(name, value)| (name.clone(), json!({"exact": value})))
                .collect::<serde_json::Map<_, _>>()
                .into();
        }
        one
    });
    with_rest.collect()
}

fn to(host: &str, subset: Option<&str>, port: u16) -> Value {
    let mut destination = json!({"host": host});
    if let Some(subset) = subset {
        destination["subset"] = subset.into();
    }
    destination["port"] = json!({"number": port});
    destination
}
