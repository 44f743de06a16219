//! Any policies and requests, from a small world in which they meet often.

use std::net::{IpAddr, Ipv4Addr};

use fastrand::Rng;
use sortie_api::policy::{
    Action, Destination, Egress, EgressPolicy, Enforcement, HostPattern, Http, HttpMatch, Mode,
    OnChange, OnUnavailable, Originate, Owner, PathPattern, PathRegex, PolicyName, PortRange,
    Protocol, Tls, Unlearned, WhenEncrypted,
};

/// The names there are, with the address of each.
pub(crate) const NAMES: [(&str, Ipv4Addr); 7] = [
    ("a.test", Ipv4Addr::new(198, 51, 100, 10)),
    ("api.a.test", Ipv4Addr::new(198, 51, 100, 20)),
    ("deep.api.a.test", Ipv4Addr::new(198, 51, 100, 130)),
    ("b.test", Ipv4Addr::new(198, 51, 100, 140)),
    ("www.b.test", Ipv4Addr::new(192, 0, 2, 10)),
    ("other.example", Ipv4Addr::new(192, 0, 2, 200)),
    ("xa.test", Ipv4Addr::new(192, 0, 2, 70)),
];
/// The host's egress addresses.
pub(crate) const SOURCES: [Ipv4Addr; 8] = [
    Ipv4Addr::new(203, 0, 113, 11),
    Ipv4Addr::new(203, 0, 113, 12),
    Ipv4Addr::new(203, 0, 113, 13),
    Ipv4Addr::new(203, 0, 113, 14),
    Ipv4Addr::new(203, 0, 113, 15),
    Ipv4Addr::new(203, 0, 113, 16),
    Ipv4Addr::new(203, 0, 113, 17),
    Ipv4Addr::new(203, 0, 113, 18),
];
/// Where HTTP is answered.
pub(crate) const HTTP_PORTS: [u16; 3] = [80, 8080, 8081];
/// Where everything else is.
pub(crate) const TLS_PORTS: [u16; 3] = [443, 8443, 5432];

const PATTERNS: [&str; 10] = [
    "a.test",
    "api.a.test",
    "b.test",
    "www.b.test",
    "other.example",
    "*.a.test",
    "*.api.a.test",
    "*.test",
    "*.b.test",
    "*",
];
const CIDRS: [&str; 5] = [
    "198.51.100.0/24",
    "198.51.100.128/25",
    "192.0.2.0/24",
    "192.0.2.200/32",
    "0.0.0.0/0",
];
const PREFIXES: [&str; 5] = ["/api", "/api/", "/", "/%C3%A4", "/api/v1"];
const EXACT: [&str; 4] = ["/api", "/", "/other", "/caf%C3%A9"];
const REGEXES: [&str; 4] = ["/api/v[0-9]+/.*", "/(?:api|other)", "/[a-z]+", "/api.*"];
/// As clients write them.
const PATHS: [&str; 29] = [
    "/",
    "/api",
    "/api/",
    "/api/x",
    "/api/v1",
    "/api/v1/x",
    "/api/v22/x",
    "/apikeys",
    "/API",
    "/other",
    "/other/x",
    "/api/../other",
    "//api/x",
    "/%61pi/x",
    "/api;x",
    "/api%2Fx",
    "/other%2f..%2fapi",
    "/api%5cx",
    "/api%00x",
    "/api/./x",
    "/other/%2e%2e/api/x",
    "/api/x?page=/../y;z",
    "/other?x=%2F",
    "/%c3%a4/x",
    "/%C3%A4",
    "/caf%c3%A9",
    "/%zz",
    "/api/x%",
    "/api//v1",
];
const METHODS: [&str; 4] = ["GET", "POST", "DELETE", "PURGE"];
const TENANTS: [&str; 2] = ["blue", "red"];

/// Policies that one workload has together.
pub(crate) struct Set {
    pub(crate) policies: Vec<EgressPolicy>,
    rng: Rng,
}

/// How Envoy is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// As a proxy.
    Proxy,
    /// By a connection that was redirected to it.
    Redirect,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) by: By,
    /// None for an address.
    pub(crate) name: Option<&'static str>,
    pub(crate) address: Ipv4Addr,
    pub(crate) port: u16,
    pub(crate) sent: Sent,
}

/// What is sent.
#[derive(Debug, Clone)]
pub(crate) enum Sent {
    /// Plain HTTP.
    Http {
        method: &'static str,
        path: &'static str,
        tenants: Vec<&'static str>,
    },
    /// A TLS client's hello.
    Tls,
    /// Neither.
    Text,
}

impl Set {
    pub(crate) fn any(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let count = rng.usize(2..=7);
        let policies = (0..count).map(|number| policy(&mut rng, number)).collect();
        Self { policies, rng }
    }

    pub(crate) fn asked(&self, count: usize) -> Vec<Asked> {
        let mut rng = self.rng.clone();
        (0..count).map(|_| asked(&mut rng)).collect()
    }
}

fn policy(rng: &mut Rng, number: usize) -> EgressPolicy {
    let action = match rng.u8(0..10) {
        0 => Action::Bypass,
        1 | 2 => Action::Deny,
        _ => Action::Egress(Egress {
            v4: rng.choice(SOURCES),
            v6: None,
            mode: Mode::Auto,
        }),
    };
    let destinations = match rng.u8(0..12) {
        0 => Vec::new(),
        _ => (0..rng.usize(1..=2)).map(|_| destination(rng)).collect(),
    };
    let by_name = destinations
        .iter()
        .any(|it: &Destination| !it.hosts.is_empty());
    EgressPolicy {
        name: PolicyName(format!("p{number}")),
        owner: Owner::Policy,
        priority: [0, 0, 0, 10, 20][rng.usize(0..5)],
        workloads: Vec::new(),
        destinations,
        action,
        on_unavailable: OnUnavailable::Drop,
        on_change: OnChange::Reset,
        enforcement: Enforcement::Enforce,
        unlearned: if by_name && rng.u8(0..8) == 0 {
            Unlearned::Deny
        } else {
            Unlearned::Sniff
        },
        only_these_hosts: by_name && rng.u8(0..12) == 0,
    }
}

fn destination(rng: &mut Rng) -> Destination {
    let ports = match rng.u8(0..4) {
        0 => vec![ports(80, 80), ports(443, 443)],
        1 => vec![ports(8000, 8500)],
        _ => Vec::new(),
    };
    if rng.u8(0..7) == 0 {
        let cidr = CIDRS[rng.usize(0..CIDRS.len())];
        return Destination {
            cidrs: vec![cidr.parse().expect("a CIDR")],
            ports,
            ..Destination::default()
        };
    }
    let host = PATTERNS[rng.usize(0..PATTERNS.len())];
    let http = rng.bool().then(|| Http {
        matches: (0..rng.usize(0..=2)).map(|_| http(rng)).collect(),
        unless: (0..rng.usize(0..=4) / 3).map(|_| http(rng)).collect(),
        when_encrypted: if rng.bool() {
            WhenEncrypted::Refuse
        } else {
            WhenEncrypted::UseHostPolicy
        },
        tls: None,
    });
    Destination {
        hosts: vec![HostPattern::try_from(host.to_owned()).expect("a pattern")],
        ports,
        http,
        ..Destination::default()
    }
}

fn ports(first: u16, last: u16) -> PortRange {
    PortRange {
        protocol: Protocol::Tcp,
        first,
        last,
    }
}

fn http(rng: &mut Rng) -> HttpMatch {
    let path = match rng.u8(0..7) {
        0..=3 => Some(PathPattern::Prefix(pick(rng, &PREFIXES).to_owned())),
        4 => Some(PathPattern::Exact(pick(rng, &EXACT).to_owned())),
        5 => {
            let regex = pick(rng, &REGEXES).to_owned();
            Some(PathPattern::Regex(
                PathRegex::try_from(regex).expect("an expression"),
            ))
        }
        _ => None,
    };
    let methods = match rng.u8(0..4) {
        0 => vec![pick(rng, &METHODS).to_owned()],
        1 => vec!["GET".to_owned(), "PURGE".to_owned()],
        _ => Vec::new(),
    };
    let tenant = (rng.u8(0..3) == 0).then(|| pick(rng, &TENANTS).to_owned());
    HttpMatch {
        path,
        methods,
        headers: tenant
            .map(|it| ("x-tenant".to_owned(), it))
            .into_iter()
            .collect(),
    }
}

fn asked(rng: &mut Rng) -> Asked {
    let (name, address) = NAMES[rng.usize(0..NAMES.len())];
    let by = if rng.bool() { By::Proxy } else { By::Redirect };
    let by_name = rng.u8(0..10) != 0;
    let (port, sent) = match rng.u8(0..10) {
        0..=5 => {
            let sent = Sent::Http {
                method: pick(rng, &METHODS),
                path: pick(rng, &PATHS),
                tenants: match rng.u8(0..6) {
                    0..=2 => Vec::new(),
                    3 => vec!["red"],
                    4 => vec!["blue"],
                    _ => vec!["blue", "red"],
                },
            };
            (HTTP_PORTS[rng.usize(0..3)], sent)
        }
        6..=8 => (TLS_PORTS[rng.usize(0..3)], Sent::Tls),
        _ => (TLS_PORTS[rng.usize(0..3)], Sent::Text),
    };
    // What is neither HTTP nor TLS tells a redirected connection's name to nobody.
    let hidden = matches!((&sent, by), (Sent::Text, By::Redirect));
    Asked {
        by,
        name: (by_name && !hidden).then_some(name),
        address,
        port,
        sent,
    }
}

fn pick<'t>(rng: &mut Rng, all: &[&'t str]) -> &'t str {
    all[rng.usize(0..all.len())]
}

/// Requests to a host leave over TLS, which the proxy begins.
pub(crate) fn originating(host: &str, port: u16, ca: &str) -> EgressPolicy {
    EgressPolicy {
        name: PolicyName(format!("tls-to-{port}")),
        owner: Owner::Policy,
        priority: 0,
        workloads: Vec::new(),
        destinations: vec![Destination {
            hosts: vec![HostPattern::try_from(host.to_owned()).expect("a pattern")],
            http: Some(Http {
                tls: Some(Tls::Originate(Originate {
                    port,
                    ca: Some(ca.to_owned()),
                    client_certificate: None,
                })),
                ..Http::default()
            }),
            ..Destination::default()
        }],
        action: Action::Egress(Egress {
            v4: Some(SOURCES[0]),
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

impl Asked {
    /// A request for `/` through the proxy.
    pub(crate) fn get(name: &'static str, address: Ipv4Addr) -> Self {
        let sent = Sent::Http {
            method: "GET",
            path: "/",
            tenants: Vec::new(),
        };
        Self {
            by: By::Proxy,
            name: Some(name),
            address,
            port: 80,
            sent,
        }
    }

    /// As it stands in a URL.
    pub(crate) fn host(&self) -> String {
        self.name
            .map_or_else(|| self.address.to_string(), str::to_owned)
    }

    pub(crate) fn ip(&self) -> IpAddr {
        self.address.into()
    }
}
