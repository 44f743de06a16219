//! Tells when somebody else changes our tables: who does not own them cannot keep others from it.

#[cfg(test)]
mod tests;

use std::time::Duration;

use nfnetlink::monitor::{self, Touch};
use nfnetlink::{Listener, Notice};
use sortie_plan::nft::Family;

use crate::error::{Error, netfilter};
use crate::kernel::Kernel;
use crate::lower::{self, TABLE};

/// How long the end of a transaction may take after its changes.
const REST: Duration = Duration::from_millis(100);

/// What others did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// A transaction of somebody else changed or deleted a table of ours.
    Changed,
    /// Changes came faster than they were read: some may have been of our tables.
    Lost,
}

/// Listens for transactions that other sockets make.
#[derive(Debug)]
pub struct TableWatch {
    listener: Listener<Touch>,
    /// The socket whose changes are our own.
    own: u32,
}

impl TableWatch {
    /// Subscribes in the calling thread's network namespace, where the kernel's tables are. None
    /// where they are owned, so that nobody else can change them.
    pub fn open(kernel: &Kernel) -> Result<Option<Self>, Error> {
        if kernel.owns_tables() {
            return Ok(None);
        }
        let failed = netfilter("watch our tables");
        Ok(Some(Self {
            listener: monitor::listen_to_touches().map_err(failed)?,
            own: kernel.nft.port().map_err(failed)?,
        }))
    }

    /// Waits for a change by somebody else, as long as `limit` while nothing is changed at all.
    pub fn next(&mut self, limit: Duration) -> Result<Option<Foreign>, Error> {
        let mut changed = false;
        loop {
            let notice = self.listener.next(if changed { REST } else { limit });
            match notice.map_err(netfilter("watch our tables"))? {
                None => return Ok(changed.then_some(Foreign::Changed)),
                Some(Notice::Lost) => {
                    self.drain()?;
                    return Ok(Some(Foreign::Lost));
                }
                Some(Notice::Event(touch)) if touch.port == self.own => {}
                Some(Notice::Event(Touch { table: None, .. })) if changed => {
                    return Ok(Some(Foreign::Changed));
                }
                Some(Notice::Event(touch)) => changed |= touch.table.is_some_and(is_ours),
            }
        }
    }

    /// After an overrun the kernel drops everything, silently, until the queue is empty: what
    /// changed after our tables were looked at would be missed.
    fn drain(&mut self) -> Result<(), Error> {
        let mut next = || {
            self.listener
                .next(Duration::ZERO)
                .map_err(netfilter("watch our tables"))
        };
        while next()?.is_some() {}
        Ok(())
    }
}

fn is_ours((family, table): (nfnetlink::Family, String)) -> bool {
    table == TABLE && Family::ALL.map(lower::family).contains(&family)
}
