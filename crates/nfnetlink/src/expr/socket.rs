//! `socket` and `numgen`: the packet's socket, and generated numbers.

use super::{Expression, Reg};
use crate::uapi::open_enum;
use crate::wire::{Malformed, Writer, attrs};

open_enum! {
    /// Which property of the socket (`enum nft_socket_keys`).
    pub SocketKey: u32 {
        TRANSPARENT = 0, "transparent";
        MARK = 1, "mark";
        WILDCARD = 2, "wildcard";
        CGROUPV2 = 3, "cgroupv2";
    }
}

/// Loads a property of the socket that the packet is for, or from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SocketExpr {
    /// Property.
    pub key: SocketKey,
    /// With [`SocketKey::CGROUPV2`]: which ancestor, from 1 below the root.
    pub level: Option<u32>,
    /// First target register; a cgroup's id takes 8 bytes.
    pub dreg: Reg,
}

const NFTA_SOCKET_KEY: u16 = 1;
const NFTA_SOCKET_DREG: u16 = 2;
const NFTA_SOCKET_LEVEL: u16 = 3;

impl Expression for SocketExpr {
    const NAME: &'static str = "socket";

    fn encode(&self, w: &mut Writer) {
        w.be32(NFTA_SOCKET_KEY, self.key.0);
        w.be32(NFTA_SOCKET_DREG, self.dreg.number());
        if let Some(level) = self.level {
            w.be32(NFTA_SOCKET_LEVEL, level);
        }
    }

    fn decode(nested: &[u8]) -> Result<Self, Malformed> {
        let (mut key, mut dreg, mut level) = (None, None, None);
        for attr in attrs(nested) {
            let attr = attr?;
            match attr.kind {
                NFTA_SOCKET_KEY => key = Some(SocketKey(attr.be32()?)),
                NFTA_SOCKET_DREG => dreg = Some(Reg::decode(&attr)?),
                NFTA_SOCKET_LEVEL => level = Some(attr.be32()?),
                _ => {}
            }
        }
        match (key, dreg) {
            (Some(key), Some(dreg)) => Ok(Self { key, level, dreg }),
            _ => Err(Malformed("socket without key or register")),
        }
    }
}

/// Loads a number from `offset` to `offset + modulus - 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Numgen {
    /// Target register.
    pub dreg: Reg,
    /// How many different numbers.
    pub modulus: u32,
    /// Drawn at random instead of counted up.
    pub random: bool,
    /// The lowest number.
    pub offset: u32,
}

const NFTA_NG_DREG: u16 = 1;
const NFTA_NG_MODULUS: u16 = 2;
const NFTA_NG_TYPE: u16 = 3;
const NFTA_NG_OFFSET: u16 = 4;
const NFT_NG_RANDOM: u32 = 1;

impl Expression for Numgen {
    const NAME: &'static str = "numgen";

    fn encode(&self, w: &mut Writer) {
        w.be32(NFTA_NG_DREG, self.dreg.number());
        w.be32(NFTA_NG_MODULUS, self.modulus);
        w.be32(NFTA_NG_TYPE, u32::from(self.random));
        w.be32(NFTA_NG_OFFSET, self.offset);
    }

    fn decode(nested: &[u8]) -> Result<Self, Malformed> {
        let (mut dreg, mut modulus, mut kind, mut offset) = (None, 0, 0, 0);
        for attr in attrs(nested) {
            let attr = attr?;
            match attr.kind {
                NFTA_NG_DREG => dreg = Some(Reg::decode(&attr)?),
                NFTA_NG_MODULUS => modulus = attr.be32()?,
                NFTA_NG_TYPE => kind = attr.be32()?,
                NFTA_NG_OFFSET => offset = attr.be32()?,
                _ => {}
            }
        }
        Ok(Self {
            dreg: dreg.ok_or(Malformed("numgen without a register"))?,
            modulus,
            random: kind == NFT_NG_RANDOM,
            offset,
        })
    }
}
