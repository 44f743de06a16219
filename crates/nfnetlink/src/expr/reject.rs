//! `reject` and `notrack`.

use super::Expression;
use crate::wire::{Malformed, Writer, attrs};

/// Drops the packet and tells its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reject {
    /// An ICMP (or `ICMPv6`) destination unreachable of this code, in a table of one family.
    IcmpUnreach(u8),
    /// A TCP reset.
    TcpReset,
    /// An unreachable whose code suits both families (`enum nft_reject_inet_code`): 0 no
    /// route, 1 port, 2 host, 3 administratively prohibited.
    IcmpxUnreach(u8),
}

const NFTA_REJECT_TYPE: u16 = 1;
const NFTA_REJECT_ICMP_CODE: u16 = 2;
const NFT_REJECT_ICMP_UNREACH: u32 = 0;
const NFT_REJECT_TCP_RST: u32 = 1;
const NFT_REJECT_ICMPX_UNREACH: u32 = 2;

impl Expression for Reject {
    const NAME: &'static str = "reject";

    fn encode(&self, w: &mut Writer) {
        let (kind, code) = match *self {
            Self::IcmpUnreach(code) => (NFT_REJECT_ICMP_UNREACH, Some(code)),
            Self::TcpReset => (NFT_REJECT_TCP_RST, None),
            Self::IcmpxUnreach(code) => (NFT_REJECT_ICMPX_UNREACH, Some(code)),
        };
        w.be32(NFTA_REJECT_TYPE, kind);
        if let Some(code) = code {
            w.u8(NFTA_REJECT_ICMP_CODE, code);
        }
    }

    fn decode(nested: &[u8]) -> Result<Self, Malformed> {
        let (mut kind, mut code) = (None, 0);
        for attr in attrs(nested) {
            let attr = attr?;
            match attr.kind {
                NFTA_REJECT_TYPE => kind = Some(attr.be32()?),
                NFTA_REJECT_ICMP_CODE => code = attr.u8()?,
                _ => {}
            }
        }
        match kind {
            Some(NFT_REJECT_ICMP_UNREACH) => Ok(Self::IcmpUnreach(code)),
            Some(NFT_REJECT_TCP_RST) => Ok(Self::TcpReset),
            Some(NFT_REJECT_ICMPX_UNREACH) => Ok(Self::IcmpxUnreach(code)),
            _ => Err(Malformed("reject of an unknown type")),
        }
    }
}

/// Keeps connection tracking off the packet; in chains before it (priority raw).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Notrack;

impl Expression for Notrack {
    const NAME: &'static str = "notrack";

    fn encode(&self, _: &mut Writer) {}

    fn decode(_: &[u8]) -> Result<Self, Malformed> {
        Ok(Self)
    }
}
