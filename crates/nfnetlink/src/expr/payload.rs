//! `payload`: bytes of the packet.

use super::{Expression, Reg};
use crate::uapi::open_enum;
use crate::wire::{Malformed, Writer, attrs};

open_enum! {
    /// Which header an offset counts from (`enum nft_payload_bases`).
    pub PayloadBase: u32 {
        LINK = 0, "link header";
        NETWORK = 1, "network header";
        TRANSPORT = 2, "transport header";
        INNER = 3, "inner header";
    }
}

/// Loads bytes of the packet into registers, or writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Payload {
    /// Packet to registers.
    Load {
        /// Header.
        base: PayloadBase,
        /// Bytes from the header's start.
        offset: u32,
        /// Bytes.
        len: u32,
        /// First target register.
        dreg: Reg,
    },
    /// Registers to packet.
    Write {
        /// Header.
        base: PayloadBase,
        /// Bytes from the header's start.
        offset: u32,
        /// Bytes.
        len: u32,
        /// First source register.
        sreg: Reg,
        /// Which checksum to mend (`enum nft_payload_csum_types`): 0 none, 1 inet, 2 SCTP.
        csum_type: u32,
        /// Where that checksum lies, in bytes from the header's start.
        csum_offset: u32,
        /// `NFT_PAYLOAD_L4CSUM_PSEUDOHDR` mends the transport checksum as well.
        csum_flags: u32,
    },
}

const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFTA_PAYLOAD_SREG: u16 = 5;
const NFTA_PAYLOAD_CSUM_TYPE: u16 = 6;
const NFTA_PAYLOAD_CSUM_OFFSET: u16 = 7;
const NFTA_PAYLOAD_CSUM_FLAGS: u16 = 8;

impl Expression for Payload {
    const NAME: &'static str = "payload";

    fn encode(&self, w: &mut Writer) {
        let (Self::Load {
            base, offset, len, ..
        }
        | Self::Write {
            base, offset, len, ..
        }) = *self;
        w.be32(NFTA_PAYLOAD_BASE, base.0);
        w.be32(NFTA_PAYLOAD_OFFSET, offset);
        w.be32(NFTA_PAYLOAD_LEN, len);
        match *self {
            Self::Load { dreg, .. } => w.be32(NFTA_PAYLOAD_DREG, dreg.number()),
            Self::Write {
                sreg,
                csum_type,
                csum_offset,
                csum_flags,
                ..
            } => {
                w.be32(NFTA_PAYLOAD_SREG, sreg.number());
                w.be32(NFTA_PAYLOAD_CSUM_TYPE, csum_type);
                w.be32(NFTA_PAYLOAD_CSUM_OFFSET, csum_offset);
                if csum_flags != 0 {
                    w.be32(NFTA_PAYLOAD_CSUM_FLAGS, csum_flags);
                }
            }
        }
    }

    fn decode(nested: &[u8]) -> Result<Self, Malformed> {
        let (mut dreg, mut sreg, mut base) = (None, None, PayloadBase(0));
        let (mut offset, mut len) = (0, 0);
        let (mut csum_type, mut csum_offset, mut csum_flags) = (0, 0, 0);
        for attr in attrs(nested) {
            let attr = attr?;
            match attr.kind {
                NFTA_PAYLOAD_DREG => dreg = Some(Reg::decode(&attr)?),
                NFTA_PAYLOAD_SREG => sreg = Some(Reg::decode(&attr)?),
                NFTA_PAYLOAD_BASE => base = PayloadBase(attr.be32()?),
                NFTA_PAYLOAD_OFFSET => offset = attr.be32()?,
                NFTA_PAYLOAD_LEN => len = attr.be32()?,
                NFTA_PAYLOAD_CSUM_TYPE => csum_type = attr.be32()?,
                NFTA_PAYLOAD_CSUM_OFFSET => csum_offset = attr.be32()?,
                NFTA_PAYLOAD_CSUM_FLAGS => csum_flags = attr.be32()?,
                _ => {}
            }
        }
        match (dreg, sreg) {
            (Some(dreg), _) => Ok(Self::Load {
                base,
                offset,
                len,
                dreg,
            }),
            (None, Some(sreg)) => Ok(Self::Write {
                base,
                offset,
                len,
                sreg,
                csum_type,
                csum_offset,
                csum_flags,
            }),
            (None, None) => Err(Malformed("payload without a register")),
        }
    }
}
