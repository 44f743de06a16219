//! Connections that were redirected: TLS by the name in its hello, HTTP by request, the rest by the
//! address that was called.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use serde_json::{Value, json};
use sortie_api::policy::{HostPattern, Protocol};
use sortie_plan::precedence::{Candidate, Scope, Target};
use sortie_plan::ranges::{Range, disjoint};
use sortie_plan::resolve::among;

use super::route::sealed;
use super::{REDIRECTED, address, cluster};
use crate::names::Class;
use crate::ports::{self, Ports};
use crate::way::Way;

const REFUSED: &str = "refused";
const REQUESTS: &str = "requests";

/// The listener, whose chains are found in this order:
/// 1. TLS with a name, unless the address says otherwise ([`refused`]); HTTP.
/// 2. What tells no name, on a port that policies for names are about: refused, for they might mean
///    it. Envoy does not take all HTTP for HTTP: not what comes in small pieces.
/// 3. Addresses.
pub(super) fn listener(
    candidates: &[Candidate<'_>],
    cache: &Value,
    manager: &Value,
    ways: &mut BTreeSet<Way>,
) -> Value {
    let mut chains = Chains::default();
    let by_address = by_address(candidates, &mut chains);
    let by_name = by_name(candidates, &mut chains);
    let named = and(&[
        input("transport", &json!({"exact": "tls"})),
        input("server_name", &json!({"safe_regex": {"regex": ".+"}})),
    ]);
    let requests = and(&[
        input("transport", &json!({"exact": "raw_buffer"})),
        input(
            "application",
            &json!({"safe_regex": {"regex": ".*'(?:http/1.[01]|h2c)'.*"}}),
        ),
    ]);
    let mut matchers = vec![
        (
            named,
            json!({"matcher": {"matcher_list": {"matchers": by_name}}}),
        ),
        (requests, chain(REQUESTS)),
    ];
    let mut rest = by_address;
    match ports_by_name(candidates) {
        None => rest = chain(REFUSED),
        Some(ports) if ports.is_empty() => {}
        Some(ports) => matchers.extend(port(&ports).map(|it| (it, chain(REFUSED)))),
    }
    let matchers: Vec<Value> = matchers
        .into_iter()
        .map(|(predicate, on_match)| json!({"predicate": predicate, "on_match": on_match}))
        .collect();
    let mut all = vec![
        json!({"name": REQUESTS, "filters": [manager]}),
        json!({"name": REFUSED, "filters": [{
            "name": "envoy.filters.network.direct_response",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config"},
        }]}),
    ];
    for (way, named) in chains.0 {
        all.extend(filters(&way, named, cache));
        ways.insert(way);
    }
    json!({
        "name": "redirected",
        "address": address(REDIRECTED),
        "listener_filters": [
            listener_filter("original_dst", "original_dst.v3.OriginalDst"),
            listener_filter("tls_inspector", "tls_inspector.v3.TlsInspector"),
            listener_filter("http_inspector", "http_inspector.v3.HttpInspector"),
        ],
        "filter_chain_matcher": {
            "matcher_list": {"matchers": matchers},
            "on_no_match": rest,
        },
        "filter_chains": all,
    })
}

/// The ports that policies for names are about; none for all.
fn ports_by_name(candidates: &[Candidate<'_>]) -> Option<Vec<Ports>> {
    let by_name = candidates.iter().filter(|it| it.host().is_some());
    let ports: Option<Vec<Vec<Ports>>> = by_name.map(|it| ports::of(it.ports())).collect();
    ports.map(|ports| ports::joined(ports.concat()))
}

/// Ways that chains lead to, each by name or by address.
#[derive(Default)]
struct Chains(BTreeSet<(Way, bool)>);

impl Chains {
    fn to(&mut self, way: Way, named: bool) -> Value {
        let name = match (way.cluster(), named) {
            (None, _) => return chain(REFUSED),
            (Some(name), true) => name,
            (Some(_), false) => cluster::to_address(&way).unwrap_or_default(),
        };
        self.0.insert((way, named));
        chain(&name)
    }
}

/// TLS: of each class of names, the most specific first, and each port.
fn by_name(candidates: &[Candidate<'_>], chains: &mut Chains) -> Vec<Value> {
    let mut matchers = Vec::new();
    let only = candidates.iter().any(|it| it.policy.only_these_hosts);
    for class in Class::all(candidates) {
        let name = class.name();
        let parts = ports::parts(candidates).into_iter().map(|part| {
            let (decides, way) = sealed(candidates, &name, part);
            let way = match class {
                Class::Unnamed if only => Way::Refused(String::new()),
                _ => way,
            };
            ((way, refused(candidates, &name, decides, part)), part)
        });
        for ((way, refused), parts) in ports::grouped(parts) {
            let mut all: Vec<Value> = server_name(&class).into_iter().collect();
            all.extend(port(&parts));
            let leads = address_first(&refused, chains.to(way, true));
            let predicate = match all.len() {
                0 => input("server_name", &json!({"safe_regex": {"regex": ".+"}})),
                1 => all.remove(0),
                _ => and(&all),
            };
            matchers.push(json!({"predicate": predicate, "on_match": leads}));
        }
    }
    matchers
}

fn server_name(class: &Class) -> Option<Value> {
    let matcher = match class {
        Class::Of(HostPattern::Exact(name)) => json!({"exact": name, "ignore_case": true}),
        Class::Of(HostPattern::Below(suffix)) => {
            json!({"suffix": format!(".{suffix}"), "ignore_case": true})
        }
        Class::Of(HostPattern::Any) | Class::Unnamed => return None,
    };
    Some(input("server_name", &matcher))
}

/// The addresses to which a name's decision does not lead: a Deny means them, or a policy that is
/// asked before would decide otherwise.
fn refused(
    candidates: &[Candidate<'_>],
    name: &str,
    decides: Option<usize>,
    part: Ports,
) -> Vec<IpNet> {
    let before = &candidates[..decides.unwrap_or(candidates.len())];
    let addressed: Vec<Candidate<'_>> = addressed(candidates);
    let mut refused: Vec<IpNet> = Vec::new();
    for range in [false, true]
        .iter()
        .flat_map(|v6| disjoint(&addressed, *v6))
    {
        // That it has a name is known: it is not unlearned.
        let target = Target {
            name: Some(name),
            ..Target::address(range.first, Some((Protocol::Tcp, part.0)))
        };
        let decides = among(addressed.iter(), target);
        let otherwise = before
            .iter()
            .any(|it| matches!(it.scope, Scope::Prefix(_)) && it.covers(target));
        if otherwise || decides.is_some_and(Candidate::denies_prefix) {
            refused.extend(subnets(&range));
        }
    }
    refused
}

/// Those that go by address.
fn addressed<'p>(candidates: &[Candidate<'p>]) -> Vec<Candidate<'p>> {
    let addressed = candidates.iter().filter(|it| it.host().is_none());
    addressed.copied().collect()
}

/// The address that was called is asked first.
fn address_first(refused: &[IpNet], leads: Value) -> Value {
    if refused.is_empty() {
        return leads;
    }
    let ranges: Vec<Value> = refused.iter().map(prefix).collect();
    json!({"matcher": {
        "matcher_tree": {
            "input": the("destination_ip"),
            "custom_match": ip_matcher(&[json!({"ranges": ranges, "on_match": chain(REFUSED)})]),
        },
        "on_no_match": leads,
    }})
}

/// What has no name: by the address and port that were called.
fn by_address(candidates: &[Candidate<'_>], chains: &mut Chains) -> Value {
    let addressed = addressed(candidates);
    if !addressed
        .iter()
        .any(|it| matches!(it.scope, Scope::Prefix(_)))
    {
        return at_ports(&addressed, IpAddr::from([0, 0, 0, 0]), chains);
    }
    let ranges = [false, true]
        .iter()
        .flat_map(|v6| disjoint(&addressed, *v6));
    let ranges: Vec<Value> = ranges
        .map(|range| {
            let nets: Vec<Value> = subnets(&range).iter().map(prefix).collect();
            json!({"ranges": nets, "on_match": at_ports(&addressed, range.first, chains)})
        })
        .collect();
    let rest = chains.to(Way::as_host(), false);
    json!({"matcher": {
        "matcher_tree": {"input": the("destination_ip"), "custom_match": ip_matcher(&ranges)},
        "on_no_match": rest,
    }})
}

fn at_ports(addressed: &[Candidate<'_>], ip: IpAddr, chains: &mut Chains) -> Value {
    let parts = ports::parts(addressed).into_iter().map(|part| {
        let target = Target::address(ip, Some((Protocol::Tcp, part.0)));
        let decides = among(addressed.iter(), target);
        (decides.map_or_else(Way::as_host, Way::of_sealed), part)
    });
    let mut matchers = Vec::new();
    let mut rest = Value::Null;
    for (way, parts) in ports::grouped(parts) {
        let leads = chains.to(way, false);
        match port(&parts) {
            Some(predicate) => matchers.push(json!({"predicate": predicate, "on_match": leads})),
            None => rest = leads,
        }
    }
    if matchers.is_empty() {
        return rest;
    }
    json!({"matcher": {"matcher_list": {"matchers": matchers}, "on_no_match": rest}})
}

fn filters(way: &Way, named: bool, cache: &Value) -> Option<Value> {
    let name = if named {
        way.cluster()?
    } else {
        cluster::to_address(way)?
    };
    let mut filters = Vec::new();
    if named {
        filters.push(json!({
            "name": "envoy.filters.network.set_filter_state",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config",
                "on_new_connection": [{
                    "object_key": "envoy.upstream.dynamic_port",
                    "format_string": {"text_format_source": {"inline_string": "%DOWNSTREAM_LOCAL_PORT%"}},
                }],
            },
        }));
        filters.push(json!({
            "name": "envoy.filters.network.sni_dynamic_forward_proxy",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig",
                "port_value": 443,
                "dns_cache_config": cache,
            },
        }));
    }
    filters.push(json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": name,
            "cluster": name,
        },
    }));
    Some(json!({"name": name, "filters": filters}))
}

fn listener_filter(name: &str, kind: &str) -> Value {
    let kind = format!("type.googleapis.com/envoy.extensions.filters.listener.{kind}");
    json!({"name": format!("envoy.filters.listener.{name}"), "typed_config": {"@type": kind}})
}

/// What a matcher looks at.
fn the(what: &str) -> Value {
    let kind = match what {
        "server_name" => "ServerNameInput",
        "transport" => "TransportProtocolInput",
        "application" => "ApplicationProtocolInput",
        "destination_ip" => "DestinationIPInput",
        _ => "DestinationPortInput",
    };
    let kind =
        format!("type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3.{kind}");
    json!({"name": what, "typed_config": {"@type": kind}})
}

fn input(what: &str, matcher: &Value) -> Value {
    let matcher = match matcher.get("safe_regex") {
        Some(regex) => json!({"safe_regex": {"google_re2": {}, "regex": regex["regex"]}}),
        None => matcher.clone(),
    };
    json!({"single_predicate": {"input": the(what), "value_match": matcher}})
}

fn and(predicates: &[Value]) -> Value {
    json!({"and_matcher": {"predicate": predicates}})
}

/// None for all ports.
fn port(parts: &[Ports]) -> Option<Value> {
    if parts == [ports::ALL] {
        return None;
    }
    let numbers: Vec<String> = parts.iter().map(|part| ports::numbers(*part)).collect();
    Some(input(
        "port",
        &json!({"safe_regex": {"regex": numbers.join("|")}}),
    ))
}

fn ip_matcher(ranges: &[Value]) -> Value {
    json!({
        "name": "by-address",
        "typed_config": {
            "@type": "type.googleapis.com/xds.type.matcher.v3.IPMatcher",
            "range_matchers": ranges,
        },
    })
}

fn chain(name: &str) -> Value {
    json!({"action": {
        "name": name,
        "typed_config": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": name},
    }})
}

fn prefix(net: &IpNet) -> Value {
    json!({"address_prefix": net.addr(), "prefix_len": net.prefix_len()})
}

fn subnets(range: &Range) -> Vec<IpNet> {
    match (range.first, range.last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect()
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect()
        }
        _ => Vec::new(),
    }
}
