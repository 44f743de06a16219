//! Routes: for each class of names, its candidates in the order in which policies are asked.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sortie_api::policy::{HttpMatch, Protocol};
use sortie_plan::named::{Sealed, sealed_among};
use sortie_plan::precedence::{Candidate, Scope, Target};
use sortie_plan::resolve::among;

use super::access;
use super::paths::{self, Condition, ODD, field};
use crate::names::Class;
use crate::ports::{self, Ports};
use crate::way::Way;

/// Behind every name that has no port.
const HTTP: u16 = 80;
/// An authority that is an address, with or without a port.
const ADDRESS: &str = r"(?:[0-9]+(?:\.[0-9]+){3}|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?";
const BY_ADDRESS: &str = "decided by address: Envoy's other listener does";

/// The routes of one class of names; the last class has what goes to addresses too.
pub(super) fn virtual_host(
    candidates: &[Candidate<'_>],
    class: &Class,
    ways: &mut BTreeSet<Way>,
) -> Value {
    let mut routes = Vec::new();
    if class.is_rest() {
        routes.extend(of_addresses(candidates, ways));
    }
    let name = class.name();
    let of_name: Vec<&Candidate<'_>> = candidates
        .iter()
        .filter(|it| may_decide(it, class))
        .collect();
    let only = candidates.iter().find(|it| it.policy.only_these_hosts);
    let named = is_named(candidates, &name);
    if let Some(only) = only.filter(|_| !named && matches!(class, Class::Unnamed)) {
        let text = format!("policy {}: onlyTheseHosts", only.policy.name.0);
        let way = Way::Refused(text);
        routes.push(route(&json!({"connect_matcher": {}}), &way, None, ways));
        routes.push(route(&json!({"prefix": "/"}), &way, None, ways));
    } else {
        routes.extend(tunnels(candidates, &name, ways));
        routes.extend(odd_paths(&of_name, class));
        routes.extend(requests(candidates, &of_name, named, ways));
    }
    let mut host = json!({"name": class.title(), "domains": class.domains()});
    if named {
        host["typed_per_filter_config"] = access::of_names(candidates);
    }
    host["routes"] = routes.into();
    host
}

fn is_named(candidates: &[Candidate<'_>], name: &str) -> bool {
    candidates.iter().any(|it| it.names(name))
}

/// Whether it is asked about such names; what goes by address is not known yet.
fn may_decide(candidate: &Candidate<'_>, class: &Class) -> bool {
    match candidate.scope {
        Scope::Everything => true,
        Scope::Prefix(_) | Scope::Unlearned => false,
        Scope::Host(_) | Scope::Request { .. } => candidate.names(&class.name()),
    }
}

/// CONNECT, by the name and port, with what is sent hidden. Where no policy has a word, only 443 is
/// open.
fn tunnels(candidates: &[Candidate<'_>], name: &str, ways: &mut BTreeSet<Way>) -> Vec<Value> {
    let parts = ports::parts(candidates).into_iter().map(|part| {
        let (decides, way) = sealed(candidates, name, part);
        ((decides, tunnelled(decides, way, part)), part)
    });
    let routes = ports::grouped(parts).into_iter();
    let routes = routes.map(|((decides, way), parts)| {
        let mut matcher = json!({"connect_matcher": {}});
        if parts != [ports::ALL] {
            matcher["headers"] = json!([at(&parts, None)]);
        }
        let access = access::of_route(candidates, decides, is_named(candidates, name));
        route(&matcher, &way, access, ways)
    });
    routes.collect()
}

fn tunnelled(decides: Option<usize>, way: Way, part: Ports) -> Way {
    if decides.is_some() || part == ports::HTTPS {
        return way;
    }
    match way {
        Way::Out { .. } => {
            Way::Refused("no policy is about this port: CONNECT leads to 443".to_owned())
        }
        refused @ Way::Refused(_) => refused,
    }
}

/// What is decided of a connection in which TLS hides everything but the name: the candidate's
/// place, and the way.
pub(crate) fn sealed(
    candidates: &[Candidate<'_>],
    name: &str,
    (port, _): Ports,
) -> (Option<usize>, Way) {
    let place = |it: &Candidate<'_>| candidates.iter().position(|one| std::ptr::eq(one, it));
    let by_name = candidates
        .iter()
        .filter(|it| !matches!(it.scope, Scope::Prefix(_)));
    match sealed_among(by_name, target(name, port)) {
        Sealed::Decided(None) => (None, Way::as_host()),
        Sealed::Decided(Some(decides)) => (place(decides), Way::of_sealed(decides)),
        Sealed::Inspect(hidden) | Sealed::PathNotVisible(hidden) => {
            let text = format!("policy {}: PathNotVisible", hidden.policy.name.0);
            (place(hidden), Way::Refused(text))
        }
    }
}

/// What has no one spelling is refused where a policy looks at requests.
fn odd_paths(of_name: &[&Candidate<'_>], class: &Class) -> Vec<Value> {
    let seen = of_name
        .iter()
        .filter(|it| matches!(it.scope, Scope::Request { .. }) && it.names(&class.name()));
    let ports: Vec<Ports> = seen
        .filter_map(|it| ports::of(it.ports()))
        .flatten()
        .collect();
    if ports.is_empty() {
        return Vec::new();
    }
    let odd = field(":path", &json!({"safe_regex": {"regex": ODD}}));
    let matcher = json!({"prefix": "/", "headers": [at(&ports::joined(ports), Some(HTTP)), odd]});
    let text = "a path that can be read in several ways";
    vec![json!({"match": matcher, "direct_response": answer(400, text)})]
}

/// Plain HTTP, in the order in which policies are asked.
fn requests(
    candidates: &[Candidate<'_>],
    of_name: &[&Candidate<'_>],
    named: bool,
    ways: &mut BTreeSet<Way>,
) -> Vec<Value> {
    let mut routes = Vec::new();
    for candidate in of_name {
        let ports = ports::of(candidate.ports());
        if ports.as_ref().is_some_and(Vec::is_empty) {
            continue;
        }
        let authority = ports.as_deref().map(|ports| at(ports, Some(HTTP)));
        let (entry, unless): (Option<&HttpMatch>, &[HttpMatch]) = match candidate.scope {
            Scope::Request { http, entry, .. } => (entry, &http.unless),
            _ => (None, &[]),
        };
        let way = Way::of(candidate);
        for not in none_of(unless) {
            let matcher = paths::of(entry, &not, authority.as_ref());
            let place = candidates
                .iter()
                .position(|it| std::ptr::eq(it, *candidate));
            let access = access::of_route(candidates, place, named);
            routes.push(route(&matcher, &way, access, ways));
        }
        let all = entry.is_none_or(|it| *it == HttpMatch::default());
        if all && unless.is_empty() && ports.is_none() {
            return routes;
        }
    }
    let access = access::of_route(candidates, None, named);
    routes.push(route(
        &json!({"prefix": "/"}),
        &Way::as_host(),
        access,
        ways,
    ));
    routes
}

/// That none of these entries means a request: of each, one condition does not hold. Every choice of
/// such conditions is a route of its own.
fn none_of(unless: &[HttpMatch]) -> Vec<Vec<Condition<'_>>> {
    let mut choices = vec![Vec::new()];
    for entry in unless {
        let conditions = Condition::of(entry);
        choices = choices
            .into_iter()
            .flat_map(|choice: Vec<Condition<'_>>| {
                let more = conditions.iter().map(move |condition| {
                    let mut choice = choice.clone();
                    choice.push(*condition);
                    choice
                });
                more.collect::<Vec<_>>()
            })
            .collect();
    }
    choices
}

/// Requests to addresses: by what is said of all of them. Where some are told apart, none is let
/// through: routes do not look at ranges of addresses.
fn of_addresses(candidates: &[Candidate<'_>], ways: &mut BTreeSet<Way>) -> Vec<Value> {
    let by_range = candidates
        .iter()
        .any(|it| matches!(it.scope, Scope::Prefix(_)) && !it.denies_prefix());
    let by_address = || {
        let all = candidates.iter();
        all.filter(|it| matches!(it.scope, Scope::Everything | Scope::Unlearned))
    };
    let address = field(":authority", &json!({"safe_regex": {"regex": ADDRESS}}));
    let mut routes = Vec::new();
    for tunnel in [true, false] {
        let parts = ports::parts(candidates).into_iter().map(|part| {
            let nameless = Target {
                name: None,
                ..target("", part.0)
            };
            let way = match among(by_address(), nameless) {
                _ if by_range => Way::Refused(BY_ADDRESS.to_owned()),
                None if tunnel => tunnelled(None, Way::as_host(), part),
                None => Way::as_host(),
                Some(it) => Way::of(it),
            };
            (way, part)
        });
        for (way, parts) in ports::grouped(parts) {
            let mut fields = vec![address.clone()];
            if parts != [ports::ALL] {
                fields.push(at(&parts, (!tunnel).then_some(HTTP)));
            }
            let matcher = if tunnel {
                json!({"connect_matcher": {}, "headers": fields})
            } else {
                json!({"prefix": "/", "headers": fields})
            };
            routes.push(route(&matcher, &way, None, ways));
        }
    }
    routes
}

fn target(name: &str, port: u16) -> Target<'_> {
    Target {
        ip: std::net::IpAddr::from([0, 0, 0, 0]),
        port: Some((Protocol::Tcp, port)),
        name: Some(name),
        request: None,
    }
}

/// A condition on the port behind the name.
fn at(ports: &[Ports], default: Option<u16>) -> Value {
    let regex = ports::authority(ports, default);
    field(":authority", &json!({"safe_regex": {"regex": regex}}))
}

fn answer(status: u16, text: &str) -> Value {
    json!({"status": status, "body": {"inline_string": format!("{text}\n")}})
}

fn route(matcher: &Value, way: &Way, access: Option<Value>, ways: &mut BTreeSet<Way>) -> Value {
    let connect = matcher.get("connect_matcher").is_some();
    let Way::Out { .. } = way else {
        let Way::Refused(text) = way else {
            return Value::Null;
        };
        return json!({"match": matcher, "direct_response": answer(403, text)});
    };
    ways.insert(way.clone());
    // Responses may take as long as they like.
    let mut action = json!({"cluster": way.cluster(), "timeout": "0s"});
    if connect {
        action["upgrade_configs"] = json!([{"upgrade_type": "CONNECT", "connect_config": {}}]);
    }
    let mut route = json!({"match": matcher, "route": action});
    if let Some(access) = access {
        route["typed_per_filter_config"] = access;
    }
    route
}
