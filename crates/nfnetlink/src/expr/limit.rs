//! `limit`: a rate.

use super::Expression;
use crate::wire::{Malformed, Writer, attrs};

/// Goes on while packets stay within a rate (a token bucket), or beyond it when inverted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limit {
    /// Packets or bytes per `unit`.
    pub rate: u64,
    /// Seconds.
    pub unit: u64,
    /// Packets or bytes that may come at once.
    pub burst: u32,
    /// Counts bytes instead of packets.
    pub bytes: bool,
    /// Goes on beyond the rate.
    pub inverted: bool,
}

const NFTA_LIMIT_RATE: u16 = 1;
const NFTA_LIMIT_UNIT: u16 = 2;
const NFTA_LIMIT_BURST: u16 = 3;
const NFTA_LIMIT_TYPE: u16 = 4;
const NFTA_LIMIT_FLAGS: u16 = 5;

impl Limit {
    /// So many packets a second, with a burst of as many packets.
    pub fn packets_per_second(rate: u32) -> Self {
        Self {
            rate: rate.into(),
            unit: 1,
            burst: rate,
            bytes: false,
            inverted: false,
        }
    }
}

impl Expression for Limit {
    const NAME: &'static str = "limit";

    fn encode(&self, w: &mut Writer) {
        w.be64(NFTA_LIMIT_RATE, self.rate);
        w.be64(NFTA_LIMIT_UNIT, self.unit);
        w.be32(NFTA_LIMIT_BURST, self.burst);
        w.be32(NFTA_LIMIT_TYPE, u32::from(self.bytes));
        w.be32(NFTA_LIMIT_FLAGS, u32::from(self.inverted));
    }

    fn decode(nested: &[u8]) -> Result<Self, Malformed> {
        let mut limit = Self {
            rate: 0,
            unit: 0,
            burst: 0,
            bytes: false,
            inverted: false,
        };
        for attr in attrs(nested) {
            let attr = attr?;
            match attr.kind {
                NFTA_LIMIT_RATE => limit.rate = attr.be64()?,
                NFTA_LIMIT_UNIT => limit.unit = attr.be64()?,
                NFTA_LIMIT_BURST => limit.burst = attr.be32()?,
                NFTA_LIMIT_TYPE => limit.bytes = attr.be32()? == 1,
                NFTA_LIMIT_FLAGS => limit.inverted = attr.be32()? & 1 != 0,
                _ => {}
            }
        }
        Ok(limit)
    }
}
