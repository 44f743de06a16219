//! `immediate`: constants and verdicts.

use super::{Expression, Reg};
use crate::data::{Data, Datum};
use crate::verdict::Verdict;
use crate::wire::{Malformed, Writer, attrs};

/// Loads a constant into a register, or gives a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Immediate {
    /// Target register; [`Reg::VERDICT`] for a verdict.
    pub dreg: Reg,
    /// The constant.
    pub data: Datum,
}

impl Immediate {
    /// Gives a verdict.
    pub fn verdict(verdict: Verdict) -> Self {
        Self {
            dreg: Reg::VERDICT,
            data: Datum::Verdict(verdict),
        }
    }

    /// Loads a constant.
    pub fn value(dreg: Reg, value: impl Into<Data>) -> Self {
        Self {
            dreg,
            data: Datum::Value(value.into()),
        }
    }
}

const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;

impl Expression for Immediate {
    const NAME: &'static str = "immediate";

    fn encode(&self, w: &mut Writer) {
        w.be32(NFTA_IMMEDIATE_DREG, self.dreg.number());
        self.data.encode(w, NFTA_IMMEDIATE_DATA);
    }

    fn decode(nested: &[u8]) -> Result<Self, Malformed> {
        let (mut dreg, mut data) = (None, None);
        for attr in attrs(nested) {
            let attr = attr?;
            match attr.kind {
                NFTA_IMMEDIATE_DREG => dreg = Some(Reg::decode(&attr)?),
                NFTA_IMMEDIATE_DATA => data = Some(Datum::decode(attr.data)?),
                _ => {}
            }
        }
        match (dreg, data) {
            (Some(dreg), Some(data)) => Ok(Self { dreg, data }),
            _ => Err(Malformed("immediate without register or data")),
        }
    }
}
