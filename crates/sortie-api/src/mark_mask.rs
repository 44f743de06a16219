//! `markMask`: the bits of packet marks that name uplinks.

use serde::{Deserialize, Serialize};

/// Bits that follow each other, at least [`MarkMask::LEAST`] and at most [`MarkMask::MOST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct MarkMask(u32);

impl MarkMask {
    /// With fewer there would be too few uplinks.
    pub const LEAST: u32 = 4;
    /// More would be taken from others for nothing.
    pub const MOST: u32 = 8;

    /// All the bits.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Whether it is what holds where nothing is said.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }

    /// The lowest of them alone.
    pub fn lowest(self) -> u32 {
        self.0 & self.0.wrapping_neg()
    }
}

impl Default for MarkMask {
    /// Nobody's of those that `sortie-plan/src/mark.rs` lists.
    fn default() -> Self {
        Self(0xf0)
    }
}

impl TryFrom<u32> for MarkMask {
    type Error = &'static str;

    fn try_from(bits: u32) -> Result<Self, Self::Error> {
        let count = bits.count_ones();
        let in_a_row = bits.leading_zeros() + count + bits.trailing_zeros() == u32::BITS;
        if in_a_row && (Self::LEAST..=Self::MOST).contains(&count) {
            Ok(Self(bits))
        } else {
            Err("it is not 4 to 8 bits in a row")
        }
    }
}

impl From<MarkMask> for u32 {
    fn from(mask: MarkMask) -> Self {
        mask.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_to_eight_bits_in_a_row() {
        for bits in [0xf0, 0xf, 0xff, 0x1e, 0x0ff0_0000, 0xff00_0000, 0xf000_0000] {
            assert_eq!(
                MarkMask::try_from(bits).map(u32::from),
                Ok(bits),
                "{bits:#x}"
            );
        }
        for bits in [0, 0x7, 0x1ff, 0xf1, 0xf00f, 0xe0, u32::MAX] {
            assert!(MarkMask::try_from(bits).is_err(), "{bits:#x}");
        }
        assert_eq!(MarkMask::default().lowest(), 0x10);
    }
}
