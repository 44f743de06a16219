//! `counter` and `objref`: counting, anonymous or in a named object.

use super::{Expression, Reg};
use crate::wire::{Malformed, Writer, attrs};

/// Counts packets and their bytes, link-layer header excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

const NFTA_COUNTER_BYTES: u16 = 1;
const NFTA_COUNTER_PACKETS: u16 = 2;

impl Counter {
    pub(crate) fn encode_attrs(self, w: &mut Writer) {
        w.be64(NFTA_COUNTER_BYTES, self.bytes);
        w.be64(NFTA_COUNTER_PACKETS, self.packets);
    }

    pub(crate) fn decode_attrs(nested: &[u8]) -> Result<Self, Malformed> {
        let mut counter = Self::default();
        for attr in attrs(nested) {
            let attr = attr?;
            match attr.kind {
                NFTA_COUNTER_BYTES => counter.bytes = attr.be64()?,
                NFTA_COUNTER_PACKETS => counter.packets = attr.be64()?,
                _ => {}
            }
        }
        Ok(counter)
    }
}

impl Expression for Counter {
    const NAME: &'static str = "counter";

    fn encode(&self, w: &mut Writer) {
        self.encode_attrs(w);
    }

    fn decode(nested: &[u8]) -> Result<Self, Malformed> {
        Self::decode_attrs(nested)
    }
}

/// Refers to a named object of the table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Objref {
    /// The object's type (`NFT_OBJECT_*`); 1 is a counter.
    pub object_type: u32,
    /// The object's name.
    pub name: String,
}

const NFTA_OBJREF_IMM_TYPE: u16 = 1;
const NFTA_OBJREF_IMM_NAME: u16 = 2;
const NFTA_OBJREF_SET_SREG: u16 = 3;
const NFTA_OBJREF_SET_NAME: u16 = 4;

impl Expression for Objref {
    const NAME: &'static str = "objref";

    fn encode(&self, w: &mut Writer) {
        w.be32(NFTA_OBJREF_IMM_TYPE, self.object_type);
        w.str(NFTA_OBJREF_IMM_NAME, &self.name);
    }

    fn decode(nested: &[u8]) -> Result<Self, Malformed> {
        let (mut object_type, mut name) = (None, None);
        for attr in attrs(nested) {
            let attr = attr?;
            match attr.kind {
                NFTA_OBJREF_IMM_TYPE => object_type = Some(attr.be32()?),
                NFTA_OBJREF_IMM_NAME => name = Some(attr.string()),
                _ => {}
            }
        }
        match (object_type, name) {
            (Some(object_type), Some(name)) => Ok(Self { object_type, name }),
            _ => Err(Malformed("objref without type or name")),
        }
    }
}

/// Refers to the object that a map yields for the registers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjrefMap {
    /// The map's name.
    pub set: String,
    /// First register of the key.
    pub sreg: Reg,
}

impl Expression for ObjrefMap {
    const NAME: &'static str = "objref";

    fn encode(&self, w: &mut Writer) {
        w.be32(NFTA_OBJREF_SET_SREG, self.sreg.number());
        w.str(NFTA_OBJREF_SET_NAME, &self.set);
    }

    fn decode(nested: &[u8]) -> Result<Self, Malformed> {
        let (mut sreg, mut set) = (None, None);
        for attr in attrs(nested) {
            let attr = attr?;
            match attr.kind {
                NFTA_OBJREF_SET_SREG => sreg = Some(Reg::decode(&attr)?),
                NFTA_OBJREF_SET_NAME => set = Some(attr.string()),
                _ => {}
            }
        }
        match (sreg, set) {
            (Some(sreg), Some(set)) => Ok(Self { set, sreg }),
            _ => Err(Malformed("objref without register or set")),
        }
    }
}
