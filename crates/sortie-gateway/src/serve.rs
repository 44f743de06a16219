//! The gateway as a whole: one thread with its own runtime, pool and buffers for each core.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use sortie_api::workload::WorkloadId;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, LocalSet};

use crate::buffer::Buffers;
use crate::carrier::Carriers;
use crate::connection;
use crate::decide::{Clients, Decide, Resolve};
use crate::flight::Changes;
use crate::http1;
use crate::log::{AccessLog, Lines};
use crate::meter::{Counts, Meter};
use crate::pool::Pool;

/// How often idle connections are looked at and log lines are handed on.
const SWEEP: Duration = Duration::from_millis(500);

/// Time limits and sizes.
#[derive(Debug, Clone)]
pub struct Config {
    /// Threads, each with a runtime of its own.
    pub cores: usize,
    /// Sizes of heads; at most 32 KiB.
    pub heads: http1::Limits,
    /// For a client's first bytes. A client that waits for the server to speak first is served by
    /// address after it.
    pub sniff: Duration,
    /// From a request's first byte to its head's end.
    pub head: Duration,
    /// For one attempt to connect.
    pub connect: Duration,
    /// From the request to the response's head.
    pub response: Duration,
    /// While a body makes no progress, and between two requests.
    pub idle: Duration,
    /// While nothing goes through a tunnel.
    pub tunnel: Duration,
    /// For a request on its way whose policies have changed, to reach its end with the source it
    /// began with.
    pub finish: Duration,
    /// For a client's idle connection whose end is near: what it asks within is answered, and told that
    /// it is the last. Longer than a request takes to come here.
    pub last: Duration,
    /// For an idle connection to an origin.
    pub pool: Duration,
    /// Connections of one workload on one core. More are closed at once, so that one workload does
    /// not take what others need.
    pub connections: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            heads: http1::Limits::default(),
            sniff: Duration::from_secs(2),
            head: Duration::from_secs(10),
            connect: Duration::from_secs(10),
            response: Duration::from_mins(5),
            idle: Duration::from_mins(5),
            tunnel: Duration::from_hours(1),
            finish: Duration::from_secs(30),
            last: Duration::from_secs(1),
            pool: Duration::from_mins(1),
            connections: 4096,
        }
    }
}

/// Tells with which source a connection is really seen: the reply tuple of its tracked flow, since
/// another program's NAT may change what the socket says.
pub trait SeenSource: Send + Sync {
    /// Asked once for each new connection to an origin.
    fn source(&self, local: SocketAddr, peer: SocketAddr) -> Option<IpAddr>;
}

/// Whom the data path asks and tells.
#[derive(Clone)]
pub struct Outside {
    /// Policies.
    pub decide: Arc<dyn Decide>,
    /// Names.
    pub resolve: Arc<dyn Resolve>,
    /// The access log.
    pub log: Arc<dyn AccessLog>,
    /// Sources as the kernel translates them; without one the log does not tell them.
    pub seen: Option<Arc<dyn SeenSource>>,
}

/// What a core is told.
enum Order {
    Listen(Entrance, std::net::TcpListener),
    Changed(WorkloadId),
    Close(SocketAddr),
    Forget(WorkloadId),
    Drain,
}

/// How clients come to a listener.
#[derive(Clone)]
pub(crate) enum Entrance {
    /// The kernel leads a workload's connections to it.
    Redirected(WorkloadId),
    /// They ask it, as a proxy, at this address.
    Proxy(Arc<dyn Clients>, SocketAddr),
}

/// The running data path. Dropping it ends every connection at once.
pub struct Gateway {
    cores: Vec<(UnboundedSender<Order>, JoinHandle<()>)>,
    meter: Meter,
}

impl Gateway {
    /// Starts the threads. They serve nobody yet.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be made.
    pub fn start(config: &Config, outside: &Outside) -> io::Result<Self> {
        let (mut cores, mut counts) = (Vec::new(), Vec::new());
        for number in 0..config.cores.max(1) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let (orders, inbox) = unbounded_channel();
            let (config, outside) = (config.clone(), outside.clone());
            let counted = Counts::default();
            counts.push(counted.clone());
            let work = move || {
                let local = LocalSet::new();
                let core = Rc::new(Core::new(config, outside, counted));
                local.block_on(&runtime, Core::run(core, inbox));
            };
            let thread = std::thread::Builder::new()
                .name(format!("gateway-{number}"))
                .spawn(work)?;
            cores.push((orders, thread));
        }
        Ok(Self {
            cores,
            meter: Meter::of(counts),
        })
    }

    /// Reads what it counts, for as long as it is wanted.
    pub fn meter(&self) -> Meter {
        self.meter.clone()
    }

    /// Serves what the kernel redirects to these listeners, as a workload's connections: who
    /// connects to them otherwise is closed. Made in the workload's network namespace, they are its
    /// identity. The first goes to the first core and so on; with `SO_REUSEPORT` and one for each
    /// core they share the work.
    ///
    /// # Errors
    /// When a listener cannot be made non-blocking.
    pub fn listen(
        &self,
        workload: &WorkloadId,
        listeners: Vec<std::net::TcpListener>,
    ) -> io::Result<()> {
        self.add(&Entrance::Redirected(workload.clone()), listeners)
    }

    /// Listeners on an address, one for each core at least. `former` ones, on the same address, are
    /// among them, with what has come to them.
    ///
    /// # Errors
    /// When nobody can listen there.
    pub fn listeners(
        &self,
        at: SocketAddr,
        former: Vec<std::net::TcpListener>,
    ) -> io::Result<Vec<std::net::TcpListener>> {
        let missing = self.cores.len().saturating_sub(former.len());
        let new = (0..missing).map(|_| crate::socket::listener(at));
        former.into_iter().map(Ok).chain(new).collect()
    }

    /// Serves who asks at this address as a proxy: HTTP with whole URLs, CONNECT, SOCKS5. The
    /// [`Self::listeners`] are on it.
    ///
    /// # Errors
    /// When a listener cannot be made non-blocking.
    pub fn proxy(
        &self,
        clients: &Arc<dyn Clients>,
        at: SocketAddr,
        listeners: Vec<std::net::TcpListener>,
    ) -> io::Result<()> {
        self.add(&Entrance::Proxy(Arc::clone(clients), at), listeners)
    }

    /// Takes no more clients at this address; those that are there go on.
    pub fn close_proxy(&self, at: SocketAddr) {
        for (orders, _) in &self.cores {
            let _ = orders.send(Order::Close(at));
        }
    }

    fn add(&self, entrance: &Entrance, listeners: Vec<std::net::TcpListener>) -> io::Result<()> {
        for (number, listener) in listeners.into_iter().enumerate() {
            listener.set_nonblocking(true)?;
            let (orders, _) = &self.cores[number % self.cores.len()];
            // A core whose thread has panicked takes no orders; `drain` tells of the panic.
            let _ = orders.send(Order::Listen(entrance.clone(), listener));
        }
        Ok(())
    }

    /// [`Decide`] may say something else of a workload now. Idle connections to origins end; what is
    /// on its way is asked about again, and goes on, for a while, or ends.
    pub fn policies_changed(&self, workload: &WorkloadId) {
        self.order(|| Order::Changed(workload.clone()));
    }

    /// Ends a workload's listeners. Its tunnels end at once where [`Decide`] does not know it any
    /// more; requests on their way have [`Config::finish`] for it.
    pub fn forget(&self, workload: &WorkloadId) {
        self.order(|| Order::Forget(workload.clone()));
    }

    fn order(&self, order: impl Fn() -> Order) {
        for (orders, _) in &self.cores {
            let _ = orders.send(order());
        }
    }

    /// Accepts nothing more, lets what is on its way end, and returns when all has. Listeners that
    /// another process has too keep what comes from now on. Tunnels end at their own pace, so the caller
    /// sets a limit by ending the process.
    pub fn drain(self) {
        self.order(|| Order::Drain);
        for (_, thread) in self.cores {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// What the connections of one core share.
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) outside: Outside,
    pub(crate) pool: Pool,
    pub(crate) carriers: Carriers,
    pub(crate) buffers: Buffers,
    pub(crate) lines: Lines,
    pub(crate) counts: Counts,
    pub(crate) changes: Changes,
    listeners: RefCell<Vec<(Entrance, AbortHandle)>>,
    connections: RefCell<HashMap<u64, Rc<Connection>>>,
    next: Cell<u64>,
    drains: Cell<bool>,
}

/// What others may know of a connection.
pub(crate) struct Connection {
    workload: RefCell<Option<WorkloadId>>,
    /// Whether it waits for its next request, and can end without disturbing anybody.
    pub(crate) is_idle: Cell<bool>,
    /// Whether it ends after what it does now.
    pub(crate) leaves: Cell<bool>,
    /// Tells that to those who do not look between two requests.
    pub(crate) left: Notify,
    task: RefCell<Option<AbortHandle>>,
}

impl Connection {
    /// Lets it end after what it does now.
    fn leave(&self) {
        self.leaves.set(true);
        self.left.notify_one();
    }

    fn end_if_idle(&self) {
        if self.is_idle.get()
            && let Some(task) = &*self.task.borrow()
        {
            task.abort();
        }
    }

    /// A proxy's client is known now.
    pub(crate) fn is_of(&self, workload: &WorkloadId) {
        *self.workload.borrow_mut() = Some(workload.clone());
    }
}

impl Core {
    fn new(mut config: Config, outside: Outside, counts: Counts) -> Self {
        config.heads.head = config.heads.head.min(crate::buffer::SIZE);
        Self {
            config,
            outside,
            pool: Pool::default(),
            carriers: Carriers::default(),
            buffers: Buffers::default(),
            lines: Lines::default(),
            counts,
            changes: Changes::default(),
            listeners: RefCell::default(),
            connections: RefCell::default(),
            next: Cell::new(0),
            drains: Cell::new(false),
        }
    }

    fn drains(&self) -> bool {
        self.drains.get()
    }

    async fn run(core: Rc<Self>, mut inbox: UnboundedReceiver<Order>) {
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let order = tokio::select! {
                order = inbox.recv(), if !core.drains() => Some(order),
                _ = sweep.tick() => None,
            };
            match order {
                Some(Some(Order::Listen(entrance, listener))) => {
                    Self::listen(&core, entrance, listener);
                }
                Some(Some(Order::Changed(workload))) => core.changed(&workload),
                Some(Some(Order::Close(at))) => {
                    core.close(
                        |entrance| matches!(entrance, Entrance::Proxy(_, own) if *own == at),
                    );
                }
                Some(Some(Order::Forget(workload))) => core.forget(&workload),
                Some(Some(Order::Drain)) => core.drain(),
                // Nobody is left who could want something.
                Some(None) => return,
                None => {
                    core.pool.sweep(core.config.pool);
                    core.carriers.sweep(core.config.pool);
                    core.lines.hand_on(&*core.outside.log);
                }
            }
            if core.drains() && core.connections.borrow().is_empty() {
                core.lines.hand_on(&*core.outside.log);
                return;
            }
        }
    }

    fn listen(core: &Rc<Self>, entrance: Entrance, listener: std::net::TcpListener) {
        // It was made non-blocking, and this is inside a runtime.
        let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
            return;
        };
        let accepts = Self::accept(Rc::clone(core), entrance.clone(), listener);
        let task = tokio::task::spawn_local(accepts).abort_handle();
        core.listeners.borrow_mut().push((entrance, task));
    }

    async fn accept(core: Rc<Self>, entrance: Entrance, listener: tokio::net::TcpListener) {
        let open = Rc::new(Cell::new(0));
        loop {
            match listener.accept().await {
                Ok((stream, _)) if open.get() < core.config.connections => {
                    Self::serve(&core, &entrance, &open, stream);
                }
                Ok(_) => core.counts.turned_away(),
                // One client's reset, or no descriptors left: then others must end first.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// Serves one connection in a task of its own.
    fn serve(
        core: &Rc<Self>,
        entrance: &Entrance,
        open: &Rc<Cell<usize>>,
        stream: tokio::net::TcpStream,
    ) {
        let number = core.next.get();
        core.next.set(number + 1);
        let connection = Rc::new(Connection {
            workload: RefCell::new(match entrance {
                Entrance::Redirected(workload) => Some(workload.clone()),
                Entrance::Proxy(..) => None,
            }),
            is_idle: Cell::new(false),
            leaves: Cell::new(false),
            left: Notify::new(),
            task: RefCell::new(None),
        });
        let counted = Counted {
            core: Rc::clone(core),
            number,
            open: Rc::clone(open),
        };
        open.set(open.get() + 1);
        core.counts.opened();
        let (shared, entrance) = (Rc::clone(&connection), entrance.clone());
        let task = tokio::task::spawn_local(async move {
            let counted = counted;
            connection::serve(&counted.core, &shared, &entrance, stream).await;
        });
        *connection.task.borrow_mut() = Some(task.abort_handle());
        core.connections.borrow_mut().insert(number, connection);
    }

    fn changed(&self, workload: &WorkloadId) {
        self.pool.forget(workload);
        self.carriers.forget(workload);
        self.changes.happened(workload);
    }

    /// Ends listeners.
    fn close(&self, which: impl Fn(&Entrance) -> bool) {
        self.listeners.borrow_mut().retain(|(entrance, accepts)| {
            let is_meant = which(entrance);
            if is_meant {
                accepts.abort();
            }
            !is_meant
        });
    }

    fn forget(&self, workload: &WorkloadId) {
        self.close(|entrance| matches!(entrance, Entrance::Redirected(owner) if owner == workload));
        for connection in self.connections.borrow().values() {
            if connection.workload.borrow().as_ref() == Some(workload) {
                connection.leave();
                connection.end_if_idle();
            }
        }
        self.changed(workload);
    }

    fn drain(&self) {
        self.drains.set(true);
        for (_, accepts) in self.listeners.borrow_mut().drain(..) {
            accepts.abort();
        }
        for connection in self.connections.borrow().values() {
            connection.leave();
        }
    }
}

/// Counts a connection for as long as its task lives.
struct Counted {
    core: Rc<Core>,
    number: u64,
    open: Rc<Cell<usize>>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
        self.core.counts.closed();
        self.core.connections.borrow_mut().remove(&self.number);
    }
}
