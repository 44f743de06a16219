//! `bitwise` and `byteorder`: arithmetic on registers.

use super::{Expression, Reg};
use crate::data::Data;
use crate::uapi::open_enum;
use crate::wire::{Malformed, Writer, attrs};

/// `dreg = (sreg & mask) ^ xor`, or a shift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bitwise {
    /// `dreg = (sreg & mask) ^ xor`.
    MaskXor {
        /// First source register.
        sreg: Reg,
        /// First target register.
        dreg: Reg,
        /// Bits to keep; its length is the operation's.
        mask: Data,
        /// Bits to flip afterwards, as long as the mask.
        xor: Data,
    },
    /// `dreg = sreg << by`, or `>>`.
    Shift {
        /// First source register.
        sreg: Reg,
        /// First target register.
        dreg: Reg,
        /// Bytes.
        len: u32,
        /// To the right.
        right: bool,
        /// Bits, 1 to 31.
        by: u32,
    },
}

const NFTA_BITWISE_SREG: u16 = 1;
const NFTA_BITWISE_DREG: u16 = 2;
const NFTA_BITWISE_LEN: u16 = 3;
const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_BITWISE_XOR: u16 = 5;
const NFTA_BITWISE_OP: u16 = 6;
const NFTA_BITWISE_DATA: u16 = 7;
const NFT_BITWISE_LSHIFT: u32 = 1;
const NFT_BITWISE_RSHIFT: u32 = 2;

impl Bitwise {
    /// Masks a register in place.
    pub fn mask(reg: Reg, mask: Data) -> Self {
        let zeros = [0; crate::data::MAX_LEN];
        let zeros = Data::unpadded(zeros.get(..mask.len()).unwrap_or_default());
        Self::MaskXor {
            sreg: reg,
            dreg: reg,
            mask,
            xor: zeros,
        }
    }
}

impl Expression for Bitwise {
    const NAME: &'static str = "bitwise";

    fn encode(&self, w: &mut Writer) {
        match self {
            Self::MaskXor {
                sreg,
                dreg,
                mask,
                xor,
            } => {
                w.be32(NFTA_BITWISE_SREG, sreg.number());
                w.be32(NFTA_BITWISE_DREG, dreg.number());
                w.be32(
                    NFTA_BITWISE_LEN,
                    u32::try_from(mask.len()).unwrap_or_default(),
                );
                mask.encode(w, NFTA_BITWISE_MASK);
                xor.encode(w, NFTA_BITWISE_XOR);
            }
            Self::Shift {
                sreg,
                dreg,
                len,
                right,
                by,
            } => {
                w.be32(NFTA_BITWISE_SREG, sreg.number());
                w.be32(NFTA_BITWISE_DREG, dreg.number());
                w.be32(NFTA_BITWISE_LEN, *len);
                let op = if *right {
                    NFT_BITWISE_RSHIFT
                } else {
                    NFT_BITWISE_LSHIFT
                };
                w.be32(NFTA_BITWISE_OP, op);
                Data::from(*by).encode(w, NFTA_BITWISE_DATA);
            }
        }
    }

    fn decode(nested: &[u8]) -> Result<Self, Malformed> {
        let (mut sreg, mut dreg, mut len, mut op) = (None, None, 0, 0);
        let (mut mask, mut xor, mut data) = (None, None, None);
        for attr in attrs(nested) {
            let attr = attr?;
            match attr.kind {
                NFTA_BITWISE_SREG => sreg = Some(Reg::decode(&attr)?),
                NFTA_BITWISE_DREG => dreg = Some(Reg::decode(&attr)?),
                NFTA_BITWISE_LEN => len = attr.be32()?,
                NFTA_BITWISE_OP => op = attr.be32()?,
                NFTA_BITWISE_MASK => mask = Some(Data::decode(attr.data)?),
                NFTA_BITWISE_XOR => xor = Some(Data::decode(attr.data)?),
                NFTA_BITWISE_DATA => data = Data::decode(attr.data)?.u32_at(0),
                _ => {}
            }
        }
        match (sreg, dreg, op, mask, xor, data) {
            (Some(sreg), Some(dreg), 0, Some(mask), Some(xor), _) => Ok(Self::MaskXor {
                sreg,
                dreg,
                mask,
                xor,
            }),
            (Some(sreg), Some(dreg), NFT_BITWISE_LSHIFT | NFT_BITWISE_RSHIFT, _, _, Some(by)) => {
                Ok(Self::Shift {
                    sreg,
                    dreg,
                    len,
                    right: op == NFT_BITWISE_RSHIFT,
                    by,
                })
            }
            _ => Err(Malformed("bitwise of an unknown form")),
        }
    }
}

open_enum! {
    /// Which way (`enum nft_byteorder_ops`).
    pub ByteorderOp: u32 {
        NTOH = 0, "ntoh";
        HTON = 1, "hton";
    }
}

/// Turns numbers between network and host byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Byteorder {
    /// First source register.
    pub sreg: Reg,
    /// First target register.
    pub dreg: Reg,
    /// Which way.
    pub op: ByteorderOp,
    /// Bytes in all.
    pub len: u32,
    /// Bytes of one number: 2, 4 or 8.
    pub size: u32,
}

const NFTA_BYTEORDER_SREG: u16 = 1;
const NFTA_BYTEORDER_DREG: u16 = 2;
const NFTA_BYTEORDER_OP: u16 = 3;
const NFTA_BYTEORDER_LEN: u16 = 4;
const NFTA_BYTEORDER_SIZE: u16 = 5;

impl Expression for Byteorder {
    const NAME: &'static str = "byteorder";

    fn encode(&self, w: &mut Writer) {
        w.be32(NFTA_BYTEORDER_SREG, self.sreg.number());
        w.be32(NFTA_BYTEORDER_DREG, self.dreg.number());
        w.be32(NFTA_BYTEORDER_OP, self.op.0);
        w.be32(NFTA_BYTEORDER_LEN, self.len);
        w.be32(NFTA_BYTEORDER_SIZE, self.size);
    }

    fn decode(nested: &[u8]) -> Result<Self, Malformed> {
        let (mut sreg, mut dreg, mut op, mut len, mut size) = (None, None, None, 0, 0);
        for attr in attrs(nested) {
            let attr = attr?;
            match attr.kind {
                NFTA_BYTEORDER_SREG => sreg = Some(Reg::decode(&attr)?),
                NFTA_BYTEORDER_DREG => dreg = Some(Reg::decode(&attr)?),
                NFTA_BYTEORDER_OP => op = Some(ByteorderOp(attr.be32()?)),
                NFTA_BYTEORDER_LEN => len = attr.be32()?,
                NFTA_BYTEORDER_SIZE => size = attr.be32()?,
                _ => {}
            }
        }
        match (sreg, dreg, op) {
            (Some(sreg), Some(dreg), Some(op)) => Ok(Self {
                sreg,
                dreg,
                op,
                len,
                size,
            }),
            _ => Err(Malformed("byteorder without register or operation")),
        }
    }
}
