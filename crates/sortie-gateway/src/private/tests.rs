//! The borders of each range.

use super::*;

fn is(text: &str) -> bool {
    is_private(text.parse().unwrap())
}

#[test]
fn each_range_has_its_borders() {
    for (first, last) in [
        ("0.0.0.0", "0.255.255.255"),
        ("10.0.0.0", "10.255.255.255"),
        ("100.64.0.0", "100.127.255.255"),
        ("127.0.0.0", "127.255.255.255"),
        ("169.254.0.0", "169.254.255.255"),
        ("172.16.0.0", "172.31.255.255"),
        ("192.0.0.0", "192.0.0.255"),
        ("192.168.0.0", "192.168.255.255"),
        ("198.18.0.0", "198.19.255.255"),
        ("224.0.0.0", "255.255.255.255"),
    ] {
        let [first, last]: [Ipv4Addr; 2] = [first, last].map(|text| text.parse().unwrap());
        assert!(is_private_v4(first) && is_private_v4(last), "{first}");
        let before = u32::from(first).checked_sub(1);
        let after = u32::from(last).checked_add(1);
        for outside in [before, after].into_iter().flatten() {
            assert!(
                !is_private_v4(outside.into()),
                "{}",
                Ipv4Addr::from(outside)
            );
        }
    }
}

#[test]
fn ipv6_with_ipv4_inside_is_private_whatever_is_inside() {
    for text in [
        "::",
        "::1",
        "::203.0.113.5",
        "::ffff:203.0.113.5",
        "::ffff:10.0.0.1",
        "::ffff:0:203.0.113.5",
        "64:ff9b::203.0.113.5",
        "64:ff9b:1::1",
        "64:ff9b:1:ffff::1",
        "2002:cb00:7105::1",
        "2001::1",
        "2001:0:4136:e378::1",
        "fc00::1",
        "fdff:ffff::1",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "feff::1",
        "ff02::1",
    ] {
        assert!(is(text), "{text}");
    }
    for text in [
        "2001:db8::1",
        "2606:4700::1",
        "2001:1::1",
        "2003::1",
        "fbff::1",
        "fe00::1",
        "64:ff9b:2::1",
    ] {
        assert!(!is(text), "{text}");
    }
}
