//! What is refused once a name's address is known: a Deny for `cidrs`, which no name undoes; private
//! addresses of names that a policy names; and those about which a policy for addresses would decide
//! otherwise than the name, since Envoy has chosen the source before.

use ipnet::IpNet;
use serde_json::{Value, json};
use sortie_plan::precedence::{Candidate, Scope};

use crate::ports;

const FILTER: &str = "envoy.filters.http.rbac";

/// As in the gateway: RFC 1918 and what else is inside; ranges with an IPv4 address in them.
const PRIVATE: [&str; 20] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/3",
    "::/96",
    "::ffff:0:0/96",
    "::ffff:0:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "2002::/16",
    "2001::/32",
    "fc00::/7",
    "fe80::/9",
    "ff00::/8",
];

/// For all routes that have nothing else to say.
pub(super) fn filter(candidates: &[Candidate<'_>]) -> Value {
    json!({
        "name": FILTER,
        "typed_config": typed("RBAC", rules(denied(candidates))),
    })
}

/// For the routes of names that a policy names.
pub(super) fn of_names(candidates: &[Candidate<'_>]) -> Value {
    let mut all = denied(candidates);
    all.push(private());
    per_route(all)
}

/// For one route that needs other rules: `decides` is the place of the candidate behind it, none where
/// no policy is; `named` says whether a policy names the names.
pub(super) fn of_route(
    candidates: &[Candidate<'_>],
    decides: Option<usize>,
    named: bool,
) -> Option<Value> {
    let before = &candidates[..decides.unwrap_or(candidates.len())];
    let otherwise: Vec<Value> = before
        .iter()
        .filter(|it| matches!(it.scope, Scope::Prefix(_)) && !it.denies_prefix())
        .map(|it| json!({"and_rules": {"rules": covered(it)}}))
        .collect();
    let by_name = decides.is_some_and(|it| candidates[it].host().is_some());
    if otherwise.is_empty() && by_name == named {
        return None;
    }
    let mut all = denied(candidates);
    all.extend(by_name.then(private));
    if !otherwise.is_empty() {
        all.push(("decided-by-address", otherwise));
    }
    Some(per_route(all))
}

fn private() -> (&'static str, Vec<Value>) {
    let private = PRIVATE.iter().filter_map(|net| net.parse().ok());
    (
        "private-answer",
        private.map(|net| within(net, None)).collect(),
    )
}

fn per_route(all: Vec<(&'static str, Vec<Value>)>) -> Value {
    json!({FILTER: typed("RBACPerRoute", json!({"rbac": rules(all)}))})
}

/// Where of what addresses alone say a Deny for `cidrs` comes first.
fn denied(candidates: &[Candidate<'_>]) -> Vec<(&'static str, Vec<Value>)> {
    let mut denied = Vec::new();
    let mut before: Vec<Value> = Vec::new();
    for candidate in candidates {
        match candidate.scope {
            Scope::Prefix(_) => {
                let covered = covered(candidate);
                if candidate.denies_prefix() {
                    let mut all = covered.clone();
                    all.extend(before.iter().map(not));
                    denied.push(json!({"and_rules": {"rules": all}}));
                } else {
                    before.push(json!({"and_rules": {"rules": covered}}));
                }
            }
            Scope::Everything => match ports::of(candidate.ports()) {
                None => break,
                Some(ports) if ports.is_empty() => {}
                Some(ports) => before.push(at(&ports)),
            },
            _ => {}
        }
    }
    if denied.is_empty() {
        return Vec::new();
    }
    vec![("denied-by-address", denied)]
}

/// What a candidate for a prefix covers, as conditions that all hold.
fn covered(candidate: &Candidate<'_>) -> Vec<Value> {
    let Scope::Prefix(prefix) = candidate.scope else {
        return Vec::new();
    };
    let mut all = vec![within(prefix, None)];
    let except = candidate.except().iter();
    let except = except.filter(|net| prefix.contains(*net));
    all.extend(except.map(|net| not(&within(*net, None))));
    if let Some(ports) = ports::of(candidate.ports()) {
        all.push(at(&ports));
    }
    all
}

fn at(ports: &[ports::Ports]) -> Value {
    let any: [IpNet; 2] = [
        IpNet::V4(ipnet::Ipv4Net::default()),
        IpNet::V6(ipnet::Ipv6Net::default()),
    ];
    let rules = ports
        .iter()
        .flat_map(|ports| any.map(|net| within(net, Some(*ports))));
    let rules: Vec<Value> = rules.collect();
    // Only UDP: no connection has such a port.
    if rules.is_empty() {
        return not(&json!({"any": true}));
    }
    json!({"or_rules": {"rules": rules}})
}

fn within(net: IpNet, ports: Option<ports::Ports>) -> Value {
    let mut matcher = json!({
        "@type": "type.googleapis.com/envoy.extensions.rbac.matchers.upstream_ip_port.v3.UpstreamIpPortMatcher",
        "upstream_ip": {"address_prefix": net.addr(), "prefix_len": net.prefix_len()},
    });
    if let Some((first, last)) = ports {
        // The end is not included.
        matcher["upstream_port_range"] = json!({"start": first, "end": u32::from(last) + 1});
    }
    json!({"matcher": {"name": "envoy.rbac.matchers.upstream_ip_port", "typed_config": matcher}})
}

fn not(rule: &Value) -> Value {
    json!({"not_rule": rule})
}

fn rules(all: Vec<(&'static str, Vec<Value>)>) -> Value {
    let policies: serde_json::Map<String, Value> = all
        .into_iter()
        .map(|(name, permissions)| {
            let policy = json!({"permissions": permissions, "principals": [{"any": true}]});
            (name.to_owned(), policy)
        })
        .collect();
    if policies.is_empty() {
        return json!({});
    }
    json!({"rules": {"action": "DENY", "policies": policies}})
}

fn typed(kind: &str, mut config: Value) -> Value {
    let kind = format!("type.googleapis.com/envoy.extensions.filters.http.rbac.v3.{kind}");
    let mut typed = json!({"@type": kind});
    if let (Some(typed), Some(config)) = (typed.as_object_mut(), config.as_object_mut()) {
        typed.append(config);
    }
    typed
}
