//! Policies and targets for tests about names: chosen ones, and any from a small world in which
//! they meet often.

use std::net::IpAddr;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use sortie_api::policy::{
    Action, Destination, Egress, EgressPolicy, Enforcement, Headers, HostPattern, Http, HttpMatch,
    Mode, OnChange, OnUnavailable, Owner, PathPattern, PathRegex, PolicyName, PortRange, Protocol,
    Request, Unlearned,
};

use crate::precedence::Target;

const NO_HEADERS: &[(&str, &str); 0] = &[];

/// A policy that gives 192.0.2.`last`.
pub(crate) fn policy(name: &str, destinations: Vec<Destination>, last: u8) -> EgressPolicy {
    EgressPolicy {
        name: PolicyName(name.to_owned()),
        owner: Owner::Policy,
        priority: 0,
        workloads: Vec::new(),
        destinations,
        action: Action::Egress(Egress {
            v4: Some([192, 0, 2, last].into()),
            v6: None,
            mode: Mode::Auto,
        }),
        on_unavailable: OnUnavailable::Drop,
        on_change: OnChange::Reset,
        enforcement: Enforcement::Enforce,
        unlearned: Unlearned::Sniff,
        only_these_hosts: false,
    }
}

pub(crate) fn ports(ports: &[u16]) -> Vec<PortRange> {
    let range = |port: &u16| PortRange {
        protocol: Protocol::Tcp,
        first: *port,
        last: *port,
    };
    ports.iter().map(range).collect()
}

pub(crate) fn to_cidr(cidr: &str, at: &[u16]) -> Destination {
    Destination {
        cidrs: vec![cidr.parse().unwrap()],
        ports: ports(at),
        ..Destination::default()
    }
}

pub(crate) fn to_host(host: &str, at: &[u16]) -> Destination {
    Destination {
        hosts: vec![HostPattern::try_from(host.to_owned()).unwrap()],
        ports: ports(at),
        ..Destination::default()
    }
}

pub(crate) fn to_http(host: &str, matches: Vec<HttpMatch>) -> Destination {
    Destination {
        http: Some(Http {
            matches,
            ..Http::default()
        }),
        ..to_host(host, &[])
    }
}

pub(crate) fn http(path: Option<PathPattern>, methods: &[&str]) -> HttpMatch {
    HttpMatch {
        path,
        methods: methods.iter().map(|method| (*method).to_owned()).collect(),
        ..HttpMatch::default()
    }
}

pub(crate) fn exact(path: &str) -> PathPattern {
    PathPattern::Exact(path.to_owned())
}

pub(crate) fn prefix(path: &str) -> PathPattern {
    PathPattern::Prefix(path.to_owned())
}

pub(crate) fn request<'a>(method: &'a str, path: &'a str) -> Request<'a> {
    let headers: &dyn Headers = NO_HEADERS;
    Request {
        method,
        path,
        headers,
    }
}

pub(crate) fn target(ip: &str, port: u16) -> Target<'static> {
    Target::address(ip.parse().unwrap(), Some((Protocol::Tcp, port)))
}

/// What a target is made of: address, port, name, method and path.
pub(crate) type Asked = (
    IpAddr,
    u16,
    Option<&'static str>,
    Option<(&'static str, &'static str)>,
);

pub(crate) fn targets() -> impl Strategy<Value = Asked> {
    let addresses = [
        "198.51.100.7",
        "198.51.100.130",
        "203.0.113.7",
        "2001:db8::7",
    ];
    let names = [
        None,
        Some("a.test"),
        Some("b.A.test."),
        Some("c.test"),
        Some("d.example"),
    ];
    let requests = [
        None,
        Some(("GET", "/")),
        Some(("GET", "/api")),
        Some(("POST", "/api/v1/x")),
        Some(("GET", "/apikeys")),
    ];
    (
        prop::sample::select(addresses.map(|ip| ip.parse().unwrap()).to_vec()),
        prop::sample::select(vec![80, 443, 5432]),
        prop::sample::select(names.to_vec()),
        prop::sample::select(requests.to_vec()),
    )
}

/// Asks with the target that is meant; a request has a name.
pub(crate) fn given(
    (ip, port, name, asked): &Asked,
    ask: impl FnOnce(Target<'_>) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let request = asked.map(|(method, path)| request(method, path));
    ask(Target {
        ip: *ip,
        port: Some((Protocol::Tcp, *port)),
        name: *name,
        request: request.as_ref().filter(|_| name.is_some()),
    })
}

fn any_match() -> impl Strategy<Value = HttpMatch> {
    let regex = |text: &str| PathPattern::Regex(PathRegex::try_from(text.to_owned()).unwrap());
    let paths = vec![
        None,
        Some(exact("/api")),
        Some(prefix("/")),
        Some(prefix("/api")),
        Some(prefix("/api/v1")),
        Some(regex("/api/.*")),
        Some(regex("/a[a-z]+")),
        Some(regex(".*")),
    ];
    let methods = prop::sample::select(vec![vec![], vec!["GET"], vec!["GET", "POST"]]);
    (prop::sample::select(paths), methods).prop_map(|(path, methods)| http(path, &methods))
}

fn any_destination() -> impl Strategy<Value = Destination> {
    let cidrs = [
        "198.51.100.0/24",
        "198.51.100.0/25",
        "198.51.100.7/32",
        "0.0.0.0/0",
        "2001:db8::/32",
    ];
    let at = || prop::sample::select(vec![vec![], vec![443], vec![80, 5432]]);
    let by_cidr =
        (prop::sample::select(cidrs.to_vec()), at(), any::<bool>()).prop_map(|(cidr, at, part)| {
            let mut destination = to_cidr(cidr, &at);
            if part && cidr == "198.51.100.0/24" {
                destination.except = vec!["198.51.100.0/26".parse().unwrap()];
            }
            destination
        });
    let hosts = ["*", "*.test", "*.a.test", "a.test", "b.a.test", "d.example"];
    let hosts = || prop::sample::select(hosts.to_vec());
    let by_host = (hosts(), at()).prop_map(|(host, at)| to_host(host, &at));
    let by_request = (hosts(), at(), prop::collection::vec(any_match(), 1..3)).prop_map(
        |(host, at, matches)| Destination {
            ports: ports(&at),
            ..to_http(host, matches)
        },
    );
    let by_port = Just(Destination {
        ports: ports(&[5432]),
        ..Destination::default()
    });
    prop_oneof![3 => by_cidr, 3 => by_host, 3 => by_request, 1 => by_port]
}

pub(crate) fn policies() -> impl Strategy<Value = Vec<EgressPolicy>> {
    let one = (
        prop::collection::vec(any_destination(), 0..3),
        0_u16..2,
        prop::sample::select(vec![
            Owner::Workload,
            Owner::Policy,
            Owner::VirtualService,
            Owner::Network,
        ]),
        0_u8..6,
        any::<bool>(),
    )
        .prop_map(|(destinations, priority, owner, last, denies)| {
            let names = destinations
                .iter()
                .any(|destination| !destination.hosts.is_empty());
            let mut policy = policy("", destinations, last);
            match last {
                0 | 1 => policy.action = Action::Deny,
                2 => policy.action = Action::Bypass,
                _ => {}
            }
            if denies && names {
                policy.unlearned = Unlearned::Deny;
            }
            EgressPolicy {
                priority,
                owner,
                ..policy
            }
        });
    prop::collection::vec(one, 0..6).prop_map(|mut policies| {
        for (number, policy) in policies.iter_mut().enumerate() {
            policy.name = PolicyName(format!("p{number}"));
        }
        policies
    })
}
