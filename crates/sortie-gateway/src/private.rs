//! Addresses that a public name must not lead to, unless its policy allows it: with them, who owns
//! the name's zone would choose whom the gateway calls inside (server-side request forgery).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is on the list. The host's own addresses are another question
/// ([`crate::decide::Decide::is_of_host`]).
///
/// IPv4: 0/8, 127/8, RFC 1918, 169.254/16, 100.64/10 (RFC 6598), 192.0.0/24 (RFC 6890), 198.18/15
/// (RFC 2544), multicast and all above. IPv6: unspecified, loopback, ULA, link-local and site-local,
/// multicast; and what has an IPv4 address inside, whatever that is: v4-mapped and v4-compatible,
/// NAT64 (RFC 6052, RFC 8215), 6to4, Teredo.
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => is_private_v6(address),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    address.is_private()
        || matches!(
            (a, b, c),
            (0 | 127 | 224.., _, _)
                | (169, 254, _)
                | (100, 64..128, _)
                | (192, 0, 0)
                | (198, 18..20, _)
        )
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let words = address.segments();
    // Unspecified, loopback, v4-compatible, v4-mapped, and v4-translated (RFC 2765).
    let has_v4 = words[..4] == [0; 4] && matches!(words[4..6], [0, 0 | 0xffff] | [0xffff, 0]);
    let is_nat64 = words[..2] == [0x64, 0xff9b] && (words[2] == 1 || words[2..6] == [0, 0, 0, 0]);
    let is_6to4_or_teredo = words[0] == 0x2002 || words[..2] == [0x2001, 0];
    // fc00::/7; fe80::/10, fec0::/10 and ff00::/8 are all that is above.
    let is_local = matches!(words[0], 0xfc00..=0xfdff | 0xfe80..);
    has_v4 || is_nat64 || is_6to4_or_teredo || is_local
}

#[cfg(test)]
mod tests;
