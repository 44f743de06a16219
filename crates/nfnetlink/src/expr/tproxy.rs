//! `tproxy`: transparent proxying.

use super::{Expression, Reg};
use crate::Family;
use crate::wire::{Malformed, Writer, attrs};

/// Hands the packet to a local transparent socket, without changing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tproxy {
    /// [`Family::Ip`], [`Family::Ip6`], or [`Family::Unspec`] for both.
    pub family: Family,
    /// The socket's address; `None` for the input device's.
    pub addr: Option<Reg>,
    /// The socket's port; `None` for the packet's.
    pub port: Option<Reg>,
}

const NFTA_TPROXY_FAMILY: u16 = 1;
const NFTA_TPROXY_REG_ADDR: u16 = 2;
const NFTA_TPROXY_REG_PORT: u16 = 3;

impl Expression for Tproxy {
    const NAME: &'static str = "tproxy";

    fn encode(&self, w: &mut Writer) {
        w.be32(NFTA_TPROXY_FAMILY, self.family.number().into());
        if let Some(addr) = self.addr {
            w.be32(NFTA_TPROXY_REG_ADDR, addr.number());
        }
        if let Some(port) = self.port {
            w.be32(NFTA_TPROXY_REG_PORT, port.number());
        }
    }

    fn decode(nested: &[u8]) -> Result<Self, Malformed> {
        let (mut family, mut addr, mut port) = (Family::Unspec, None, None);
        for attr in attrs(nested) {
            let attr = attr?;
            match attr.kind {
                NFTA_TPROXY_FAMILY => {
                    let number = u8::try_from(attr.be32()?)
                        .map_err(|_| Malformed("tproxy of an unknown family"))?;
                    family = Family::from_number(number);
                }
                NFTA_TPROXY_REG_ADDR => addr = Some(Reg::decode(&attr)?),
                NFTA_TPROXY_REG_PORT => port = Some(Reg::decode(&attr)?),
                _ => {}
            }
        }
        Ok(Self { family, addr, port })
    }
}
