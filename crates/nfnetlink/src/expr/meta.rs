//! `meta`: what the kernel knows about the packet beside its bytes.

use super::{Expression, Reg};
use crate::uapi::open_enum;
use crate::wire::{Malformed, Writer, attrs};

open_enum! {
    /// Which property (`enum nft_meta_keys`).
    pub MetaKey: u32 {
        LEN = 0, "length";
        PROTOCOL = 1, "protocol";
        PRIORITY = 2, "priority";
        MARK = 3, "mark";
        IIF = 4, "iif";
        OIF = 5, "oif";
        IIFNAME = 6, "iifname";
        OIFNAME = 7, "oifname";
        IIFTYPE = 8, "iiftype";
        OIFTYPE = 9, "oiftype";
        SKUID = 10, "skuid";
        SKGID = 11, "skgid";
        NFTRACE = 12, "nftrace";
        NFPROTO = 15, "nfproto";
        L4PROTO = 16, "l4proto";
        BRI_IIFNAME = 17, "ibrname";
        BRI_OIFNAME = 18, "obrname";
        PKTTYPE = 19, "pkttype";
        CPU = 20, "cpu";
        IIFGROUP = 21, "iifgroup";
        OIFGROUP = 22, "oifgroup";
        CGROUP = 23, "cgroup";
        IIFKIND = 26, "iifkind";
        OIFKIND = 27, "oifkind";
        SDIF = 33, "sdif";
        SDIFNAME = 34, "sdifname";
    }
}

/// Loads a property of the packet, or sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Meta {
    /// Property to register.
    Load {
        /// Property.
        key: MetaKey,
        /// Target register.
        dreg: Reg,
    },
    /// Register to property.
    Set {
        /// Property.
        key: MetaKey,
        /// Source register.
        sreg: Reg,
    },
}

const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_META_SREG: u16 = 3;

impl Expression for Meta {
    const NAME: &'static str = "meta";

    fn encode(&self, w: &mut Writer) {
        match *self {
            Self::Load { key, dreg } => {
                w.be32(NFTA_META_KEY, key.0);
                w.be32(NFTA_META_DREG, dreg.number());
            }
            Self::Set { key, sreg } => {
                w.be32(NFTA_META_KEY, key.0);
                w.be32(NFTA_META_SREG, sreg.number());
            }
        }
    }

    fn decode(nested: &[u8]) -> Result<Self, Malformed> {
        let (mut key, mut dreg, mut sreg) = (None, None, None);
        for attr in attrs(nested) {
            let attr = attr?;
            match attr.kind {
                NFTA_META_KEY => key = Some(MetaKey(attr.be32()?)),
                NFTA_META_DREG => dreg = Some(Reg::decode(&attr)?),
                NFTA_META_SREG => sreg = Some(Reg::decode(&attr)?),
                _ => {}
            }
        }
        match (key, dreg, sreg) {
            (Some(key), Some(dreg), _) => Ok(Self::Load { key, dreg }),
            (Some(key), None, Some(sreg)) => Ok(Self::Set { key, sreg }),
            _ => Err(Malformed("meta without key or register")),
        }
    }
}
