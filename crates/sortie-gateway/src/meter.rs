//! What the gateway counts: each core for itself, put together when somebody reads.

mod audit;

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::ops::AddAssign;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sortie_api::workload::WorkloadId;
use sortie_plan::planner::audit::Outcome;

pub use audit::{Audits, Untold};

/// Series of one kind that a core keeps. Policies and addresses come and go for as long as the
/// process lives; what comes behind these is counted under [`OTHERS`].
const SERIES: usize = 2_048;

/// The policy of all that came when there were too many.
pub const OTHERS: &str = "(others)";

/// How a request or tunnel left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Left {
    /// Not at all: it was refused.
    #[default]
    Nowhere,
    /// As the host itself, with whatever source that is.
    AsHost,
    /// With the source that a policy wants.
    With(IpAddr),
}

/// Who decided, and what for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct By {
    /// The policy; none where none decided.
    pub policy: Option<Arc<str>>,
    /// With which source it was to leave.
    pub left: Left,
}

/// Requests and tunnels that have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    /// How many.
    pub count: u64,
    /// Bytes from clients, without heads.
    pub sent: u64,
    /// Bytes to clients, without heads.
    pub received: u64,
}

impl AddAssign for Carried {
    fn add_assign(&mut self, other: Self) {
        self.count += other.count;
        self.sent += other.sent;
        self.received += other.received;
    }
}

/// All that is counted, since the gateway was started.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Requests and tunnels that have ended, by what became of them: `ok`, the reason of a policy,
    /// or the type of error that `Proxy-Status` has.
    pub ended: HashMap<(By, &'static str), Carried>,
    /// Connections to origins that the kernel gave another source than they were to have. Nothing is
    /// sent on them.
    pub wrong_sources: HashMap<By, u64>,
    /// Connections that were not made because their source is not on this host.
    pub failed_binds: HashMap<By, u64>,
    /// Requests and tunnels that policies which only audit would have decided.
    pub audits: Audits,
    /// Clients' connections that are open.
    pub connections: u64,
    /// Clients' connections that were closed because their workload has too many.
    pub turned_away: u64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        for (of, carried) in &other.ended {
            *self.ended.entry(of.clone()).or_default() += *carried;
        }
        for (own, others) in [
            (&mut self.wrong_sources, &other.wrong_sources),
            (&mut self.failed_binds, &other.failed_binds),
        ] {
            for (by, count) in others {
                *own.entry(by.clone()).or_default() += count;
            }
        }
        self.audits.add(&other.audits);
        self.connections += other.connections;
        self.turned_away += other.turned_away;
    }
}

/// Reads what all cores have counted.
#[derive(Debug, Clone)]
pub struct Meter(Arc<[Counts]>);

impl Meter {
    pub(crate) fn of(counts: impl IntoIterator<Item = Counts>) -> Self {
        Self(counts.into_iter().collect())
    }

    /// As things are now.
    pub fn read(&self) -> Tally {
        self.0.iter().fold(Tally::default(), |mut all, core| {
            all.add(&core.lock());
            all
        })
    }

    /// What policies that only audit would have decided since this was asked last.
    pub fn untold_audits(&self) -> Untold {
        let mut all = Untold::default();
        for core in self.0.iter() {
            core.lock().audits.tell(&mut all);
        }
        all
    }
}

/// What one core counts. Only a reader ever makes it wait.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts(Arc<Mutex<Tally>>);

impl Counts {
    pub(crate) fn ended(&self, by: By, result: &'static str, sent: u64, received: u64) {
        let carried = Carried {
            count: 1,
            sent,
            received,
        };
        let others = (by.others(), result);
        *series(&mut self.lock().ended, (by, result), others) += carried;
    }

    pub(crate) fn wrong_source(&self, by: By) {
        let others = by.others();
        *series(&mut self.lock().wrong_sources, by, others) += 1;
    }

    pub(crate) fn failed_bind(&self, by: By) {
        let others = by.others();
        *series(&mut self.lock().failed_binds, by, others) += 1;
    }

    pub(crate) fn audited(&self, policy: Arc<str>, workload: &WorkloadId, outcome: Outcome) {
        self.lock().audits.count(policy, workload, outcome);
    }

    pub(crate) fn opened(&self) {
        self.lock().connections += 1;
    }

    pub(crate) fn closed(&self) {
        self.lock().connections -= 1;
    }

    pub(crate) fn turned_away(&self) {
        self.lock().turned_away += 1;
    }

    // What a panic left is whole: each holder does one thing.
    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl By {
    fn others(&self) -> Self {
        Self {
            policy: self.policy.is_some().then(|| OTHERS.into()),
            left: match self.left {
                Left::With(_) | Left::Nowhere => Left::Nowhere,
                Left::AsHost => Left::AsHost,
            },
        }
    }
}

/// The place of a series, or that of all for which there is no room.
fn series<K: Eq + Hash, V: Default>(all: &mut HashMap<K, V>, key: K, others: K) -> &mut V {
    let has_room = all.len() < SERIES || all.contains_key(&key);
    all.entry(if has_room { key } else { others }).or_default()
}

#[cfg(test)]
mod tests;
