//! One lookup, from the client's message to the client's answer.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sortie_api::workload::WorkloadId;
use tokio::time::timeout;

use super::upstream::Failure;
use crate::answer::{Answer, Told};
use crate::cache::Cache;
use crate::learn::{Answered, Learn, NotLearned, Settled, settle};
use crate::memory::{Bounds, Memory};
use crate::metrics::{Metrics, Outcome};
use crate::name::DnsName;
use crate::names::{Interest, Learning, Names, Wanted};
use crate::question::Query;
use crate::refusal::Code;

/// How long the writer may take. A client asks again after 5 seconds.
const LEARN_LIMIT: Duration = Duration::from_secs(3);

/// What all workloads' lookups share.
#[derive(Debug)]
pub(super) struct Lookups<N, L> {
    names: N,
    learn: L,
    pub(super) metrics: Metrics,
    /// Names of policies, and how their addresses were told.
    learned: Mutex<Memory>,
    /// Other names.
    recent: Mutex<Memory>,
    cache: Mutex<Cache>,
}

/// Who asks whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) workload: &'a WorkloadId,
    pub(super) server: SocketAddr,
}

/// The client's answer, and how it came about. None where the server gave none.
pub(super) type Ended = (Option<Vec<u8>>, Outcome);

impl<N: Names, L: Learn> Lookups<N, L> {
    pub(super) fn new(names: N, learn: L, metrics: Metrics, cache: usize) -> Self {
        Self {
            names,
            learn,
            metrics,
            learned: Mutex::new(Memory::new(Bounds::LEARNED)),
            recent: Mutex::new(Memory::new(Bounds::RECENT)),
            cache: Mutex::new(Cache::new(cache)),
        }
    }

    /// Answers a query, in this order:
    ///
    /// 1. Names that the workload may not ask for are refused.
    /// 2. Answers for names of policies may be known already. Else the server is asked.
    /// 3. Where it does not answer the client is not answered; where it cannot be reached the client
    ///    is told at once.
    /// 4. Answers without addresses go back as they are.
    /// 5. All others as [`Lookups::told`].
    pub(super) async fn answer(
        &self,
        asked: Asked<'_>,
        query: &Query,
        ask: impl Future<Output = Result<Vec<u8>, Failure>>,
    ) -> Ended {
        let host = query.host();
        let wanted = match self.names.look_up(asked.workload, &host) {
            Interest::Forward(wanted) => wanted,
            Interest::Refused(policy) => {
                let why = format!("policy {} allows lookups of its own hosts only", policy.0);
                return (
                    Some(query.refuse(Code::NotOneOfThese, Some(&why))),
                    Outcome::Refused,
                );
            }
        };
        let of_policy = wanted.learning == Learning::Required;
        let known = of_policy
            .then(|| lock(&self.cache).get(asked.workload, asked.server, query, Instant::now()));
        let answer = if let Some(known) = known.flatten() {
            self.metrics.was_cached();
            known
        } else {
            match ask.await {
                Ok(answer) => {
                    if of_policy {
                        let now = Instant::now();
                        lock(&self.cache).keep(asked.workload, asked.server, query, &answer, now);
                    }
                    answer
                }
                Err(Failure::Timeout) => return (None, Outcome::Timeout),
                Err(Failure::Unreachable(error)) => {
                    let why = format!("{} cannot be reached: {error}", asked.server);
                    let refused = query.refuse(Code::Unreachable, Some(&why));
                    return (Some(refused), Outcome::Unreachable);
                }
            }
        };
        if !query.asks_addresses() {
            return (Some(answer), Outcome::Unchanged);
        }
        self.told(asked.workload, query, &host, wanted, answer)
            .await
    }

    /// What the client is told of a server's answer, in this order:
    ///
    /// 1. No policy names the host: the answer as it is, and its addresses are remembered.
    /// 2. It cannot be read: likewise if nothing is wanted of it, else the client gets none.
    /// 3. The kernel learns its addresses, or [`settle`] says what holds without that.
    /// 4. Addresses are kept, replaced or left out.
    async fn told(
        &self,
        workload: &WorkloadId,
        query: &Query,
        host: &DnsName,
        wanted: Wanted,
        answer: Vec<u8>,
    ) -> Ended {
        let read = match Answer::read(&answer) {
            Ok(read) => read,
            Err(_) if wanted == Wanted::NOTHING => return (Some(answer), Outcome::Unchanged),
            Err(error) => {
                let refused = query.refuse(Code::BadAnswer, Some(&error.to_string()));
                return (Some(refused), Outcome::BadAnswer);
            }
        };
        let addresses = read.addresses(wanted);
        if wanted.learning != Learning::Required {
            let all: Vec<_> = addresses.iter().map(|it| (*it, Answered::Kept)).collect();
            lock(&self.recent)
                .of_mut(workload)
                .note(host, &all, Instant::now());
        }
        if wanted == Wanted::NOTHING {
            return (Some(answer), Outcome::Unchanged);
        }
        let told = if wanted.learning == Learning::Unneeded || addresses.is_empty() {
            None
        } else {
            match self
                .learn(workload, host, wanted.learning, &addresses)
                .await
            {
                Settled::Told(told) => Some(addresses.into_iter().zip(told).collect()),
                Settled::Unchanged => None,
                Settled::Failed(why) => {
                    tracing::warn!(workload = workload.as_str(), name = %host, why, "a lookup has no answer");
                    let refused = query.refuse(Code::NotLearned, Some(&why));
                    return (Some(refused), Outcome::NotLearned);
                }
            }
        };
        let told: Option<HashMap<IpAddr, Answered>> = told;
        let fate = |address| match &told {
            Some(told) => told.get(&address).copied().unwrap_or(Answered::LeftOut),
            None => Answered::Kept,
        };
        match read.told(wanted, &fate) {
            Ok(Told::Unchanged) => (Some(answer), Outcome::Unchanged),
            Ok(Told::Changed(changed)) => (Some(changed), Outcome::Changed),
            Err(error) => {
                let refused = query.refuse(Code::BadAnswer, Some(&error.to_string()));
                (Some(refused), Outcome::BadAnswer)
            }
        }
    }

    async fn learn(
        &self,
        workload: &WorkloadId,
        host: &DnsName,
        learning: Learning,
        addresses: &[IpAddr],
    ) -> Settled {
        let learned = timeout(LEARN_LIMIT, self.learn.learned(workload, host, addresses)).await;
        let learned = learned.unwrap_or_else(|_| {
            let seconds = LEARN_LIMIT.as_secs();
            Err(NotLearned::Away(format!("nothing came within {seconds} s")))
        });
        let new = learned.is_ok();
        let settled = settle(learning, addresses.len(), learned, || {
            lock(&self.learned).of(workload)?.recall(host, addresses)
        });
        if let (true, Settled::Told(told)) = (new, &settled) {
            self.metrics.learned(told.len());
            let told: Vec<_> = addresses
                .iter()
                .copied()
                .zip(told.iter().copied())
                .collect();
            lock(&self.learned)
                .of_mut(workload)
                .note(host, &told, Instant::now());
        }
        settled
    }

    /// Policies have changed: what a workload was told of names that a policy names now is learned.
    pub(super) async fn look_again(&self, workload: &WorkloadId) {
        let recent = lock(&self.recent)
            .of(workload)
            .map(crate::memory::History::all);
        for remembered in recent.unwrap_or_default() {
            let Interest::Forward(wanted) = self.names.question(workload, &remembered.name) else {
                continue;
            };
            let addresses: Vec<IpAddr> = remembered
                .addresses
                .iter()
                .map(|(address, _)| *address)
                .filter(|address| wanted.families.has(address.is_ipv6()))
                .collect();
            if wanted.learning != Learning::Required || addresses.is_empty() {
                continue;
            }
            let name = &remembered.name;
            match self
                .learn(workload, name, wanted.learning, &addresses)
                .await
            {
                Settled::Told(_) => lock(&self.recent).of_mut(workload).forget(name),
                Settled::Unchanged => {}
                Settled::Failed(why) => {
                    tracing::warn!(workload = workload.as_str(), %name, why, "a new policy does not reach a name that was looked up before; it will at the next lookup");
                }
            }
        }
    }

    /// A workload has ended.
    pub(super) fn forget(&self, workload: &WorkloadId) {
        lock(&self.learned).forget(workload);
        lock(&self.recent).forget(workload);
        lock(&self.cache).forget(workload);
    }
}

/// What a panic left is whole: each holder only adds or takes entries.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
