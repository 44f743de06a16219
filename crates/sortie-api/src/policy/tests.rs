use proptest::prelude::*;

use super::{
    Action, Destination, Egress, EgressPolicy, Enforcement, Mode, OnChange, OnUnavailable, Owner,
    PolicyName, PortRange, Protocol, Selector, parse,
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
    (labels, names, networks)
        .prop_map(|(labels, names, networks)| Selector {
            labels,
            names,
            networks,
        })
        .prop_filter("says something", |s| *s != Selector::default())
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
    )
        .prop_map(|(name, cidrs, except, ports)| {
            // Half of the first, where it does not take all of another.
            let half = cidrs
                .first()
                .and_then(|c| c.subnets(c.prefix_len() + 1).ok()?.next());
            let half = half.filter(|h| except && !cidrs.iter().any(|c| h.contains(c)));
            Destination {
                name,
                cidrs,
                except: half.into_iter().collect(),
                ports,
            }
        })
        .prop_filter("says something", |d| {
            !d.cidrs.is_empty() || !d.ports.is_empty()
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
            )| {
                EgressPolicy {
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
    fn parts_of_decisions_go_through_json((action, unavailable) in action(), port in port()) {
        let parts = (action, unavailable, port);
        let json = serde_json::to_string(&parts).unwrap();
        prop_assert_eq!(serde_json::from_str::<(Action, OnUnavailable, PortRange)>(&json).unwrap(), parts);
    }
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
