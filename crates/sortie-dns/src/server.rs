//! The resolver at work: workloads come and go, their lookups are answered.

mod desk;
mod inside;
mod kept;
mod lookup;
mod original;
mod stub;
mod upstream;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use sortie_api::workload::WorkloadId;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::desk::{Desk, Shared};
pub use self::inside::{Former, Inside, Listeners};
use self::lookup::Lookups;
pub use self::stub::{Found, Stub};
use self::upstream::Upstream;
use crate::learn::Learn;
use crate::metrics::Metrics;
use crate::names::Names;
use crate::secure::Secure;

/// What the resolver is told.
#[derive(Debug)]
pub enum Change {
    /// A workload's lookups are redirected to these listeners, or will be. One of the same id takes
    /// the former's place.
    Started {
        /// Which.
        workload: WorkloadId,
        /// Its network namespace.
        namespace: Arc<File>,
        /// Made by [`Inside::listen`] in that namespace.
        listeners: Listeners,
    },
    /// A workload has ended: what it was told is forgotten.
    Ended(WorkloadId),
    /// [`Names`] may say something else now: names that workloads were told before are learned
    /// where a policy names them.
    PoliciesChanged,
}

/// How much, and how marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The mark of the resolver's own sockets, which the redirect passes by.
    pub mark: u32,
    /// Lookups of one workload at once; more are dropped, and asked again by their client.
    pub lookups_of_one: usize,
    /// Lookups of all workloads at once. Each takes a file descriptor.
    pub lookups: usize,
    /// Answers in the cache.
    pub cache: usize,
    /// How long lookups may still take when the resolver closes.
    pub drain: Duration,
}

impl Settings {
    /// For any host, with this mark.
    pub fn with_mark(mark: u32) -> Self {
        Self {
            mark,
            lookups_of_one: 512,
            lookups: 16_384,
            cache: 10_000,
            drain: Duration::from_secs(5),
        }
    }
}

/// Answers workloads' lookups until nobody can tell changes any more; then those that are being
/// answered, for [`Settings::drain`] at most. Runs on a runtime of tokio with network and time.
///
/// A workload is four sockets, one for conntrack, its namespace's file, and a task for each of the
/// four: six descriptors, and 10 kB of memory beside the kernel's (measured with 2,000). The number
/// of threads is the runtime's, and one.
pub async fn serve<N: Names, L: Learn>(
    mut changes: mpsc::Receiver<Change>,
    inside: Inside,
    names: N,
    learn: L,
    secure: Option<Arc<dyn Secure>>,
    metrics: Metrics,
    settings: Settings,
) {
    let shared = Arc::new(Shared {
        lookups: Lookups::new(names, learn, metrics.clone(), settings.cache),
        upstream: Upstream::new(inside, settings.mark, secure),
        all: Arc::new(Semaphore::new(settings.lookups)),
        of_one: settings.lookups_of_one,
    });
    let (close, closing) = watch::channel(false);
    let mut workloads: HashMap<WorkloadId, JoinSet<()>> = HashMap::new();
    while let Some(change) = changes.recv().await {
        match change {
            Change::Started {
                workload,
                namespace,
                listeners,
            } => {
                // The former one's sockets close before its names are forgotten.
                workloads.remove(&workload);
                shared.lookups.forget(&workload);
                let started = start(&shared, &workload, namespace, listeners, &closing);
                match started {
                    Ok(tasks) => _ = workloads.insert(workload, tasks),
                    Err(error) => {
                        tracing::error!(workload = workload.as_str(), %error, "its lookups cannot be answered");
                    }
                }
            }
            Change::Ended(workload) => {
                workloads.remove(&workload);
                shared.lookups.forget(&workload);
            }
            Change::PoliciesChanged => {
                // Beside what else comes: the writer may be away.
                for (workload, tasks) in &mut workloads {
                    let (shared, workload) = (Arc::clone(&shared), workload.clone());
                    tasks.spawn(async move { shared.lookups.look_again(&workload).await });
                }
            }
        }
        metrics.serves(workloads.len());
    }
    // Who has gone already does not wait for it.
    let _ = close.send(true);
    let drained = async {
        for (_, mut tasks) in workloads.drain() {
            while tasks.join_next().await.is_some() {}
        }
    };
    if timeout(settings.drain, drained).await.is_err() {
        tracing::warn!(limit = ?settings.drain, "closing while lookups are still without an answer");
    }
}

/// The tasks of one workload. They end with what holds them.
fn start<N: Names, L: Learn>(
    shared: &Arc<Shared<N, L>>,
    workload: &WorkloadId,
    namespace: Arc<File>,
    listeners: Listeners,
    closing: &watch::Receiver<bool>,
) -> io::Result<JoinSet<()>> {
    let desk = Arc::new(Desk::new(
        Arc::clone(shared),
        workload.clone(),
        namespace,
        listeners.tracking,
        closing.clone(),
    ));
    let mut tasks = JoinSet::new();
    for socket in listeners.udp {
        let socket = UdpSocket::from_std(socket)?;
        tasks.spawn(Arc::clone(&desk).datagrams(socket));
    }
    for listener in listeners.tcp {
        let listener = TcpListener::from_std(listener)?;
        tasks.spawn(Arc::clone(&desk).connections(listener));
    }
    Ok(tasks)
}
