//! Containers that have their egress address themselves: engines set their default routes anew with
//! every network that comes or goes, before they tell of it or a moment behind.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sortie_kernel::Look;

use super::Core;

/// How often and for how long a container is looked into after its engine has told of a change.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// The processes of those that are looked into again: when next, and when last.
#[derive(Debug, Default)]
pub(super) struct OwnChecks(BTreeMap<u32, (Instant, Instant)>);

impl OwnChecks {
    /// When the next one is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0.values().map(|(next, _)| *next).min()
    }
}

impl Core {
    /// Whether a container has an egress address itself.
    pub(super) fn has_own(&self, pid: u32) -> bool {
        let network = self.planner.desired_network();
        network.own.keys().any(|own| own.pid == pid)
    }

    /// Puts right what the engine has set in it, now and for a while.
    pub(super) fn look_into_own(&mut self, pid: u32) {
        self.repair_network(Look::Into(pid));
        let now = Instant::now();
        self.own.0.insert(pid, (now + AGAIN.0, now + AGAIN.1));
    }

    pub(super) fn look_again_into_own(&mut self, now: Instant) {
        let due = self.own.0.iter().filter(|(_, (next, _))| *next <= now);
        for pid in due.map(|(pid, _)| *pid).collect::<Vec<_>>() {
            if self.has_own(pid) {
                self.repair_network(Look::Into(pid));
            } else {
                self.own.0.remove(&pid);
            }
            if let Some((next, _)) = self.own.0.get_mut(&pid) {
                *next = now + AGAIN.0;
            }
        }
        self.own.0.retain(|_, (_, last)| now < *last);
    }
}
