//! The access log: lines go to standard output, by a thread of their own. Whoever reads them slowly
//! loses lines, and no request waits for him.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use sortie_gateway::AccessLog;

/// Batches that wait to be written, of some 32 KiB each.
const WAITING: usize = 256;

/// Takes lines.
pub(super) struct ToOutput {
    lines: SyncSender<Vec<u8>>,
    /// Batches that were lost: all, and those that the log has told of.
    lost: Arc<AtomicU64>,
    told: AtomicU64,
}

impl ToOutput {
    /// Starts the thread; it ends with this.
    pub(super) fn start() -> io::Result<Self> {
        let (lines, waiting) = sync_channel::<Vec<u8>>(WAITING);
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || {
                let mut output = io::stdout();
                while let Ok(lines) = waiting.recv() {
                    // Nobody may be there to read it; requests go on without.
                    let _ = output.write_all(&lines).and_then(|()| output.flush());
                }
            })?;
        Ok(Self {
            lines,
            lost: Arc::default(),
            told: AtomicU64::new(0),
        })
    }

    /// How many batches were lost.
    pub(super) fn lost(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.lost)
    }
}

impl AccessLog for ToOutput {
    fn lines(&self, lines: &[u8]) {
        if self.lines.try_send(lines.to_vec()).is_ok() {
            let all = self.lost.load(Ordering::Relaxed);
            let lost = all - self.told.swap(all, Ordering::Relaxed).min(all);
            if lost > 0 {
                tracing::warn!(
                    lost,
                    "batches of the access log were lost: nobody reads standard output fast enough"
                );
            }
        } else {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}
