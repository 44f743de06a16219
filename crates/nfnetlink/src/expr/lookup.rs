//! `lookup`: sets, maps and verdict maps.

use super::{Expression, Reg};
use crate::wire::{Malformed, Writer, attrs};

/// Looks registers up in a set; ends the rule when there is no element.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lookup {
    /// The set's name, in the rule's table.
    pub set: String,
    /// First register of the key.
    pub sreg: Reg,
    /// Where a map's data goes; [`Reg::VERDICT`] makes it the verdict.
    pub dreg: Option<Reg>,
    /// Goes on when there is no element (sets only).
    pub inverted: bool,
}

const NFTA_LOOKUP_SET: u16 = 1;
const NFTA_LOOKUP_SREG: u16 = 2;
const NFTA_LOOKUP_DREG: u16 = 3;
const NFTA_LOOKUP_FLAGS: u16 = 5;
const NFT_LOOKUP_F_INV: u32 = 1;

impl Expression for Lookup {
    const NAME: &'static str = "lookup";

    fn encode(&self, w: &mut Writer) {
        w.str(NFTA_LOOKUP_SET, &self.set);
        w.be32(NFTA_LOOKUP_SREG, self.sreg.number());
        if let Some(dreg) = self.dreg {
            w.be32(NFTA_LOOKUP_DREG, dreg.number());
        }
        if self.inverted {
            w.be32(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
        }
    }

    fn decode(nested: &[u8]) -> Result<Self, Malformed> {
        let (mut set, mut sreg, mut dreg, mut flags) = (None, None, None, 0);
        for attr in attrs(nested) {
            let attr = attr?;
            match attr.kind {
                NFTA_LOOKUP_SET => set = Some(attr.string()),
                NFTA_LOOKUP_SREG => sreg = Some(Reg::decode(&attr)?),
                NFTA_LOOKUP_DREG => dreg = Some(Reg::decode(&attr)?),
                NFTA_LOOKUP_FLAGS => flags = attr.be32()?,
                _ => {}
            }
        }
        match (set, sreg) {
            (Some(set), Some(sreg)) => Ok(Self {
                set,
                sreg,
                dreg,
                inverted: flags & NFT_LOOKUP_F_INV != 0,
            }),
            _ => Err(Malformed("lookup without set or register")),
        }
    }
}
