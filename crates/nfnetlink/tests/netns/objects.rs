//! Tables, chains, sets and elements, beside what nft makes of the same.

use std::net::Ipv4Addr;
use std::time::Duration;

use nfnetlink::chain::{Chain, ChainType, HookPoint, Policy};
use nfnetlink::datatype::DataType;
use nfnetlink::table::Flags;
use nfnetlink::{Data, Element, Family, NamedCounter, Set, Table, Verdict};

use super::oracle::assert_same;

const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 11);

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
            let length = DataType::integer(4, true);
            batch.add_set(&Set::new(f, t, "lengths", length));
            batch.add_elements(f, t, "lengths", [Element::new(100_u32)]);
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
           set lengths { typeof meta length; elements = { 100 } } \
           map rest { type ipv4_addr : ipv4_addr; \
             elements = { 10.0.0.1 : 10.0.0.1, * : 203.0.113.11 } } }",
    );
}
