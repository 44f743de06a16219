//! Sockets that outlive the process: the service manager keeps copies of those that listen, what comes
//! while no gateway runs waits in their queues, and the next gateway takes them up. One that is started
//! beside this one gets copies too (`successor`).
//!
//! What a socket is, the kernel says: in which namespace it is, of which kind, at which address. Names
//! are only what the manager is told to give up. `bundle` has the sockets of a name in one descriptor.

pub(super) mod bundle;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{SockaddrStorage, getsockname};
use sortie_kernel::netns::{Identity, Namespace};

use crate::Error;
use crate::systemd::{self, Notify};

/// How long the manager may take to read what it is told.
const MANAGER_READS: Duration = Duration::from_secs(10);

/// The sockets of a workload, by its network namespace: the number is nobody else's while they are open.
pub(super) fn of_workload(namespace: Identity) -> String {
    format!("w-{}", namespace.inode)
}

/// A listener on an address of the host's.
pub(super) fn of_host(what: &str, at: SocketAddr) -> String {
    // A colon would end the name (sd_pid_notify_with_fds(3)).
    format!("{what}-{at}").replace(':', "_")
}

/// The sockets that a former gateway left, those of this one, and the manager that keeps them, if there
/// is one.
#[derive(Clone)]
pub(super) struct Kept {
    /// The host's namespace, which is this process's.
    host: Identity,
    known: Arc<Mutex<Known>>,
    manager: Option<mpsc::Sender<Order>>,
}

#[derive(Default)]
struct Known {
    /// Those that nobody has claimed yet.
    former: Vec<Former>,
    /// What the manager has of the former gateway.
    left: BTreeSet<String>,
    /// Those of this one.
    bundles: BTreeMap<String, Vec<Arc<OwnedFd>>>,
}

/// A socket of a former gateway.
struct Former {
    namespace: Identity,
    at: SocketAddr,
    socket: OwnedFd,
}

impl Former {
    fn of(socket: OwnedFd) -> io::Result<Self> {
        let namespace = Namespace::of_socket(socket.as_fd()).map_err(io::Error::other)?;
        let at = getsockname::<SockaddrStorage>(socket.as_raw_fd())?;
        let at = match (at.as_sockaddr_in(), at.as_sockaddr_in6()) {
            (Some(v4), _) => SocketAddr::new(v4.ip().into(), v4.port()),
            (_, Some(v6)) => SocketAddr::new(v6.ip().into(), v6.port()),
            _ => return Err(io::Error::other("it is no Internet socket")),
        };
        Ok(Self {
            namespace: namespace.identity(),
            at,
            socket,
        })
    }
}

/// What the manager is told.
enum Order {
    /// It keeps these in place of what it has under the name.
    Keep(String, Vec<Arc<OwnedFd>>),
    /// It gives up what it has under the name.
    GiveUp(String),
}

impl Kept {
    /// Those that the manager passes. To be called once, before other threads open files.
    pub(super) fn from_manager() -> Result<Self, Error> {
        let passed = systemd::passed();
        let manager = Notify::from_environment().map(tell).transpose();
        let kept = Self {
            host: Namespace::current()?.identity(),
            known: Arc::default(),
            manager: manager.map_err(Error::system("start a thread"))?,
        };
        for (name, bundle) in passed {
            if let Err(error) = kept.add(&bundle) {
                tracing::warn!(name, %error, "what the service manager kept cannot be used");
            }
            kept.known().left.insert(name);
        }
        Ok(kept)
    }

    /// Those in a bundle of a former gateway's.
    pub(super) fn add(&self, bundle: &OwnedFd) -> io::Result<()> {
        let sockets = bundle::untie(bundle)?.into_iter().map(Former::of);
        let sockets = sockets.collect::<io::Result<Vec<_>>>()?;
        self.known().former.extend(sockets);
        Ok(())
    }

    /// Those of this gateway, for a next one.
    pub(super) fn bundles(&self) -> Vec<Arc<OwnedFd>> {
        self.known().bundles.values().flatten().cloned().collect()
    }

    /// Nothing more is served here: what has been told stays with the manager.
    pub(super) fn close(&self) {
        *self.known() = Known::default();
    }

    /// The sockets that a former gateway had in this namespace.
    pub(super) fn claim(&self, namespace: Identity) -> Vec<OwnedFd> {
        self.claimed(|it| it.namespace == namespace)
    }

    /// Those that it had on this address of the host's.
    pub(super) fn claim_on_host(&self, at: SocketAddr) -> Vec<OwnedFd> {
        self.claimed(|it| it.namespace == self.host && it.at == at)
    }

    fn claimed(&self, is_meant: impl Fn(&Former) -> bool) -> Vec<OwnedFd> {
        let mut known = self.known();
        let claimed = known.former.extract_if(.., |it| is_meant(it));
        claimed.map(|it| it.socket).collect()
    }

    /// The manager keeps these sockets under this name. It does already where they are those that
    /// were claimed, all of them and no other.
    pub(super) fn keep(&self, name: String, claimed: &[RawFd], sockets: &[BorrowedFd<'_>]) {
        let bundles = sockets
            .chunks(bundle::MOST)
            .map(|some| bundle::tie(some).map(Arc::new));
        let bundles: Vec<_> = match bundles.collect() {
            Ok(bundles) => bundles,
            Err(error) => return is_not_kept(&name, &error),
        };
        let mut known = self.known();
        known.bundles.insert(name.clone(), bundles.clone());
        let was_left = known.left.remove(&name);
        let are_claimed = || sockets.iter().all(|it| claimed.contains(&it.as_raw_fd()));
        if was_left && claimed.len() == sockets.len() && are_claimed() {
            return;
        }
        if let Some(manager) = &self.manager {
            // The thread does not end before this.
            let _ = manager.send(Order::Keep(name, bundles));
        }
    }

    /// The manager keeps nothing under this name any more.
    pub(super) fn give_up(&self, name: String) {
        let mut known = self.known();
        known.left.remove(&name);
        known.bundles.remove(&name);
        if let Some(manager) = &self.manager {
            let _ = manager.send(Order::GiveUp(name));
        }
    }

    /// The agent has told all workloads: what nobody has claimed by now nobody needs.
    pub(super) fn all_are_known(&self) {
        let left = {
            let mut known = self.known();
            known.former.clear();
            std::mem::take(&mut known.left)
        };
        for name in left {
            self.give_up(name);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts a thread that tells the manager: it may be slow, and nobody waits for it. The thread ends
/// with who gives the orders.
fn tell(manager: Notify) -> io::Result<mpsc::Sender<Order>> {
    manager.waits(MANAGER_READS)?;
    let (orders, inbox) = mpsc::channel();
    let work = move || {
        for order in inbox {
            let (name, told) = match order {
                Order::Keep(name, bundles) => {
                    // There may be some that the next gateway would have to listen on too.
                    let told = manager.remove(&name).and_then(|()| {
                        let mut bundles = bundles.iter();
                        bundles.try_for_each(|bundle| manager.store(&name, bundle.as_fd()))
                    });
                    (name, told)
                }
                Order::GiveUp(name) => {
                    let told = manager.remove(&name);
                    (name, told)
                }
            };
            if let Err(error) = told {
                is_not_kept(&name, &error);
            }
        }
    };
    let thread = thread::Builder::new().name("keeper".to_owned());
    thread.spawn(work)?;
    Ok(orders)
}

fn is_not_kept(name: &str, error: &io::Error) {
    tracing::warn!(name, %error, "these sockets cannot be kept: while the gateway restarts, what comes to them is refused");
}
