//! `fib`: what the routing table says about an address.

use super::{Expression, Reg};
use crate::uapi::{bit_flags, open_enum};
use crate::wire::{Malformed, Writer, attrs};

open_enum! {
    /// What is asked for (`enum nft_fib_result`).
    pub FibResult: u32 {
        OIF = 1, "oif";
        OIFNAME = 2, "oifname";
        ADDRTYPE = 3, "type";
    }
}

bit_flags! {
    /// What is looked up, and how (`enum nft_fib_flags`).
    pub FibFlags: u32 {
        /// The source address.
        SADDR = 1;
        /// The destination address.
        DADDR = 2;
        /// With the packet's mark.
        MARK = 4;
        /// As if from the input device.
        IIF = 8;
        /// On the output device only.
        OIF = 16;
        /// Whether there is a route; the result is one byte.
        PRESENT = 32;
    }
}

/// Values of [`FibResult::ADDRTYPE`] (`RTN_*`, `linux/rtnetlink.h`), in host byte order.
pub mod addr_type {
    /// Somebody else's address.
    pub const UNICAST: u32 = 1;
    /// An address of this host.
    pub const LOCAL: u32 = 2;
    /// A broadcast address.
    pub const BROADCAST: u32 = 3;
    /// A multicast group.
    pub const MULTICAST: u32 = 5;
    /// An address whose packets are dropped.
    pub const BLACKHOLE: u32 = 6;
}

/// Loads the routing table's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fib {
    /// What is asked for.
    pub result: FibResult,
    /// What is looked up.
    pub flags: FibFlags,
    /// Target register.
    pub dreg: Reg,
}

const NFTA_FIB_DREG: u16 = 1;
const NFTA_FIB_RESULT: u16 = 2;
const NFTA_FIB_FLAGS: u16 = 3;

impl Expression for Fib {
    const NAME: &'static str = "fib";

    fn encode(&self, w: &mut Writer) {
        w.be32(NFTA_FIB_DREG, self.dreg.number());
        w.be32(NFTA_FIB_RESULT, self.result.0);
        w.be32(NFTA_FIB_FLAGS, self.flags.0);
    }

    fn decode(nested: &[u8]) -> Result<Self, Malformed> {
        let (mut dreg, mut result, mut flags) = (None, None, FibFlags::NONE);
        for attr in attrs(nested) {
            let attr = attr?;
            match attr.kind {
                NFTA_FIB_DREG => dreg = Some(Reg::decode(&attr)?),
                NFTA_FIB_RESULT => result = Some(FibResult(attr.be32()?)),
                NFTA_FIB_FLAGS => flags = FibFlags(attr.be32()?),
                _ => {}
            }
        }
        match (dreg, result) {
            (Some(dreg), Some(result)) => Ok(Self {
                result,
                flags,
                dreg,
            }),
            _ => Err(Malformed("fib without result or register")),
        }
    }
}
