//! Which connections: as far as it can in the kernel, the rest here.

use std::net::IpAddr;

use super::Conntrack;
use super::tuple::put_address;
use crate::Family;
use crate::uapi::ct::{
    CTA_FILTER, CTA_FILTER_F_CTA_IP_DST, CTA_FILTER_F_CTA_IP_SRC, CTA_FILTER_ORIG_FLAGS,
    CTA_FILTER_REPLY_FLAGS, CTA_IP_V4_DST, CTA_IP_V4_SRC, CTA_IP_V6_DST, CTA_IP_V6_SRC, CTA_MARK,
    CTA_MARK_MASK, CTA_TUPLE_IP, CTA_TUPLE_ORIG, CTA_TUPLE_REPLY,
};
use crate::wire::Writer;

/// A filter: all that is set must match.
///
/// IPv4 addresses (kernel 5.8) and marks are filtered by the kernel while it lists; older
/// kernels ignore that, so everything is checked here as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filter {
    /// Source of the original direction.
    pub original_src: Option<IpAddr>,
    /// Destination of the original direction.
    pub original_dst: Option<IpAddr>,
    /// Destination of the reply direction: the translated source.
    pub reply_dst: Option<IpAddr>,
    /// Anything but this destination of the reply direction: all that is not translated to
    /// the right source.
    pub except_reply_dst: Option<IpAddr>,
    /// Transport protocol.
    pub protocol: Option<u8>,
    /// Zone.
    pub zone: Option<u16>,
    /// Value and mask of the mark.
    pub mark: Option<(u32, u32)>,
    /// IPv4 or IPv6 only, where no address says so.
    pub family: Option<Family>,
}

impl Filter {
    /// Every connection.
    pub fn all() -> Self {
        Self::default()
    }

    /// Connections that this address began, as it sees itself.
    pub fn original_src(address: IpAddr) -> Self {
        Self {
            original_src: Some(address),
            ..Self::default()
        }
    }

    /// But those that are translated to this source already.
    #[must_use]
    pub fn except_reply_dst(mut self, address: IpAddr) -> Self {
        self.except_reply_dst = Some(address);
        self
    }

    /// Connections that are translated to this source.
    #[must_use]
    pub fn reply_dst(mut self, address: IpAddr) -> Self {
        self.reply_dst = Some(address);
        self
    }

    /// Connections in this zone.
    #[must_use]
    pub fn zone(mut self, zone: u16) -> Self {
        self.zone = Some(zone);
        self
    }

    /// Connections whose mark has this value under the mask.
    #[must_use]
    pub fn mark(mut self, value: u32, mask: u32) -> Self {
        self.mark = Some((value, mask));
        self
    }

    /// Whether it matches a connection.
    pub fn matches(&self, entry: &Conntrack) -> bool {
        let is = |wanted: Option<IpAddr>, found| wanted.is_none_or(|wanted| wanted == found);
        is(self.original_src, entry.original.src)
            && is(self.original_dst, entry.original.dst)
            && is(self.reply_dst, entry.reply.dst)
            && self.except_reply_dst != Some(entry.reply.dst)
            && self
                .protocol
                .is_none_or(|wanted| wanted == entry.original.protocol)
            && self.zone.is_none_or(|wanted| wanted == entry.zone)
            && self
                .mark
                .is_none_or(|(value, mask)| entry.mark & mask == value & mask)
            && self.family_matches(entry)
    }

    fn family_matches(&self, entry: &Conntrack) -> bool {
        match self.family {
            Some(Family::Ip) => entry.original.src.is_ipv4(),
            Some(Family::Ip6) => entry.original.src.is_ipv6(),
            _ => true,
        }
    }

    /// The family to ask for: the kernel's address filter needs one.
    pub(super) fn family(&self) -> Family {
        match self.original_src.or(self.original_dst).or(self.reply_dst) {
            Some(IpAddr::V4(_)) => Family::Ip,
            Some(IpAddr::V6(_)) => Family::Ip6,
            None => self.family.unwrap_or(Family::Unspec),
        }
    }

    pub(super) fn encode(&self, w: &mut Writer) {
        if let Some((value, mask)) = self.mark {
            w.be32(CTA_MARK, value & mask);
            w.be32(CTA_MARK_MASK, mask);
        }
        // The kernel compares IPv6 addresses the wrong way round (ipv6_addr_cmp in
        // ctnetlink_filter_match_tuple): it would list all but the wanted ones.
        if self.family() != Family::Ip {
            return;
        }
        let original = encode_tuple(w, CTA_TUPLE_ORIG, self.original_src, self.original_dst);
        let reply = encode_tuple(w, CTA_TUPLE_REPLY, None, self.reply_dst);
        if original | reply == 0 {
            return;
        }
        // Unlike the rest, these two numbers are in the host's byte order.
        w.nest(CTA_FILTER, |w| {
            w.bytes(CTA_FILTER_ORIG_FLAGS, &original.to_ne_bytes());
            w.bytes(CTA_FILTER_REPLY_FLAGS, &reply.to_ne_bytes());
        });
    }
}

/// Writes a tuple of what is wanted and returns the flags that say so.
fn encode_tuple(w: &mut Writer, kind: u16, src: Option<IpAddr>, dst: Option<IpAddr>) -> u32 {
    let mut flags = 0;
    if src.is_none() && dst.is_none() {
        return flags;
    }
    w.nest(kind, |w| {
        w.nest(CTA_TUPLE_IP, |w| {
            if let Some(src) = src {
                put_address(w, src, CTA_IP_V4_SRC, CTA_IP_V6_SRC);
                flags |= CTA_FILTER_F_CTA_IP_SRC;
            }
            if let Some(dst) = dst {
                put_address(w, dst, CTA_IP_V4_DST, CTA_IP_V6_DST);
                flags |= CTA_FILTER_F_CTA_IP_DST;
            }
        });
    });
    flags
}
