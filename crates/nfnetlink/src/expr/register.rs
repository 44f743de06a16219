//! The virtual machine's registers.

use crate::wire::{Attr, Malformed};

/// A 32-bit register, `NFT_REG32_00` to `NFT_REG32_15`, or the verdict register.
///
/// A value longer than 4 bytes takes the following registers too, so that the parts of a
/// concatenation, padded to 4 bytes each, lie one behind the other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reg(u8);

const NFT_REG_VERDICT: u32 = 0;
const NFT_REG_1: u32 = 1;
const NFT_REG_4: u32 = 4;
const NFT_REG32_00: u32 = 8;
const NFT_REG32_15: u32 = 23;

impl Reg {
    /// The verdict register: the target of a verdict map.
    pub const VERDICT: Self = Self(u8::MAX);
    /// The first data register.
    pub const R0: Self = Self(0);

    /// The data register `index`, 0 to 15; a higher one is the last.
    pub const fn new(index: u8) -> Self {
        if index < 16 { Self(index) } else { Self(15) }
    }

    /// The register behind a value of `len` bytes that starts here.
    #[must_use]
    pub fn after(self, len: usize) -> Self {
        let words = u8::try_from(len.div_ceil(4)).unwrap_or(u8::MAX);
        Self::new(self.0.saturating_add(words))
    }

    pub(super) fn number(self) -> u32 {
        match self {
            Self::VERDICT => NFT_REG_VERDICT,
            Self(index) => NFT_REG32_00 + u32::from(index),
        }
    }

    /// Reads a register, the old 128-bit names too: the kernel lists aligned ones as those.
    pub(super) fn decode(attr: &Attr<'_>) -> Result<Self, Malformed> {
        let number = attr.be32()?;
        let index = match number {
            NFT_REG_VERDICT => return Ok(Self::VERDICT),
            NFT_REG_1..=NFT_REG_4 => (number - NFT_REG_1) * 4,
            NFT_REG32_00..=NFT_REG32_15 => number - NFT_REG32_00,
            _ => return Err(Malformed("an unknown register")),
        };
        u8::try_from(index)
            .map(Self)
            .map_err(|_| Malformed("an unknown register"))
    }
}

impl std::fmt::Debug for Reg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::VERDICT => f.write_str("verdict"),
            Self(index) => write!(f, "reg{index}"),
        }
    }
}
