//! `ct`: properties of the packet's connection.

use super::{Expression, Reg};
use crate::uapi::open_enum;
use crate::wire::{Malformed, Writer, attrs};

open_enum! {
    /// Which property (`enum nft_ct_keys`).
    pub CtKey: u32 {
        STATE = 0, "state";
        DIRECTION = 1, "direction";
        STATUS = 2, "status";
        MARK = 3, "mark";
        EXPIRATION = 5, "expiration";
        HELPER = 6, "helper";
        L3PROTOCOL = 7, "l3proto";
        SRC = 8, "saddr";
        DST = 9, "daddr";
        PROTOCOL = 10, "protocol";
        PROTO_SRC = 11, "proto-src";
        PROTO_DST = 12, "proto-dst";
        LABELS = 13, "label";
        PKTS = 14, "packets";
        BYTES = 15, "bytes";
        ZONE = 17, "zone";
        SRC_IP = 19, "ip saddr";
        DST_IP = 20, "ip daddr";
        SRC_IP6 = 21, "ip6 saddr";
        DST_IP6 = 22, "ip6 daddr";
        ID = 23, "id";
    }
}

open_enum! {
    /// Which tuple of the connection (`enum ip_conntrack_dir`).
    pub Direction: u8 {
        ORIGINAL = 0, "original";
        REPLY = 1, "reply";
    }
}

/// Bits of `ct state` (`enum nft_ct_state`): values for [`CtKey::STATE`].
pub mod state {
    /// Neither untracked nor with a usable connection.
    pub const INVALID: u32 = 1;
    /// A packet of a known connection.
    pub const ESTABLISHED: u32 = 2;
    /// A packet that belongs to a known connection, such as an ICMP error.
    pub const RELATED: u32 = 4;
    /// The first packet of a connection.
    pub const NEW: u32 = 8;
    /// Kept off connection tracking.
    pub const UNTRACKED: u32 = 64;
}

/// Loads a property of the connection, or sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ct {
    /// Property to register.
    Load {
        /// Property.
        key: CtKey,
        /// The tuple, for addresses and ports.
        direction: Option<Direction>,
        /// First target register.
        dreg: Reg,
    },
    /// Register to property.
    Set {
        /// Property.
        key: CtKey,
        /// First source register.
        sreg: Reg,
    },
}

const NFTA_CT_DREG: u16 = 1;
const NFTA_CT_KEY: u16 = 2;
const NFTA_CT_DIRECTION: u16 = 3;
const NFTA_CT_SREG: u16 = 4;

impl Expression for Ct {
    const NAME: &'static str = "ct";

    fn encode(&self, w: &mut Writer) {
        match *self {
            Self::Load {
                key,
                direction,
                dreg,
            } => {
                w.be32(NFTA_CT_KEY, key.0);
                if let Some(direction) = direction {
                    w.u8(NFTA_CT_DIRECTION, direction.0);
                }
                w.be32(NFTA_CT_DREG, dreg.number());
            }
            Self::Set { key, sreg } => {
                w.be32(NFTA_CT_KEY, key.0);
                w.be32(NFTA_CT_SREG, sreg.number());
            }
        }
    }

    fn decode(nested: &[u8]) -> Result<Self, Malformed> {
        let (mut key, mut direction, mut dreg, mut sreg) = (None, None, None, None);
        for attr in attrs(nested) {
            let attr = attr?;
            match attr.kind {
                NFTA_CT_KEY => key = Some(CtKey(attr.be32()?)),
                NFTA_CT_DIRECTION => direction = Some(Direction(attr.u8()?)),
                NFTA_CT_DREG => dreg = Some(Reg::decode(&attr)?),
                NFTA_CT_SREG => sreg = Some(Reg::decode(&attr)?),
                _ => {}
            }
        }
        match (key, dreg, sreg) {
            (Some(key), Some(dreg), _) => Ok(Self::Load {
                key,
                direction,
                dreg,
            }),
            (Some(key), None, Some(sreg)) => Ok(Self::Set { key, sreg }),
            _ => Err(Malformed("ct without key or register")),
        }
    }
}
