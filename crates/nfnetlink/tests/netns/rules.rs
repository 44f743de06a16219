//! Rules, beside what nft makes of the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nfnetlink::chain::{Chain, ChainType, HookPoint};
use nfnetlink::datatype::DataType;
use nfnetlink::expr::selectors::*;
use nfnetlink::expr::{
    CmpOp, Exprs, FibFlags, FibResult, Immediate, Limit, Log, Notrack, Numgen, Reg, Reject,
    Selector, Tproxy, addr_type, state,
};
use nfnetlink::{Family, NamedCounter, Rule, Set, Table};

use super::oracle::assert_same;

const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 11);
const SIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

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
fn rules_of_headers() {
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
        (
            inet().eq(IP6_HOPLIMIT, 255_u8).accept(),
            "ip6 hoplimit 255 accept",
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
    ];
    for (exprs, text) in cases {
        assert_same_rule(Family::Inet, exprs, text);
    }
}

#[test]
fn rules_of_metadata() {
    let inet = || Exprs::new(Family::Inet);
    let cases: Vec<(Exprs, &str)> = vec![
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
    ];
    for (exprs, text) in cases {
        assert_same_rule(Family::Inet, exprs, text);
    }
}

#[test]
fn rules_of_connections() {
    let inet = || Exprs::new(Family::Inet);
    let cases: Vec<(Exprs, &str)> = vec![
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
    let redirect: Vec<(Exprs, &str)> = vec![
        (
            inet().eq(UDP_DPORT, 53_u16).redirect_to(5353),
            "udp dport 53 redirect to :5353",
        ),
        (
            inet()
                .masked(TCP_FLAGS, 0x17_u8, CmpOp::NEQ, 2_u8)
                .r#return(),
            "tcp flags & (fin|syn|rst|ack) != syn return",
        ),
    ];
    for (exprs, text) in redirect {
        let hook = HookPoint::OUTPUT;
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
