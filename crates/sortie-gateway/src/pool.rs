//! Idle connections to origins, found again only by all that makes them alike.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use sortie_api::workload::WorkloadId;
use tokio::time::Instant;

use crate::tls::Origination;
use crate::upstream::Upstream;

/// Idle connections of one key, at most.
const PER_KEY: usize = 64;

/// All that makes two connections alike. With one left out, a request would leave with another
/// one's source, or with another workload's connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) workload: WorkloadId,
    pub(crate) source: Option<IpAddr>,
    pub(crate) mark: u32,
    pub(crate) to: SocketAddr,
    pub(crate) policy: Option<Arc<str>>,
    /// How TLS was begun, and with which name.
    pub(crate) tls: Option<(Arc<Origination>, Box<str>)>,
    /// Whose streams of HTTP/2 it carries; those of two hosts are never on one. `None` for HTTP/1.
    pub(crate) http2: Option<Box<str>>,
}

/// The idle connections of one core. The one used last is used first.
#[derive(Default)]
pub(crate) struct Pool {
    idle: RefCell<HashMap<Key, Vec<(Instant, Upstream)>>>,
}

impl Pool {
    /// An idle connection that is still quiet.
    pub(crate) fn take(&self, key: &Key) -> Option<Upstream> {
        let mut idle = self.idle.borrow_mut();
        let alike = idle.get_mut(key)?;
        while let Some((_, mut upstream)) = alike.pop() {
            if upstream.is_quiet() {
                return Some(upstream);
            }
        }
        None
    }

    /// Keeps a connection whose last response has ended.
    pub(crate) fn put(&self, key: Key, upstream: Upstream) {
        let mut idle = self.idle.borrow_mut();
        let alike = idle.entry(key).or_default();
        if alike.len() < PER_KEY {
            alike.push((Instant::now(), upstream));
        }
    }

    /// Ends those that were idle for longer than the limit, or are not quiet.
    pub(crate) fn sweep(&self, limit: Duration) {
        let now = Instant::now();
        self.idle.borrow_mut().retain(|_, alike| {
            alike.retain_mut(|(since, upstream)| {
                now.duration_since(*since) < limit && upstream.is_quiet()
            });
            !alike.is_empty()
        });
    }

    /// Ends those of a workload.
    pub(crate) fn forget(&self, workload: &WorkloadId) {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|key, _| key.workload != *workload);
    }
}
