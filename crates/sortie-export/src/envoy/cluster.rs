//! Clusters: each has one source for each family, and so one pool.

use serde_json::{Value, json};
use sortie_api::policy::{EgressPolicy, Originate};

use super::families;
use crate::way::Way;

/// What the system trusts, where Debian and most others have it.
const TRUSTED: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Names and their addresses, for all clusters. Where each policy has an IPv4 address, that is
/// preferred; else all are tried, of which the source's family fits.
pub(super) fn cache<'p>(policies: impl Iterator<Item = &'p EgressPolicy>) -> Value {
    let (all_v4, _) = families(policies);
    json!({
        "name": "names",
        "dns_lookup_family": if all_v4 { "V4_PREFERRED" } else { "ALL" },
    })
}

/// Resolves what a request is for, and tells the address to who checks it.
pub(super) fn resolving(cache: &Value) -> Value {
    json!({
        "name": "envoy.filters.http.dynamic_forward_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig",
            "dns_cache_config": cache,
            "save_upstream_address": true,
        },
    })
}

/// The cluster of what is asked for by name; none where nothing leaves.
pub(super) fn named(way: &Way, cache: &Value) -> Option<Value> {
    let Way::Out { sources, tls } = way else {
        return None;
    };
    let name = way.cluster()?;
    let mut cluster = json!({"name": name, "connect_timeout": "10s"});
    if !sources.is_empty() {
        cluster["upstream_bind_config"] = bound(way);
    }
    if let Some((originate, host)) = tls {
        cluster["transport_socket"] = transport(originate, host.as_deref());
        if let Some(host) = host {
            cluster["type"] = "LOGICAL_DNS".into();
            cluster["dns_lookup_family"] = cache["dns_lookup_family"].clone();
            cluster["load_assignment"] = json!({
                "cluster_name": name,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {
                    "address": host, "port_value": originate.port,
                }}}}]}],
            });
            return Some(cluster);
        }
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "upstream_http_protocol_options": {"auto_sni": true, "auto_san_validation": true},
                "explicit_http_config": {"http_protocol_options": {}},
            },
        });
    }
    cluster["lb_policy"] = "CLUSTER_PROVIDED".into();
    cluster["cluster_type"] = json!({
        "name": "envoy.clusters.dynamic_forward_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",
            "dns_cache_config": cache,
        },
    });
    Some(cluster)
}

/// The name of the cluster of a way, for what goes to the address that was called.
pub(super) fn to_address(way: &Way) -> Option<String> {
    Some(format!("{}-to-address", way.cluster()?))
}

/// That cluster; none where nothing leaves, and of TLS that is begun on the way.
pub(super) fn by_address(way: &Way) -> Option<Value> {
    let Way::Out { sources, tls: None } = way else {
        return None;
    };
    let mut cluster = json!({
        "name": to_address(way)?,
        "type": "ORIGINAL_DST",
        "connect_timeout": "10s",
        "lb_policy": "CLUSTER_PROVIDED",
    });
    if !sources.is_empty() {
        cluster["upstream_bind_config"] = bound(way);
    }
    Some(cluster)
}

/// The first source is for its family, a second one for the other.
fn bound(way: &Way) -> Value {
    let Way::Out { sources, .. } = way else {
        return Value::Null;
    };
    let address = |source: &std::net::IpAddr| json!({"address": source, "port_value": 0});
    let mut bind = json!({"source_address": sources.first().map(address)});
    if let Some(second) = sources.get(1) {
        bind["extra_source_addresses"] = json!([{"address": address(second)}]);
    }
    bind
}

fn transport(originate: &Originate, host: Option<&str>) -> Value {
    let ca = originate.ca.as_deref().unwrap_or(TRUSTED);
    let mut validation = json!({"trusted_ca": {"filename": ca}});
    if let Some(host) = host {
        validation["match_typed_subject_alt_names"] =
            json!([{"san_type": "DNS", "matcher": {"exact": host}}]);
    }
    let mut common = json!({"validation_context": validation});
    if let Some(name) = &originate.client_certificate {
        common["tls_certificates"] = json!([{
            "certificate_chain": {"filename": format!("/etc/envoy/{name}.crt")},
            "private_key": {"filename": format!("/etc/envoy/{name}.key")},
        }]);
    }
    let mut context = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": common,
    });
    if let Some(host) = host {
        context["sni"] = host.into();
    }
    json!({"name": "envoy.transport_sockets.tls", "typed_config": context})
}
