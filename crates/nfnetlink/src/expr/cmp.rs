//! `cmp` and `range`: comparisons that end the rule when they fail.

use super::{Expression, Reg};
use crate::data::Data;
use crate::uapi::open_enum;
use crate::wire::{Malformed, Writer, attrs};

open_enum! {
    /// How to compare, bytewise from the first (`enum nft_cmp_ops`).
    pub CmpOp: u32 {
        EQ = 0, "==";
        NEQ = 1, "!=";
        LT = 2, "<";
        LTE = 3, "<=";
        GT = 4, ">";
        GTE = 5, ">=";
    }
}

/// Goes on if the register compares with the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cmp {
    /// First register.
    pub sreg: Reg,
    /// Comparison.
    pub op: CmpOp,
    /// Value; its length says how many bytes are compared.
    pub data: Data,
}

const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;

impl Expression for Cmp {
    const NAME: &'static str = "cmp";

    fn encode(&self, w: &mut Writer) {
        w.be32(NFTA_CMP_SREG, self.sreg.number());
        w.be32(NFTA_CMP_OP, self.op.0);
        self.data.encode(w, NFTA_CMP_DATA);
    }

    fn decode(nested: &[u8]) -> Result<Self, Malformed> {
        let (mut sreg, mut op, mut data) = (None, None, None);
        for attr in attrs(nested) {
            let attr = attr?;
            match attr.kind {
                NFTA_CMP_SREG => sreg = Some(Reg::decode(&attr)?),
                NFTA_CMP_OP => op = Some(CmpOp(attr.be32()?)),
                NFTA_CMP_DATA => data = Some(Data::decode(attr.data)?),
                _ => {}
            }
        }
        match (sreg, op, data) {
            (Some(sreg), Some(op), Some(data)) => Ok(Self { sreg, op, data }),
            _ => Err(Malformed("cmp without register, operator or value")),
        }
    }
}

/// Goes on if the register is within `from..=to`, or outside when inverted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Range {
    /// First register.
    pub sreg: Reg,
    /// Outside instead of inside.
    pub inverted: bool,
    /// Lowest value.
    pub from: Data,
    /// Highest value.
    pub to: Data,
}

const NFTA_RANGE_SREG: u16 = 1;
const NFTA_RANGE_OP: u16 = 2;
const NFTA_RANGE_FROM_DATA: u16 = 3;
const NFTA_RANGE_TO_DATA: u16 = 4;

impl Expression for Range {
    const NAME: &'static str = "range";

    fn encode(&self, w: &mut Writer) {
        w.be32(NFTA_RANGE_SREG, self.sreg.number());
        w.be32(NFTA_RANGE_OP, u32::from(self.inverted));
        self.from.encode(w, NFTA_RANGE_FROM_DATA);
        self.to.encode(w, NFTA_RANGE_TO_DATA);
    }

    fn decode(nested: &[u8]) -> Result<Self, Malformed> {
        let (mut sreg, mut op, mut from, mut to) = (None, 0, None, None);
        for attr in attrs(nested) {
            let attr = attr?;
            match attr.kind {
                NFTA_RANGE_SREG => sreg = Some(Reg::decode(&attr)?),
                NFTA_RANGE_OP => op = attr.be32()?,
                NFTA_RANGE_FROM_DATA => from = Some(Data::decode(attr.data)?),
                NFTA_RANGE_TO_DATA => to = Some(Data::decode(attr.data)?),
                _ => {}
            }
        }
        match (sreg, op, from, to) {
            (Some(sreg), 0 | 1, Some(from), Some(to)) => Ok(Self {
                sreg,
                inverted: op == 1,
                from,
                to,
            }),
            _ => Err(Malformed("range without register, operator or bounds")),
        }
    }
}
