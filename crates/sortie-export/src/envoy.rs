//! Envoy's bootstrap: one cluster for each source, and two listeners that lead to them.
//!
//! A cluster has a pool of its own, so no request leaves by a connection of another source.

mod access;
mod cluster;
mod connection;
mod paths;
pub(crate) mod route;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sortie_api::policy::{Action, EgressPolicy, Enforcement};
use sortie_plan::precedence::Candidate;

use crate::names::Class;
use crate::way::Way;

/// Where the forward proxy listens.
const PROXY: (&str, u16) = ("127.0.0.1", 3128);
/// Where redirected connections come in.
const REDIRECTED: (&str, u16) = ("127.0.0.1", 15001);

/// All of it.
pub(crate) fn bootstrap(policies: &[EgressPolicy]) -> Value {
    let enforced = policies
        .iter()
        .filter(|it| it.enforcement == Enforcement::Enforce);
    let candidates = Candidate::ordered(enforced.clone());
    let cache = cluster::cache(enforced);
    let mut ways = BTreeSet::from([Way::as_host()]);
    let hosts: Vec<Value> = Class::all(&candidates)
        .iter()
        .map(|class| route::virtual_host(&candidates, class, &mut ways))
        .collect();
    let manager = manager(&candidates, &cache, &hosts);
    let redirected = connection::listener(&candidates, &cache, &manager, &mut ways);
    let proxy = json!({
        "name": "proxy",
        "address": address(PROXY),
        "filter_chains": [{"filters": [manager]}],
    });
    let mut clusters: Vec<Value> = ways
        .iter()
        .filter_map(|it| cluster::named(it, &cache))
        .collect();
    clusters.extend(ways.iter().filter_map(cluster::by_address));
    json!({
        "static_resources": {"listeners": [proxy, redirected], "clusters": clusters},
    })
}

/// Reads requests, decides, and leads them out. Paths are put into one spelling before.
fn manager(candidates: &[Candidate<'_>], cache: &Value, hosts: &[Value]) -> Value {
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "requests",
            "normalize_path": true,
            "merge_slashes": true,
            // Refused by a route, for those names only of which a policy looks at paths.
            "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
            "generate_request_id": false,
            "skip_xff_append": true,
            "server_header_transformation": "PASS_THROUGH",
            "stream_idle_timeout": "300s",
            "upgrade_configs": [{"upgrade_type": "CONNECT"}, {"upgrade_type": "websocket"}],
            "http_filters": [
                cluster::resolving(cache),
                access::filter(candidates),
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                        "suppress_envoy_headers": true,
                    },
                },
            ],
            "route_config": {
                "name": "by-name",
                "ignore_port_in_host_matching": true,
                "virtual_hosts": hosts,
            },
        },
    })
}

fn address((address, port): (&str, u16)) -> Value {
    json!({"socket_address": {"address": address, "port_value": port}})
}

/// The families that egress addresses are of.
fn families<'p>(policies: impl Iterator<Item = &'p EgressPolicy>) -> (bool, bool) {
    let egress = policies.filter_map(|policy| match &policy.action {
        Action::Egress(egress) => Some((egress.v4.is_some(), egress.v6.is_some())),
        Action::Bypass | Action::Deny => None,
    });
    // Whether each has an IPv4 address, and whether any has an IPv6 address alone.
    egress.fold((true, false), |(all, alone), (v4, v6)| {
        (all && v4, alone || (v6 && !v4))
    })
}
