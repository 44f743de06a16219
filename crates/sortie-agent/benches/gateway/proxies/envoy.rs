//! Envoy as its project builds it: a virtual host and a cluster with its own source for each name.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sortie_lab::built_program;

use super::{Kind, Line, Setup};
use crate::Failure;
use crate::rig::{SERVER, name, source};

const TYPE: &str = "type.googleapis.com/envoy.extensions";

pub(super) fn command(setup: &Setup, folder: &Path) -> Result<Line, Failure> {
    let config = folder.join("envoy.json");
    fs::write(&config, bootstrap(setup).to_string())?;
    let arguments = [
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--log-level",
        "error",
    ];
    let mut arguments: Vec<String> = arguments.map(str::to_owned).into();
    arguments.extend(["--config-path".to_owned(), config.display().to_string()]);
    Ok((built_program("envoy", "envoy")?, arguments))
}

fn bootstrap(setup: &Setup) -> Value {
    let hosts: Vec<Value> = (0..setup.sources)
        .map(|number| host(setup, number))
        .collect();
    let clusters: Vec<Value> = (0..setup.sources)
        .map(|number| cluster(setup, number))
        .collect();
    let upgrades = match setup.kind {
        Kind::Tunnel => json!([{"upgrade_type": "CONNECT"}]),
        _ => json!([]),
    };
    let manager = json!({
        "@type": format!("{TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "clients",
        // What it adds to requests by itself is left out.
        "generate_request_id": false,
        "upgrade_configs": upgrades,
        "route_config": {"name": "names", "virtual_hosts": hosts},
        "http_filters": [{
            "name": "router",
            "typed_config": {
                "@type": format!("{TYPE}.filters.http.router.v3.Router"),
                "suppress_envoy_headers": true,
            },
        }],
        "access_log": [{
            "name": "file",
            "typed_config": {
                "@type": format!("{TYPE}.access_loggers.file.v3.FileAccessLog"),
                "path": setup.log,
                "log_format": {"json_format": {
                    "time": "%START_TIME%",
                    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
                    "method": "%REQ(:METHOD)%",
                    "host": "%REQ(:AUTHORITY)%",
                    "path": "%REQ(:PATH)%",
                    "status": "%RESPONSE_CODE%",
                    "policy": "%UPSTREAM_CLUSTER%",
                    "actual_source": "%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%",
                    "upstream": "%UPSTREAM_HOST%",
                    "bytes_sent": "%BYTES_RECEIVED%",
                    "bytes_received": "%BYTES_SENT%",
                    "duration_ms": "%DURATION%",
                }},
            },
        }],
    });
    json!({"static_resources": {
        "listeners": [{
            "name": "clients",
            "address": address("0.0.0.0", setup.port),
            "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
        }],
        "clusters": clusters,
    }})
}

fn address(address: &str, port: u16) -> Value {
    json!({"socket_address": {"address": address, "port_value": port}})
}

fn host(setup: &Setup, number: u32) -> Value {
    let name = name(number);
    let cluster = format!("s{number}");
    let (domain, route) = match setup.kind {
        Kind::Tunnel => (
            format!("{name}:{}", setup.kind.port()),
            json!({
                "match": {"connect_matcher": {}},
                "route": {
                    "cluster": cluster,
                    "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}],
                },
            }),
        ),
        _ => (
            name,
            json!({"match": {"prefix": "/"}, "route": {"cluster": cluster}}),
        ),
    };
    json!({"name": cluster, "domains": [domain], "routes": [route]})
}

fn cluster(setup: &Setup, number: u32) -> Value {
    let server = address(&SERVER.to_string(), setup.kind.port());
    let mut cluster = json!({
        "name": format!("s{number}"),
        "type": "STATIC",
        "connect_timeout": "10s",
        "upstream_bind_config": {"source_address": {
            "address": source(number).to_string(),
            "port_value": 0,
        }},
        "load_assignment": {
            "cluster_name": format!("s{number}"),
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": server}}]}],
        },
    });
    match setup.kind {
        Kind::Tls => {
            let name = name(number);
            let names = json!([{"san_type": "DNS", "matcher": {"exact": name}}]);
            cluster["transport_socket"] = json!({
                "name": "tls",
                "typed_config": {
                    "@type": format!("{TYPE}.transport_sockets.tls.v3.UpstreamTlsContext"),
                    "sni": name,
                    "common_tls_context": {"validation_context": {
                        "trusted_ca": {"filename": setup.ca},
                        "match_typed_subject_alt_names": names,
                    }},
                },
            });
        }
        Kind::Http2 => {
            let options = format!("{TYPE}.upstreams.http.v3.HttpProtocolOptions");
            cluster["typed_extension_protocol_options"] = json!({
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": options,
                    "explicit_http_config": {"http2_protocol_options": {}},
                },
            });
        }
        Kind::Plain | Kind::Tunnel => {}
    }
    cluster
}
