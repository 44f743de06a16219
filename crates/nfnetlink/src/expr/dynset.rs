//! `dynset`: rules that put elements into a set.

use super::{Expression, Reg};
use crate::wire::{Malformed, Writer, attrs};

/// Puts a key into a set that has [`Flags::EVAL`](crate::set::Flags::EVAL), or finds it there, and
/// runs the element's expressions: it counts, where the set's elements have a counter. Ends the
/// rule when the set is full.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Dynset {
    /// The set's name, in the rule's table.
    pub set: String,
    /// First register of the key.
    pub sreg: Reg,
}

const NFTA_DYNSET_SET_NAME: u16 = 1;
const NFTA_DYNSET_OP: u16 = 3;
const NFTA_DYNSET_SREG_KEY: u16 = 4;
/// `enum nft_dynset_ops`.
const NFT_DYNSET_OP_UPDATE: u32 = 1;

impl Expression for Dynset {
    const NAME: &'static str = "dynset";

    fn encode(&self, w: &mut Writer) {
        w.str(NFTA_DYNSET_SET_NAME, &self.set);
        w.be32(NFTA_DYNSET_OP, NFT_DYNSET_OP_UPDATE);
        w.be32(NFTA_DYNSET_SREG_KEY, self.sreg.number());
    }

    fn decode(nested: &[u8]) -> Result<Self, Malformed> {
        let (mut set, mut sreg) = (None, None);
        for attr in attrs(nested) {
            let attr = attr?;
            match attr.kind {
                NFTA_DYNSET_SET_NAME => set = Some(attr.string()),
                NFTA_DYNSET_SREG_KEY => sreg = Some(Reg::decode(&attr)?),
                NFTA_DYNSET_OP if attr.be32()? != NFT_DYNSET_OP_UPDATE => {
                    return Err(Malformed("dynset that adds or deletes"));
                }
                _ => {}
            }
        }
        match (set, sreg) {
            (Some(set), Some(sreg)) => Ok(Self { set, sreg }),
            _ => Err(Malformed("dynset without set or register")),
        }
    }
}
