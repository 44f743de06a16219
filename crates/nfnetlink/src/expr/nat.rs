//! `nat`, `masq` and `redir`: address translation.

use super::{Expression, Reg};
use crate::Family;
use crate::uapi::bit_flags;
use crate::wire::{Malformed, Writer, attrs};

bit_flags! {
    /// How to choose address and port (`NF_NAT_RANGE_*`, `linux/netfilter/nf_nat.h`).
    pub NatFlags: u32 {
        /// An address is given; the kernel sets it itself from the registers.
        MAP_IPS = 1;
        /// Ports are given; the kernel sets it itself from the registers.
        PROTO_SPECIFIED = 2;
        /// A random port.
        PROTO_RANDOM = 4;
        /// The same address for a client's every connection.
        PERSISTENT = 8;
        /// A random port, without a hash of the addresses.
        PROTO_RANDOM_FULLY = 16;
        /// Prefix to prefix.
        NETMAP = 64;
    }
}

/// Which address is translated (`enum nft_nat_types`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NatType {
    /// The source.
    Snat,
    /// The destination.
    Dnat,
}

/// Translates the packet's source or destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nat {
    /// Source or destination.
    pub nat_type: NatType,
    /// [`Family::Ip`] or [`Family::Ip6`]: what the address registers hold.
    pub family: Family,
    /// Lowest address.
    pub addr_min: Option<Reg>,
    /// Highest address; with one address, absent or the same register.
    pub addr_max: Option<Reg>,
    /// Lowest port.
    pub proto_min: Option<Reg>,
    /// Highest port.
    pub proto_max: Option<Reg>,
    /// Flags.
    pub flags: NatFlags,
}

const NFTA_NAT_TYPE: u16 = 1;
const NFTA_NAT_FAMILY: u16 = 2;
const NFTA_NAT_REG_ADDR_MIN: u16 = 3;
const NFTA_NAT_REG_ADDR_MAX: u16 = 4;
const NFTA_NAT_REG_PROTO_MIN: u16 = 5;
const NFTA_NAT_REG_PROTO_MAX: u16 = 6;
const NFTA_NAT_FLAGS: u16 = 7;
const NFT_NAT_DNAT: u32 = 1;

/// Writes a register where there is one.
fn put(w: &mut Writer, kind: u16, reg: Option<Reg>) {
    if let Some(reg) = reg {
        w.be32(kind, reg.number());
    }
}

impl Expression for Nat {
    const NAME: &'static str = "nat";

    fn encode(&self, w: &mut Writer) {
        w.be32(NFTA_NAT_TYPE, u32::from(self.nat_type == NatType::Dnat));
        w.be32(NFTA_NAT_FAMILY, self.family.number().into());
        put(w, NFTA_NAT_REG_ADDR_MIN, self.addr_min);
        put(w, NFTA_NAT_REG_ADDR_MAX, self.addr_max);
        put(w, NFTA_NAT_REG_PROTO_MIN, self.proto_min);
        put(w, NFTA_NAT_REG_PROTO_MAX, self.proto_max);
        if self.flags != NatFlags::NONE {
            w.be32(NFTA_NAT_FLAGS, self.flags.0);
        }
    }

    fn decode(nested: &[u8]) -> Result<Self, Malformed> {
        let mut nat = Self {
            nat_type: NatType::Snat,
            family: Family::Unspec,
            addr_min: None,
            addr_max: None,
            proto_min: None,
            proto_max: None,
            flags: NatFlags::NONE,
        };
        for attr in attrs(nested) {
            let attr = attr?;
            match attr.kind {
                NFTA_NAT_TYPE if attr.be32()? == NFT_NAT_DNAT => nat.nat_type = NatType::Dnat,
                NFTA_NAT_FAMILY => {
                    let number = u8::try_from(attr.be32()?)
                        .map_err(|_| Malformed("nat of an unknown family"))?;
                    nat.family = Family::from_number(number);
                }
                NFTA_NAT_REG_ADDR_MIN => nat.addr_min = Some(Reg::decode(&attr)?),
                NFTA_NAT_REG_ADDR_MAX => nat.addr_max = Some(Reg::decode(&attr)?),
                NFTA_NAT_REG_PROTO_MIN => nat.proto_min = Some(Reg::decode(&attr)?),
                NFTA_NAT_REG_PROTO_MAX => nat.proto_max = Some(Reg::decode(&attr)?),
                NFTA_NAT_FLAGS => nat.flags = NatFlags(attr.be32()?),
                _ => {}
            }
        }
        Ok(nat)
    }
}

/// Translates the source to the output device's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Masq {
    /// Flags.
    pub flags: NatFlags,
    /// Lowest port.
    pub proto_min: Option<Reg>,
    /// Highest port.
    pub proto_max: Option<Reg>,
}

const NFTA_MASQ_FLAGS: u16 = 1;
const NFTA_MASQ_REG_PROTO_MIN: u16 = 2;
const NFTA_MASQ_REG_PROTO_MAX: u16 = 3;

impl Expression for Masq {
    const NAME: &'static str = "masq";

    fn encode(&self, w: &mut Writer) {
        if self.flags != NatFlags::NONE {
            w.be32(NFTA_MASQ_FLAGS, self.flags.0);
        }
        put(w, NFTA_MASQ_REG_PROTO_MIN, self.proto_min);
        put(w, NFTA_MASQ_REG_PROTO_MAX, self.proto_max);
    }

    fn decode(nested: &[u8]) -> Result<Self, Malformed> {
        let mut masq = Self::default();
        for attr in attrs(nested) {
            let attr = attr?;
            match attr.kind {
                NFTA_MASQ_FLAGS => masq.flags = NatFlags(attr.be32()?),
                NFTA_MASQ_REG_PROTO_MIN => masq.proto_min = Some(Reg::decode(&attr)?),
                NFTA_MASQ_REG_PROTO_MAX => masq.proto_max = Some(Reg::decode(&attr)?),
                _ => {}
            }
        }
        Ok(masq)
    }
}

/// Translates the destination to this host's address on the input device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Redir {
    /// Lowest port.
    pub proto_min: Option<Reg>,
    /// Highest port.
    pub proto_max: Option<Reg>,
    /// Flags.
    pub flags: NatFlags,
}

const NFTA_REDIR_REG_PROTO_MIN: u16 = 1;
const NFTA_REDIR_REG_PROTO_MAX: u16 = 2;
const NFTA_REDIR_FLAGS: u16 = 3;

impl Expression for Redir {
    const NAME: &'static str = "redir";

    fn encode(&self, w: &mut Writer) {
        put(w, NFTA_REDIR_REG_PROTO_MIN, self.proto_min);
        put(w, NFTA_REDIR_REG_PROTO_MAX, self.proto_max);
        if self.flags != NatFlags::NONE {
            w.be32(NFTA_REDIR_FLAGS, self.flags.0);
        }
    }

    fn decode(nested: &[u8]) -> Result<Self, Malformed> {
        let mut redir = Self::default();
        for attr in attrs(nested) {
            let attr = attr?;
            match attr.kind {
                NFTA_REDIR_REG_PROTO_MIN => redir.proto_min = Some(Reg::decode(&attr)?),
                NFTA_REDIR_REG_PROTO_MAX => redir.proto_max = Some(Reg::decode(&attr)?),
                NFTA_REDIR_FLAGS => redir.flags = NatFlags(attr.be32()?),
                _ => {}
            }
        }
        Ok(redir)
    }
}
