//! Verdicts: what becomes of a packet.

use crate::uapi::nft::{NFTA_VERDICT_CHAIN, NFTA_VERDICT_CODE};
use crate::wire::{Malformed, Writer, attrs};

/// A verdict (`enum nft_verdicts`, `linux/netfilter.h`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// Done with this base chain; later ones still see the packet.
    Accept,
    /// The packet is gone.
    Drop,
    /// The next expression.
    Continue,
    /// The next rule.
    Break,
    /// Back to the calling chain.
    Return,
    /// Into a chain, and back behind this rule.
    Jump(String),
    /// Into a chain, and back behind the rule that called this chain.
    Goto(String),
    /// A number this crate has no name for, such as a queue's.
    Other(i32),
}

const NF_DROP: i32 = 0;
const NF_ACCEPT: i32 = 1;
const NFT_CONTINUE: i32 = -1;
const NFT_BREAK: i32 = -2;
const NFT_JUMP: i32 = -3;
const NFT_GOTO: i32 = -4;
const NFT_RETURN: i32 = -5;

impl Verdict {
    fn code(&self) -> i32 {
        match self {
            Self::Accept => NF_ACCEPT,
            Self::Drop => NF_DROP,
            Self::Continue => NFT_CONTINUE,
            Self::Break => NFT_BREAK,
            Self::Return => NFT_RETURN,
            Self::Jump(_) => NFT_JUMP,
            Self::Goto(_) => NFT_GOTO,
            Self::Other(code) => *code,
        }
    }

    pub(crate) fn encode(&self, w: &mut Writer) {
        w.be32(NFTA_VERDICT_CODE, self.code().cast_unsigned());
        if let Self::Jump(chain) | Self::Goto(chain) = self {
            w.str(NFTA_VERDICT_CHAIN, chain);
        }
    }

    pub(crate) fn decode(nested: &[u8]) -> Result<Self, Malformed> {
        let (mut code, mut chain) = (None, String::new());
        for attr in attrs(nested) {
            let attr = attr?;
            match attr.kind {
                NFTA_VERDICT_CODE => code = Some(attr.be32()?.cast_signed()),
                NFTA_VERDICT_CHAIN => chain = attr.string(),
                _ => {}
            }
        }
        Ok(match code.ok_or(Malformed("a verdict without a code"))? {
            NF_ACCEPT => Self::Accept,
            NF_DROP => Self::Drop,
            NFT_CONTINUE => Self::Continue,
            NFT_BREAK => Self::Break,
            NFT_RETURN => Self::Return,
            NFT_JUMP => Self::Jump(chain),
            NFT_GOTO => Self::Goto(chain),
            other => Self::Other(other),
        })
    }
}
