//! Each message, as nft reads it back, beside what nft's own message for the same gives.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use nfnetlink::chain::{Chain, ChainType, HookPoint, Policy};
use nfnetlink::datatype::DataType;
use nfnetlink::expr::selectors::*;
use nfnetlink::expr::{
    CmpOp, Exprs, FibFlags, FibResult, Immediate, Limit, Log, Notrack, Numgen, Reg, Reject,
    Selector, Tproxy, addr_type, state,
};
use nfnetlink::table::Flags;
use nfnetlink::{Batch, Data, Element, Family, NamedCounter, Rule, Set, Socket, Table, Verdict};
use serde_json::Value;

use super::namespace::{in_namespace, nft_objects, run};

const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 11);
const SIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// Takes away what differs between two namespaces: the kernel's own numbers.
fn without_handles(mut object: Value) -> Value {
    if let Value::Object(kind) = &mut object {
        for fields in kind.values_mut() {
            if let Value::Object(fields) = fields {
                fields.remove("handle");
                fields.remove("expires");
            }
        }
    }
    object
}

fn listed() -> Vec<Value> {
    nft_objects().into_iter().map(without_handles).collect()
}

/// Asserts that nft lists our batch as it lists its own ruleset of this text.
fn assert_same(fill: impl FnOnce(&mut Batch) + Send + 'static, text: &str) {
    let ours = in_namespace(move || {
        let mut batch = Batch::new();
        fill(&mut batch);
        Socket::open().unwrap().commit(&batch).unwrap();
        listed()
    });
    // nft ends statements and blocks at line ends.
    let text = text
        .replace("}; ", "}\n")
        .replace("} ", "}\n")
        .replace(" }", "\n}");
    let theirs = in_namespace(move || {
        run("nft", &[&text]);
        listed()
    });
    assert!(!theirs.is_empty());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.len(), theirs.len());
}

/// Asserts that one rule, in a chain of this family, is what nft makes of `text`.
fn assert_same_rule(family: Family, exprs: Exprs, text: &str) {
    assert_same_rule_in(
        family,
        ChainType::Filter,
        HookPoint::PREROUTING,
        exprs,
        text,
    );
}

fn assert_same_rule_in(
    family: Family,
    chain_type: ChainType,
    point: HookPoint,
    exprs: Exprs,
    text: &str,
) {
    let kind = match chain_type {
        ChainType::Filter => "filter",
        ChainType::Nat => "nat",
        ChainType::Route => "route",
    };
    let nft = format!(
        "table {family} t {{ \
           counter c {{}} \
           set s4 {{ type ipv4_addr; }} \
           set cat {{ type ipv4_addr . ipv4_addr . iface_index; }} \
           map m4 {{ type ipv4_addr : ipv4_addr; }} \
           map v4 {{ type ipv4_addr : verdict; }} \
           map marks {{ type ipv4_addr : mark; }} \
           map targets {{ type ipv4_addr : ipv4_addr . inet_service; }} \
           chain other {{ }} \
           chain base {{ type {kind} hook {point} priority 7; policy accept; {text} }} }}"
    );
    let name = point;
    assert_same(
        move |batch| {
            let t = "t";
            batch.add_table(&Table::new(family, t));
            batch.add_counter(&NamedCounter::new(family, t, "c"));
            batch.add_set(&Set::new(family, t, "s4", DataType::IPV4_ADDR));
            let cat = [DataType::IPV4_ADDR, DataType::IPV4_ADDR, DataType::IFINDEX];
            batch.add_set(&Set::new(family, t, "cat", cat));
            let ip = DataType::IPV4_ADDR;
            batch.add_set(&Set::map(family, t, "m4", ip, ip));
            batch.add_set(&Set::verdict_map(family, t, "v4", ip));
            batch.add_set(&Set::map(family, t, "marks", ip, DataType::MARK));
            let target = [ip, DataType::INET_SERVICE];
            batch.add_set(&Set::map(family, t, "targets", ip, target));
            batch.add_chain(&Chain::regular(family, t, "other"));
            batch.add_chain(&Chain::base(family, t, "base", chain_type, name, 7));
            batch.add_rule(&Rule::new(family, t, "base", exprs));
        },
        &nft,
    );
}

#[test]
fn tables() {
    assert_same(
        |batch| {
            batch.add_table(&Table::new(Family::Inet, "a").comment("hello"));
            batch.add_table(&Table::new(Family::Bridge, "b").flags(Flags::DORMANT));
            batch.create_table(&Table::new(Family::Arp, "c"));
            batch.create_table(&Table::new(Family::Ip6, "gone"));
            batch.delete_table(Family::Ip6, "gone");
            batch.destroy_table(Family::Ip, "never was");
            batch.add_table(&Table::new(Family::Ip, "was"));
            batch.destroy_table(Family::Ip, "was");
        },
        "table inet a { comment \"hello\"; }; table bridge b { flags dormant; }; table arp c",
    );
}

#[test]
fn chains() {
    assert_same(
        |batch| {
            let t = "t";
            batch.add_table(&Table::new(Family::Inet, t));
            let nat = ChainType::Nat;
            let post = HookPoint::POSTROUTING;
            batch.add_chain(&Chain::base(Family::Inet, t, "n", nat, post, 99));
            batch.add_chain(
                &Chain::base(
                    Family::Inet,
                    t,
                    "f",
                    ChainType::Filter,
                    HookPoint::FORWARD,
                    -300,
                )
                .policy(Policy::Drop)
                .comment("drops"),
            );
            let route = ChainType::Route;
            batch.add_chain(&Chain::base(
                Family::Inet,
                t,
                "r",
                route,
                HookPoint::OUTPUT,
                0,
            ));
            batch.add_chain(&Chain::regular(Family::Inet, t, "x"));
            batch.add_chain(&Chain::regular(Family::Inet, t, "gone"));
            batch.delete_chain(Family::Inet, t, "gone");
            batch.destroy_chain(Family::Inet, t, "never");
            batch.add_table(&Table::new(Family::Netdev, t));
            let egress = HookPoint::NETDEV_EGRESS;
            let filter = ChainType::Filter;
            batch
                .add_chain(&Chain::base(Family::Netdev, t, "e", filter, egress, 0).devices(["lo"]));
        },
        "table inet t { \
           chain n { type nat hook postrouting priority srcnat - 1; } \
           chain f { comment \"drops\"; type filter hook forward priority -300; policy drop; } \
           chain r { type route hook output priority 0; } \
           chain x { } }; \
         table netdev t { chain e { type filter hook egress device lo priority 0; } }",
    );
}

#[test]
fn sets() {
    assert_same(
        |batch| {
            let (f, t, ip) = (Family::Inet, "t", DataType::IPV4_ADDR);
            batch.add_table(&Table::new(f, t));
            batch.add_set(&Set::new(f, t, "plain", ip).comment("managed"));
            batch.add_set(&Set::new(f, t, "six", DataType::IPV6_ADDR).size(10));
            let bound = [DataType::IFINDEX, DataType::ETHER_ADDR, ip];
            batch.add_set(&Set::new(f, t, "bound", bound));
            batch.add_set(&Set::new(f, t, "intervals", ip).interval());
            let service = [ip, DataType::INET_PROTO, DataType::INET_SERVICE];
            batch.add_set(&Set::new(f, t, "pipapo", service).interval());
            batch.add_set(&Set::new(f, t, "counted", ip).counter());
            batch.add_set(&Set::new(f, t, "timed", ip).timeout(Duration::from_mins(1)));
            let name = [DataType::IFNAME, DataType::MARK];
            batch.add_set(&Set::map(f, t, "pairs", name, ip));
            batch.add_set(&Set::verdict_map(f, t, "verdicts", ip).interval());
            batch.add_set(&Set::counter_map(f, t, "counts", ip));
            batch.add_set(&Set::map(f, t, "two", ip, [ip, DataType::INET_SERVICE]));
            batch.add_set(&Set::new(f, t, "gone", ip));
            batch.delete_set(f, t, "gone");
        },
        "table inet t { \
           set plain { type ipv4_addr; comment \"managed\"; } \
           set six { type ipv6_addr; size 10; } \
           set bound { type iface_index . ether_addr . ipv4_addr; } \
           set intervals { type ipv4_addr; flags interval; } \
           set pipapo { type ipv4_addr . inet_proto . inet_service; flags interval; } \
           set counted { type ipv4_addr; counter; } \
           set timed { type ipv4_addr; timeout 60s; } \
           map pairs { type ifname . mark : ipv4_addr; } \
           map verdicts { type ipv4_addr : verdict; flags interval; } \
           map counts { type ipv4_addr : counter; } \
           map two { type ipv4_addr : ipv4_addr . inet_service; } }",
    );
}

#[test]
fn elements() {
    assert_same(
        |batch| {
            let (f, t, ip) = (Family::Inet, "t", DataType::IPV4_ADDR);
            batch.add_table(&Table::new(f, t));
            batch.add_chain(&Chain::regular(f, t, "x"));
            batch.add_counter(&NamedCounter::new(f, t, "c"));
            batch.add_set(&Set::new(f, t, "plain", ip).counter());
            batch.add_elements(f, t, "plain", [Element::new(A).comment("first")]);
            let bound = [DataType::IFINDEX, DataType::ETHER_ADDR, ip];
            batch.add_set(&Set::new(f, t, "bound", bound));
            let key = Data::new().ifindex(1).mac([2, 0, 0, 0, 0, 9]).ipv4(A);
            batch.add_elements(f, t, "bound", [Element::new(key)]);
            batch.add_set(&Set::verdict_map(f, t, "verdicts", ip).interval());
            let net = Element::map(Ipv4Addr::new(10, 0, 0, 0), Verdict::Goto("x".into()))
                .interval(Ipv4Addr::new(10, 255, 255, 255));
            batch.add_elements(f, t, "verdicts", net);
            let service = [ip, DataType::INET_PROTO, DataType::INET_SERVICE];
            batch.add_set(&Set::new(f, t, "pipapo", service).interval());
            let first = Data::new()
                .ipv4(Ipv4Addr::new(10, 0, 0, 0))
                .proto(6)
                .port(80);
            let last = Data::new()
                .ipv4(Ipv4Addr::new(10, 0, 0, 255))
                .proto(6)
                .port(90);
            batch.add_elements(f, t, "pipapo", [Element::new(first).key_end(last)]);
            batch.add_set(&Set::map(f, t, "pairs", ip, [ip, DataType::INET_SERVICE]));
            let target = Data::new().ipv4(B).port(8080);
            batch.add_elements(f, t, "pairs", [Element::map(A, target)]);
            batch.add_set(&Set::counter_map(f, t, "counts", ip));
            batch.add_elements(f, t, "counts", [Element::object(A, "c")]);
            batch.add_set(&Set::new(f, t, "timed", ip).timeout(Duration::from_mins(1)));
            let hour = Element::new(A).timeout(Duration::from_hours(1));
            batch.add_elements(f, t, "timed", [hour]);
            batch.add_set(&Set::map(f, t, "rest", ip, ip));
            let mut rest = Element::catchall();
            rest.data = Some(B.into());
            batch.add_elements(f, t, "rest", [rest, Element::map(A, A), Element::map(B, A)]);
            batch.delete_elements(f, t, "rest", [Element::new(B)]);
        },
        "table inet t { \
           chain x { } \
           counter c { } \
           set plain { type ipv4_addr; counter; elements = { 10.0.0.1 comment \"first\" } } \
           set bound { type iface_index . ether_addr . ipv4_addr; \
             elements = { lo . 02:00:00:00:00:09 . 10.0.0.1 } } \
           map verdicts { type ipv4_addr : verdict; flags interval; \
             elements = { 10.0.0.0/8 : goto x } } \
           set pipapo { type ipv4_addr . inet_proto . inet_service; flags interval; \
             elements = { 10.0.0.0/24 . tcp . 80-90 } } \
           map pairs { type ipv4_addr : ipv4_addr . inet_service; \
             elements = { 10.0.0.1 : 203.0.113.11 . 8080 } } \
           map counts { type ipv4_addr : counter; elements = { 10.0.0.1 : \"c\" } } \
           set timed { type ipv4_addr; timeout 60s; elements = { 10.0.0.1 timeout 1h } } \
           map rest { type ipv4_addr : ipv4_addr; \
             elements = { 10.0.0.1 : 10.0.0.1, * : 203.0.113.11 } } }",
    );
}

#[test]
fn rules_of_matches() {
    let inet = || Exprs::new(Family::Inet);
    let cases: Vec<(Exprs, &str)> = vec![
        (inet().eq(IP_SADDR, A).drop(), "ip saddr 10.0.0.1 drop"),
        (
            inet().ne(IP6_DADDR, SIX).counter(),
            "ip6 daddr != 2001:db8::1 counter",
        ),
        (
            inet().prefix(IP_SADDR, A, 9).accept(),
            "ip saddr 10.0.0.0/9 accept",
        ),
        (
            inet().not_prefix(IP6_SADDR, SIX, 64).accept(),
            "ip6 saddr != 2001:db8::/64 accept",
        ),
        (inet().eq(TCP_DPORT, 80_u16).accept(), "tcp dport 80 accept"),
        (
            inet().range(UDP_SPORT, 5_u16, 9_u16).accept(),
            "udp sport 5-9 accept",
        ),
        (inet().eq(TH_DPORT, 53_u16).accept(), "th dport 53 accept"),
        (
            inet().cmp(META_LEN, CmpOp::EQ, 100_u32).accept(),
            "meta length 100 accept",
        ),
        (
            inet().eq(ICMPV6_TYPE, 135_u8).drop(),
            "icmpv6 type nd-neighbor-solicit drop",
        ),
        (inet().eq(META_IIF, 1_u32).r#return(), "meta iif lo return"),
        (
            inet().eq(META_IIFNAME, "lo").jump("other"),
            "iifname lo jump other",
        ),
        (
            inet().name_prefix(META_IIFNAME, "veth").goto("other"),
            "iifname \"veth*\" goto other",
        ),
        (
            inet().eq(META_IIFKIND, "bridge").accept(),
            "meta iifkind \"bridge\" accept",
        ),
        (inet().eq(META_MARK, 7_u32).accept(), "meta mark 7 accept"),
        (
            inet()
                .masked(META_MARK, 0xff00_u32, CmpOp::EQ, 0x100_u32)
                .accept(),
            "meta mark & 0xff00 == 0x100 accept",
        ),
        (
            inet()
                .masked(CT_MARK, 0xff00_u32, CmpOp::NEQ, 0_u32)
                .accept(),
            "ct mark & 0xff00 != 0 accept",
        ),
        (
            inet().ct_state(state::INVALID | state::UNTRACKED).drop(),
            "ct state invalid,untracked drop",
        ),
        (
            inet().eq(CT_DIRECTION, 1_u8).accept(),
            "ct direction reply accept",
        ),
        (
            inet().eq(CT_ORIGINAL_IP_SADDR, A).drop(),
            "ct original ip saddr 10.0.0.1 drop",
        ),
        (
            inet().eq(CT_REPLY_IP6_DADDR, SIX).drop(),
            "ct reply ip6 daddr 2001:db8::1 drop",
        ),
        (
            inet()
                .eq(META_L4PROTO, 6_u8)
                .eq(CT_REPLY_PROTO_DST, 80_u16)
                .drop(),
            "meta l4proto tcp ct reply proto-dst 80 drop",
        ),
        (
            inet().eq(FIB_SADDR_TYPE, addr_type::LOCAL).accept(),
            "fib saddr type local accept",
        ),
        (
            inet().in_set(&[IP_SADDR], "s4").accept(),
            "ip saddr @s4 accept",
        ),
        (
            inet().not_in_set(&[IP_DADDR], "s4").drop(),
            "ip daddr != @s4 drop",
        ),
        (
            inet()
                .in_set(&[CT_ORIGINAL_IP_SADDR, IP_SADDR, META_IIF], "cat")
                .accept(),
            "ct original ip saddr . ip saddr . iif @cat accept",
        ),
        (inet().vmap(&[IP_SADDR], "v4"), "ip saddr vmap @v4"),
        (
            inet()
                .eq(
                    Selector::fib(
                        FibResult::OIF,
                        FibFlags::SADDR | FibFlags::IIF,
                        DataType::IFINDEX,
                    ),
                    1_u32,
                )
                .accept(),
            "fib saddr . iif oif lo accept",
        ),
        (
            inet().eq(META_NFPROTO, 2_u8).accept(),
            "meta nfproto ipv4 accept",
        ),
        (
            inet().eq(META_L4PROTO, 6_u8).accept(),
            "meta l4proto tcp accept",
        ),
        (
            inet().eq(META_CGROUP, 7_u32).accept(),
            "meta cgroup 7 accept",
        ),
    ];
    for (exprs, text) in cases {
        assert_same_rule(Family::Inet, exprs, text);
    }
    let output = Exprs::new(Family::Inet).eq(META_SKUID, 0_u32).accept();
    assert_same_rule_in(
        Family::Inet,
        ChainType::Filter,
        HookPoint::OUTPUT,
        output,
        "meta skuid 0 accept",
    );
}

#[test]
fn rules_of_statements() {
    let inet = || Exprs::new(Family::Inet);
    let log = Log {
        snaplen: Some(128),
        qthreshold: Some(1),
        ..Log::group(5, "sortie ")
    };
    let cases: Vec<(Exprs, &str)> = vec![
        (inet().counter_name("c").drop(), "counter name \"c\" drop"),
        (
            inet().push(log).drop(),
            "log prefix \"sortie \" group 5 snaplen 128 queue-threshold 1 drop",
        ),
        (inet().set_meta_mark(9), "meta mark set 9"),
        (
            inet().set_meta_mark_bits(0xff00, 0x100),
            "meta mark set meta mark & 0xffff00ff | 0x100",
        ),
        (inet().set_ct_mark(9), "ct mark set 9"),
        (
            inet().set_ct_mark_bits(0xff, 2),
            "ct mark set ct mark & 0xffffff00 | 2",
        ),
        (
            inet().load(&[CT_MARK]).push_set_meta_mark(),
            "meta mark set ct mark",
        ),
        (
            inet().map(&[IP_SADDR], "marks").push_set_meta_mark(),
            "meta mark set ip saddr map @marks",
        ),
        (inet().push(Notrack), "notrack"),
        (
            inet().push(Limit {
                burst: 5,
                ..Limit::packets_per_second(10)
            }),
            "limit rate 10/second",
        ),
        (
            inet()
                .push(Numgen {
                    dreg: Reg::R0,
                    modulus: 4,
                    random: false,
                    offset: 1,
                })
                .push_set_meta_mark(),
            "meta mark set numgen inc mod 4 offset 1",
        ),
        (
            inet()
                .eq(TCP_DPORT, 80_u16)
                .push(Immediate::value(Reg::R0, 8080_u16))
                .push(Tproxy {
                    family: Family::Unspec,
                    addr: None,
                    port: Some(Reg::R0),
                }),
            "tcp dport 80 tproxy to :8080",
        ),
    ];
    for (exprs, text) in cases {
        assert_same_rule(Family::Inet, exprs, text);
    }
    let reject = inet().push(Reject::IcmpxUnreach(3));
    assert_same_rule_in(
        Family::Inet,
        ChainType::Filter,
        HookPoint::FORWARD,
        reject,
        "reject with icmpx admin-prohibited",
    );
}

#[test]
fn rules_of_translation() {
    let inet = || Exprs::new(Family::Inet);
    let snat: Vec<(Exprs, &str)> = vec![
        (
            inet()
                .ne(META_OIFNAME, "docker0")
                .map(&[IP_SADDR], "m4")
                .snat(Family::Ip),
            "oifname != \"docker0\" snat ip to ip saddr map @m4",
        ),
        (inet().snat_to(IpAddr::V4(B)), "snat ip to 203.0.113.11"),
        (inet().snat_to(IpAddr::V6(SIX)), "snat ip6 to 2001:db8::1"),
        (inet().masquerade(), "masquerade"),
    ];
    for (exprs, text) in snat {
        let hook = HookPoint::POSTROUTING;
        assert_same_rule_in(Family::Inet, ChainType::Nat, hook, exprs, text);
    }
    let dnat: Vec<(Exprs, &str)> = vec![
        (inet().dnat_to(IpAddr::V4(B)), "dnat ip to 203.0.113.11"),
        (
            inet().map(&[IP_DADDR], "m4").dnat(Family::Ip),
            "dnat ip to ip daddr map @m4",
        ),
        (
            inet()
                .eq(META_L4PROTO, 6_u8)
                .map(&[IP_DADDR], "targets")
                .dnat_with_port(Family::Ip),
            "meta l4proto tcp dnat ip to ip daddr map @targets",
        ),
    ];
    for (exprs, text) in dnat {
        let hook = HookPoint::PREROUTING;
        assert_same_rule_in(Family::Inet, ChainType::Nat, hook, exprs, text);
    }
}

#[test]
fn rules_of_the_bridge() {
    let bridge = || Exprs::new(Family::Bridge);
    let cases: Vec<(Exprs, &str)> = vec![
        (
            bridge().eq(ETHER_SADDR, [2, 0, 0, 0, 0, 9]).drop(),
            "ether saddr 02:00:00:00:00:09 drop",
        ),
        (
            bridge().eq(ETHER_TYPE, 0x0800_u16).drop(),
            "ether type ip drop",
        ),
        (
            bridge().in_set(&[IP_SADDR], "s4").drop(),
            "ip saddr @s4 drop",
        ),
        (
            bridge().eq(IP6_SADDR, SIX).drop(),
            "ip6 saddr 2001:db8::1 drop",
        ),
        (
            bridge()
                .eq(ARP_SADDR_ETHER, [2, 0, 0, 0, 0, 9])
                .eq(ARP_SADDR_IP, A)
                .drop(),
            "meta protocol arp arp saddr ether 02:00:00:00:00:09 arp saddr ip 10.0.0.1 drop",
        ),
        (
            bridge().eq(ARP_OPERATION, 1_u16).drop(),
            "meta protocol arp arp operation request drop",
        ),
        (bridge().log(5, "x"), "log prefix \"x\" group 5"),
    ];
    for (exprs, text) in cases {
        assert_same_rule(Family::Bridge, exprs, text);
    }
}
