//! `log`: to the kernel's log, or to an NFLOG group.

use super::Expression;
use crate::wire::{Malformed, Writer, attrs};

/// Logs the packet and goes on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Log {
    /// The NFLOG group; without one, the kernel's own log.
    pub group: Option<u16>,
    /// Text before each packet, up to 127 bytes.
    pub prefix: Option<String>,
    /// Bytes of the packet to copy; `None` leaves it to the group's reader.
    pub snaplen: Option<u32>,
    /// Packets to collect in the kernel before they are sent; `None` leaves it to the reader.
    pub qthreshold: Option<u16>,
    /// The kernel log's level (`enum nft_log_level`).
    pub level: Option<u32>,
    /// What the kernel's log shows besides (`NF_LOG_*`).
    pub flags: u32,
}

const NFTA_LOG_GROUP: u16 = 1;
const NFTA_LOG_PREFIX: u16 = 2;
const NFTA_LOG_SNAPLEN: u16 = 3;
const NFTA_LOG_QTHRESHOLD: u16 = 4;
const NFTA_LOG_LEVEL: u16 = 5;
const NFTA_LOG_FLAGS: u16 = 6;

impl Log {
    /// To an NFLOG group, with a prefix.
    pub fn group(group: u16, prefix: impl Into<String>) -> Self {
        Self {
            group: Some(group),
            prefix: Some(prefix.into()),
            ..Self::default()
        }
    }
}

impl Expression for Log {
    const NAME: &'static str = "log";

    fn encode(&self, w: &mut Writer) {
        if let Some(prefix) = &self.prefix {
            w.str(NFTA_LOG_PREFIX, prefix);
        }
        if let Some(group) = self.group {
            w.be16(NFTA_LOG_GROUP, group);
        }
        if let Some(snaplen) = self.snaplen {
            w.be32(NFTA_LOG_SNAPLEN, snaplen);
        }
        if let Some(qthreshold) = self.qthreshold {
            w.be16(NFTA_LOG_QTHRESHOLD, qthreshold);
        }
        if let Some(level) = self.level {
            w.be32(NFTA_LOG_LEVEL, level);
        }
        if self.flags != 0 {
            w.be32(NFTA_LOG_FLAGS, self.flags);
        }
    }

    fn decode(nested: &[u8]) -> Result<Self, Malformed> {
        let mut log = Self::default();
        for attr in attrs(nested) {
            let attr = attr?;
            match attr.kind {
                NFTA_LOG_GROUP => log.group = Some(attr.be16()?),
                NFTA_LOG_PREFIX => log.prefix = Some(attr.string()),
                NFTA_LOG_SNAPLEN => log.snaplen = Some(attr.be32()?),
                NFTA_LOG_QTHRESHOLD => log.qthreshold = Some(attr.be16()?),
                NFTA_LOG_LEVEL => log.level = Some(attr.be32()?),
                NFTA_LOG_FLAGS => log.flags = attr.be32()?,
                _ => {}
            }
        }
        Ok(log)
    }
}
