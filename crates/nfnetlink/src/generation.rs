//! The ruleset's generation, which grows with each transaction, and what the kernel can.

use crate::socket::{Reply, Request};
use crate::uapi::nft::{
    NFT_MSG_DESTROYTABLE, NFT_MSG_GETGEN, NFTA_GEN_ID, NFTA_GEN_PROC_NAME, NFTA_GEN_PROC_PID,
    NFTA_TABLE_NAME,
};
use crate::uapi::nl::{NFNL_SUBSYS_NFTABLES, message_type};
use crate::wire::{Malformed, attrs};
use crate::{Batch, Error, Family, Socket};

/// A generation of the namespace's ruleset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// Its number.
    pub id: u32,
    /// The thread that made it, or that asks: the kernel tells the thread id (`gettid`),
    /// which in a process of one thread is the process id.
    pub pid: Option<u32>,
    /// That thread's name (`comm`).
    pub process: Option<String>,
}

impl Generation {
    pub(crate) fn decode(reply: Reply<'_>) -> Result<Self, Malformed> {
        let (mut id, mut pid, mut process) = (None, None, None);
        for attr in attrs(reply.attrs) {
            let attr = attr?;
            match attr.kind {
                NFTA_GEN_ID => id = Some(attr.be32()?),
                NFTA_GEN_PROC_PID => pid = Some(attr.be32()?),
                NFTA_GEN_PROC_NAME => process = Some(attr.string()),
                _ => {}
            }
        }
        let id = id.ok_or(Malformed("a generation without a number"))?;
        Ok(Self { id, pid, process })
    }
}

impl Socket {
    /// The ruleset's generation: for [`Batch::at_generation`].
    pub fn generation(&mut self) -> Result<u32, Error> {
        let kind = message_type(NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN);
        let request = Request::new(kind, Family::Unspec, "get generation");
        let found = self.get(&request, |_| {}, Generation::decode)?;
        found.map(|generation| generation.id).ok_or_else(|| {
            Error::malformed(
                "get generation",
                Malformed("an answer without a generation"),
            )
        })
    }

    /// Whether the kernel has the idempotent `destroy` operations (6.3), found out by
    /// destroying a table that cannot be there.
    pub fn supports_destroy(&mut self) -> Result<bool, Error> {
        let mut batch = Batch::new();
        let operation = "destroy a table that is not there".to_owned();
        // `.` never names a table: names that begin so are nobody's, and it is only a probe.
        batch.push(NFT_MSG_DESTROYTABLE, 0, Family::Inet, operation, |w| {
            w.str(NFTA_TABLE_NAME, ".nfnetlink-probe");
        });
        match self.commit(&batch) {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(libc::EINVAL) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
