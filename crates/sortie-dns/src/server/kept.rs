//! Connections over TLS that are kept for the next question: a new one costs two round trips, and
//! asks the server to sign (RFC 7858 §3.4).

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::secure::{Connection, Way};

/// How long one waits (RFC 7766 §6.2.3 wants seconds).
const IDLE: Duration = Duration::from_secs(10);
/// How many of one way.
const OF_ONE: usize = 4;

/// Of each way the last that were used, the newest last.
#[derive(Clone)]
pub(super) struct Kept {
    idle: Duration,
    state: Arc<Mutex<State>>,
}

/// Since when it is idle.
type Idle = (Instant, Box<dyn Connection>);

#[derive(Default)]
struct State {
    ways: HashMap<Way, Vec<Idle>>,
    /// Somebody closes those that are idle.
    closing: bool,
}

impl Default for Kept {
    fn default() -> Self {
        Self::for_so_long(IDLE)
    }
}

impl Kept {
    fn for_so_long(idle: Duration) -> Self {
        let state = Arc::default();
        Self { idle, state }
    }

    /// The one that was used last: it is the likeliest to be open still.
    pub(super) fn take(&self, way: &Way) -> Option<Box<dyn Connection>> {
        let mut state = self.lock();
        let (since, connection) = state.ways.get_mut(way)?.pop()?;
        (since.elapsed() < self.idle).then_some(connection)
    }

    /// Keeps one that has nothing under way.
    pub(super) fn keep(&self, way: Way, connection: Box<dyn Connection>) {
        let mut state = self.lock();
        if !state.closing {
            state.closing = true;
            let all = self.clone();
            tokio::spawn(async move { all.close_idle().await });
        }
        let kept = state.ways.entry(way).or_default();
        if kept.len() == OF_ONE {
            kept.remove(0);
        }
        kept.push((Instant::now(), connection));
    }

    /// Runs while there is any.
    async fn close_idle(&self) {
        loop {
            sleep(self.idle).await;
            let mut state = self.lock();
            state.ways.retain(|_, kept| {
                kept.retain(|(since, _)| since.elapsed() < self.idle);
                !kept.is_empty()
            });
            if state.ways.is_empty() {
                state.closing = false;
                return;
            }
        }
    }

    // What a panic left is whole: each holder does one thing.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.lock().ways.keys()).finish()
    }
}
