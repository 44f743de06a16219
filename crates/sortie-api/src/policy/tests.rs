use proptest::prelude::*;

use super::{
    Action, Carried, Clients, Destination, Egress, EgressPolicy, Enforcement, HostPattern, Http,
    HttpMatch, Inspect, Mode, OnChange, OnUnavailable, Originate, Owner, PathPattern, PathRegex,
    PolicyName, PortRange, Protocol, Selector, Tls, Unlearned, WhenEncrypted, parse,
};

/// Strings that YAML would read as something else, and any others.
fn text() -> impl Strategy<Value = String> {
    let odd = [
        "",
        " ",
        "1",
        "1e3",
        "0x1f",
        "yes",
        "no",
        "null",
        "~",
        "true",
        "- a",
        "a: b",
        "#",
        "*",
        "&a",
        "!t",
        "%",
        "@",
        "'",
        "\"",
        "|",
        ">",
        "\n",
        "a\nb\n",
        "\t",
        "2026-01-01",
        "12:30",
        "=",
        "<<",
        "ü",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "\\",
        "---",
        "...",
    ];
    prop_oneof![
        prop::sample::select(odd.to_vec()).prop_map(str::to_owned),
        ".{0,100}",
        "[a-z ]{60,120}"
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?",
        prop::sample::select(vec!["1", "1e3", "yes", "null", "0x1f", "a.b"])
            .prop_map(str::to_owned)
    ]
}

fn distinct<T: Ord>(list: Vec<T>) -> Vec<T> {
    list.into_iter()
        .collect::<std::collections::BTreeSet<T>>()
        .into_iter()
        .collect()
}

fn selector() -> impl Strategy<Value = Selector> {
    let labels = prop::collection::btree_map(
        text().prop_filter("a label has a name", |k| !k.is_empty()),
        text(),
        0..3,
    );
    let names = prop::collection::vec("[a-zA-Z0-9_.*?-]{1,8}", 0..3).prop_map(distinct);
    let networks = prop::collection::vec("[a-zA-Z0-9_.-]{1,8}", 0..3).prop_map(distinct);
    let containers = (labels, names, networks)
        .prop_map(|(labels, names, networks)| Selector {
            labels,
            names,
            networks,
            clients: None,
        })
        .prop_filter("says something", |s| *s != Selector::default());
    let tokens = prop::collection::vec("[a-zA-Z0-9_.-]{1,8}", 0..3).prop_map(distinct);
    let certificates = prop::collection::vec(
        "(CN|OU)=[a-zA-Z0-9=*-][a-zA-Z0-9 =*-]{0,8}[a-z](,O=x)?",
        0..3,
    );
    let clients = (tokens, certificates.prop_map(distinct))
        .prop_map(|(tokens, certificates)| Clients {
            tokens,
            certificates,
        })
        .prop_filter("says something", |c| *c != Clients::default())
        .prop_map(|clients| Selector {
            clients: Some(clients),
            ..Selector::default()
        });
    prop_oneof![3 => containers, 1 => clients]
}

fn host() -> impl Strategy<Value = HostPattern> {
    let label = "[a-z0-9_]([a-z0-9_-]{0,6}[a-z0-9_])?";
    let name =
        (prop::collection::vec(label, 0..3), "[a-z][a-z0-9]{0,5}").prop_map(|(labels, last)| {
            labels
                .into_iter()
                .chain([last])
                .collect::<Vec<_>>()
                .join(".")
        });
    prop_oneof![
        1 => Just(HostPattern::Any),
        2 => name.clone().prop_map(HostPattern::Below),
        4 => name.prop_map(HostPattern::Exact),
    ]
}

fn http_match() -> impl Strategy<Value = HttpMatch> {
    let written = "(/[a-z0-9_~:@!$&'()+,=%-]{1,5}){0,3}/?"
        .prop_map(|path| path.replace('%', "%C3").replace("//", "/"))
        .prop_map(|path| {
            if path.is_empty() {
                "/".to_owned()
            } else {
                path
            }
        });
    let regex = "/[a-z]{0,3}(\\\\.|\\[0-9a-f\\]|\\(x\\|y\\)|\\*|\\+|\\{2,3\\})?[ab]?"
        .prop_filter_map("RE2 reads it", |text| {
            PathRegex::read("pathRegex", &text).ok()
        });
    let path = prop_oneof![
        written.clone().prop_map(PathPattern::Exact),
        written.prop_map(PathPattern::Prefix),
        regex.prop_map(PathPattern::Regex),
    ];
    let methods = prop::collection::vec("[A-Z]{1,3}", 0..3).prop_map(distinct);
    let header = ("[a-z0-9-]{1,8}", "([!-~]([ -~]{0,8}[!-~])?)?");
    let headers = prop::collection::btree_map(header.0, header.1, 0..3);
    (prop::option::of(path), methods, headers)
        .prop_map(|(path, methods, mut headers)| {
            headers.remove("host");
            HttpMatch {
                path,
                methods,
                headers,
            }
        })
        .prop_filter("says something", |m| *m != HttpMatch::default())
}

fn http() -> impl Strategy<Value = Http> {
    let originate = (
        1..=u16::MAX,
        prop::option::of("/[a-z./ ]{0,9}"),
        prop::option::of("[a-z0-9_-]{1,9}"),
    )
        .prop_map(|(port, ca, client_certificate)| {
            Tls::Originate(Originate {
                port,
                ca,
                client_certificate,
            })
        });
    let inspect = (
        prop::option::of("/[a-z./ ]{0,9}"),
        prop::option::of("[a-z0-9_-]{1,9}"),
    )
        .prop_map(|(ca, client_certificate)| {
            Tls::Inspect(Inspect {
                ca,
                client_certificate,
            })
        });
    let tls = prop::option::of(prop_oneof![originate, inspect]);
    let encrypted = [WhenEncrypted::Refuse, WhenEncrypted::UseHostPolicy];
    (
        prop::collection::vec(http_match(), 0..3),
        tls,
        prop::sample::select(encrypted.to_vec()),
    )
        .prop_filter("says something", |(matches, tls, _)| {
            !matches.is_empty() || tls.is_some()
        })
        .prop_map(|(matches, tls, when_encrypted)| Http {
            matches,
            unless: Vec::new(),
            when_encrypted: match tls {
                Some(Tls::Inspect(_)) => WhenEncrypted::Refuse,
                _ => when_encrypted,
            },
            tls,
        })
}

fn port() -> impl Strategy<Value = PortRange> {
    (any::<bool>(), 1..=u16::MAX, 1..=u16::MAX).prop_map(|(tcp, a, b)| PortRange {
        protocol: if tcp { Protocol::Tcp } else { Protocol::Udp },
        first: a.min(b),
        last: a.max(b),
    })
}

fn destination() -> impl Strategy<Value = Destination> {
    let v4 = (any::<u32>(), 0_u8..=31)
        .prop_map(|(a, p)| ipnet::Ipv4Net::new(a.into(), p).unwrap().trunc().into());
    // In 2001:db8::/32, so none is an IPv4 network in IPv6 form.
    let v6 = (any::<u64>(), 32_u8..=127).prop_map(|(a, p)| {
        let address = (0x2001_0db8_u128 << 96) | u128::from(a) << 16;
        ipnet::Ipv6Net::new(address.into(), p)
            .unwrap()
            .trunc()
            .into()
    });
    let cidrs = prop::collection::vec(prop_oneof![v4, v6], 0..4)
        .prop_map(|list: Vec<ipnet::IpNet>| distinct(list));
    let name = prop::option::of(text().prop_filter("can be printed", |n| {
        !n.is_empty() && !n.chars().any(char::is_control)
    }));
    (
        name,
        cidrs,
        any::<bool>(),
        prop::collection::vec(port(), 0..3).prop_map(distinct),
        prop::collection::vec(host(), 0..3).prop_map(distinct),
        prop::option::of(http()),
    )
        .prop_map(|(name, mut cidrs, except, mut ports, hosts, http)| {
            if !hosts.is_empty() {
                cidrs.clear();
            }
            let http = http.filter(|_| !hosts.is_empty());
            if http.is_some() {
                ports.retain(|range: &PortRange| range.protocol == Protocol::Tcp);
            }
            // Half of the first, where it does not take all of another.
            let half = cidrs
                .first()
                .and_then(|c| c.subnets(c.prefix_len() + 1).ok()?.next());
            let half = half.filter(|h| except && !cidrs.iter().any(|c| h.contains(c)));
            Destination {
                name,
                cidrs,
                except: half.into_iter().collect(),
                hosts,
                ports,
                http,
            }
        })
        .prop_filter("says something", |d| {
            !d.cidrs.is_empty() || !d.ports.is_empty() || !d.hosts.is_empty()
        })
}

fn action() -> impl Strategy<Value = (Action, OnUnavailable)> {
    let egress = (1_u32..=254, any::<u16>(), 0..3).prop_map(|(v4, v6, which)| Egress {
        v4: (which != 0).then(|| (0xcb00_7100 + v4).into()),
        v6: (which != 1).then(|| ((0x2001_0db8_u128 << 96) + u128::from(v6) + 1).into()),
        mode: if v4 % 2 == 0 {
            Mode::Auto
        } else {
            Mode::Translate
        },
    });
    let unavailable = prop::sample::select(vec![OnUnavailable::Drop, OnUnavailable::NodeAddress]);
    prop_oneof![
        3 => (egress, unavailable).prop_map(|(e, u)| (Action::Egress(e), u)),
        1 => Just((Action::Bypass, OnUnavailable::Drop)),
        1 => Just((Action::Deny, OnUnavailable::Drop)),
    ]
}

fn on_change(action: &Action, seconds: u16) -> OnChange {
    match action {
        Action::Egress(_) if seconds > 0 => OnChange::Drain { seconds },
        _ => OnChange::Reset,
    }
}

fn policy() -> impl Strategy<Value = EgressPolicy> {
    (
        name(),
        0_u16..=1000,
        prop::collection::vec(selector(), 0..3),
        prop::collection::vec(destination(), 0..3),
        action(),
        prop_oneof![Just(0_u16), 1_u16..=3600],
        prop::sample::select(vec![Enforcement::Enforce, Enforcement::Audit]),
        any::<(bool, bool)>(),
    )
        .prop_map(
            |(
                name,
                priority,
                workloads,
                destinations,
                (action, on_unavailable),
                seconds,
                enforcement,
                (denies, only),
            )| {
                let names = destinations.iter().any(|d| !d.hosts.is_empty());
                EgressPolicy {
                    unlearned: if denies && names {
                        Unlearned::Deny
                    } else {
                        Unlearned::Sniff
                    },
                    only_these_hosts: only && names,
                    name: PolicyName(name),
                    owner: Owner::Policy,
                    priority,
                    workloads,
                    destinations,
                    on_change: on_change(&action, seconds),
                    action,
                    on_unavailable,
                    enforcement,
                }
            },
        )
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(policy in policy()) {
        let yaml = policy.to_yaml().unwrap();
        prop_assert_eq!(parse("f", &yaml).map_err(|e| format!("{e}\n{yaml}")), Ok(vec![policy.clone()]));
        // JSON is YAML, but for characters that YAML wants escaped and JSON does not.
        let json = serde_json::to_string(&policy).unwrap();
        prop_assume!(!json.contains(|c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}')));
        prop_assert_eq!(parse("f", &json).map_err(|e| format!("{e}\n{json}")), Ok(vec![policy]));
    }

    #[test]
    fn a_carried_policy_is_equal_whoever_wrote_it(
        policy in policy(),
        owner in prop::sample::select(vec![Owner::Workload, Owner::Policy, Owner::Network]),
    ) {
        let name = PolicyName(format!("label:{}", policy.name.0));
        let carried = Carried(EgressPolicy { name, owner, ..policy }.into());
        let json = serde_json::to_string(&carried).unwrap();
        prop_assert_eq!(serde_json::from_str::<Carried>(&json).unwrap(), carried);
    }

    #[test]
    fn parts_of_decisions_go_through_json((action, unavailable) in action(), port in port()) {
        let parts = (action, unavailable, port);
        let json = serde_json::to_string(&parts).unwrap();
        prop_assert_eq!(serde_json::from_str::<(Action, OnUnavailable, PortRange)>(&json).unwrap(), parts);
    }
}

#[test]
fn names_are_written_as_people_write_them() {
    let text = r#"
apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: partner}
spec:
  workloads:
  - clients: {tokens: [ci], certificates: [CN=runner]}
  destinations:
  - hosts: [API.external.com., "*.partner.example", "*"]
    ports: [{protocol: UDP, port: 53}]
  - hosts: [api.external.com]
    http:
      match:
      - {path: /health, headers: {X-Tenant: blue}}
      - {pathPrefix: /caf%c3%a9, methods: [GET, POST]}
      - {pathRegex: '/v[0-9]+/.*'}
      whenEncrypted: UseHostPolicy
      tls: {originate: true, ca: /etc/ssl/partner.pem, clientCertificate: partner}
  - hosts: [secret.example]
    http: {tls: {inspect: true, originate: false, ca: /etc/ssl/partner.pem, clientCertificate: partner}}
  unlearned: Deny
  onlyTheseHosts: true
  action: Egress
  egress: {addresses: [192.168.20.10]}
"#;
    let policy = &parse("f", text).unwrap()[0];
    insta::assert_snapshot!(policy.to_yaml().unwrap());
}

#[test]
fn is_written_as_people_write_it() {
    let text = "\
apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: bank}
spec:
  priority: 100
  workloads:
  - containers: {labels: {canary: \"yes\"}, names: [\"payments-*\"], networks: [shop_default]}
  destinations:
  - name: bank
    cidrs: [203.0.113.0/24]
    except: [203.0.113.64/26]
    ports: [{protocol: TCP, port: 443, endPort: 444}, {protocol: UDP, port: 53}]
  action: Egress
  egress: {addresses: [\"2001:db8::10\", 192.168.20.10]}
  onUnavailable: NodeAddress
  onChange: {connections: Drain}
";
    let policy = &parse("f", text).unwrap()[0];
    insta::assert_snapshot!(policy.to_yaml().unwrap(), @r#"
apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata:
  name: bank
spec:
  priority: 100
  workloads:
  - containers:
      labels:
        canary: "yes"
      names:
      - payments-*
      networks:
      - shop_default
  destinations:
  - name: bank
    cidrs:
    - 203.0.113.0/24
    except:
    - 203.0.113.64/26
    ports:
    - protocol: TCP
      port: 443
      endPort: 444
    - protocol: UDP
      port: 53
  action: Egress
  egress:
    addresses:
    - "192.168.20.10"
    - 2001:db8::10
  onUnavailable: NodeAddress
  onChange:
    connections: Drain
    drainSeconds: 30
"#);
    let bare = "apiVersion: sortie.dev/v1alpha1\nkind: EgressPolicy\nmetadata:\n  name: p\nspec:\n  action: Deny\n";
    assert_eq!(parse("f", bare).unwrap()[0].to_yaml().unwrap(), bare);
}

#[test]
fn json_that_no_policy_could_say_is_refused() {
    assert!(
        serde_json::from_str::<PortRange>(r#"{"protocol":"TCP","port":2,"endPort":1}"#).is_err()
    );
    assert!(
        serde_json::from_str::<Egress>(r#"{"addresses":["203.0.113.11","203.0.113.12"]}"#).is_err()
    );
}
