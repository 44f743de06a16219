//! Sockets inside workloads' network namespaces: one thread makes them all.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, mpsc};
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::sync::oneshot;

/// The thread's own namespace. Not `/proc/self`, which is the main thread's.
const OWN: &str = "/proc/thread-self/ns/net";
/// Connections that wait to be accepted, also while a gateway takes another one's place.
const BACKLOG: i32 = 64;
/// The same for listeners that are shared: clients may come by the hundred.
const SHARED_BACKLOG: i32 = 1_024;

/// Makes sockets in namespaces: a socket stays in the one that it was made in. The thread is in a
/// namespace only while it works, so an ended workload's does not stay for its sake.
#[derive(Debug, Clone)]
pub struct Inside {
    work: mpsc::Sender<Work>,
}

type Job = Box<dyn FnOnce() + Send>;

struct Work {
    namespace: Arc<File>,
    job: Job,
    /// Dropped without an answer when the namespace cannot be entered.
    failed: oneshot::Sender<io::Error>,
}

/// Sockets that a former process had opened in a namespace, with what has come to them since. They are
/// served on in place of new ones.
#[derive(Debug, Default)]
pub struct Former(Vec<Socket>);

impl From<Vec<OwnedFd>> for Former {
    fn from(sockets: Vec<OwnedFd>) -> Self {
        Self(sockets.into_iter().map(Socket::from).collect())
    }
}

impl Former {
    /// Takes those on this port out.
    #[must_use]
    pub fn on_port(&mut self, port: u16) -> Self {
        let is_on = |socket: &mut Socket| {
            let at = socket.local_addr().ok().and_then(|at| at.as_socket());
            at.is_some_and(|at| at.port() == port)
        };
        Self(self.0.extract_if(.., is_on).collect())
    }

    /// One of this kind on this address.
    fn take(&mut self, address: IpAddr, kind: Type) -> Option<Socket> {
        let position = self.0.iter().position(|socket| {
            let at = socket.local_addr().ok().and_then(|at| at.as_socket());
            at.is_some_and(|at| at.ip() == address) && socket.r#type().ok() == Some(kind)
        })?;
        Some(self.0.swap_remove(position))
    }
}

/// The sockets that a workload's lookups are redirected to, made inside its namespace.
#[derive(Debug)]
pub struct Listeners {
    pub(super) udp: Vec<std::net::UdpSocket>,
    pub(super) tcp: Vec<std::net::TcpListener>,
    pub(super) tracking: nfnetlink::Socket,
}

impl Listeners {
    /// Those of them that another process can serve on.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let tcp = self.tcp.iter().map(AsFd::as_fd);
        self.udp.iter().map(AsFd::as_fd).chain(tcp)
    }
}

impl Inside {
    /// Starts the thread. It ends with the last copy of this.
    pub fn start() -> io::Result<Self> {
        let home = File::open(OWN)?;
        let (work, works) = mpsc::channel::<Work>();
        thread::Builder::new()
            .name("sockets".to_owned())
            .spawn(move || {
                while let Ok(first) = works.recv() {
                    let mut next = Some(first);
                    while let Some(Work { namespace, job, failed }) = next {
                        match setns(&*namespace, CloneFlags::CLONE_NEWNET) {
                            Ok(()) => job(),
                            // Who asked may have gone.
                            Err(errno) => _ = failed.send(errno.into()),
                        }
                        next = works.try_recv().ok();
                    }
                    // The namespace it was in is nobody's: without it nothing can be made.
                    if setns(&home, CloneFlags::CLONE_NEWNET).is_err() {
                        tracing::error!("the thread that makes sockets cannot go back to its own network namespace; restart the gateway");
                        return;
                    }
                }
            })?;
        Ok(Self { work })
    }

    /// Opens a workload's listeners on the port that its redirect leads to, as far as they are not
    /// among the `former` ones of this port. `namespace` is the file of its network namespace. Fails
    /// with `AddrInUse` where the workload itself has the port.
    pub async fn listen(
        &self,
        namespace: &Arc<File>,
        port: u16,
        former: Former,
    ) -> io::Result<Listeners> {
        self.run(namespace, move || listeners(port, former)).await
    }

    /// Opens listeners for connections on a port of the loopback addresses: `count` of each family,
    /// which share what comes. All `former` ones of this port are among them: each may hold
    /// connections.
    pub async fn listen_for_connections(
        &self,
        namespace: &Arc<File>,
        port: u16,
        count: usize,
        former: Former,
    ) -> io::Result<Vec<std::net::TcpListener>> {
        self.run(namespace, move || shared(port, count, former))
            .await
    }

    /// A socket for one lookup, connected: it hears its server only, from a port that the kernel
    /// chooses at random.
    pub(super) async fn udp(
        &self,
        namespace: &Arc<File>,
        mark: u32,
        server: SocketAddr,
    ) -> io::Result<std::net::UdpSocket> {
        let make = move || {
            let socket = marked(server, Type::DGRAM, Protocol::UDP, mark)?;
            socket.connect(&server.into())?;
            Ok(socket.into())
        };
        self.run(namespace, make).await
    }

    /// A socket that is not connected yet.
    pub(super) async fn tcp(
        &self,
        namespace: &Arc<File>,
        mark: u32,
        server: SocketAddr,
    ) -> io::Result<std::net::TcpStream> {
        let make = move || Ok(marked(server, Type::STREAM, Protocol::TCP, mark)?.into());
        self.run(namespace, make).await
    }

    async fn run<T: Send + 'static>(
        &self,
        namespace: &Arc<File>,
        make: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (done, answer) = oneshot::channel();
        let (failed, failure) = oneshot::channel();
        let work = Work {
            namespace: Arc::clone(namespace),
            // Who asked may have gone.
            job: Box::new(move || _ = done.send(make())),
            failed,
        };
        let gone = || io::Error::other("the thread that makes sockets has ended");
        self.work.send(work).map_err(|_| gone())?;
        match answer.await {
            Ok(result) => result,
            Err(_) => Err(failure.await.unwrap_or_else(|_| gone())),
        }
    }
}

fn marked(server: SocketAddr, kind: Type, protocol: Protocol, mark: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(server), kind, Some(protocol))?;
    socket.set_mark(mark)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Four sockets on the port of the loopback addresses, where a redirect of what the namespace itself
/// sends leads (nf_nat_redirect.c). Two where the kernel has no IPv6.
fn listeners(port: u16, mut former: Former) -> io::Result<Listeners> {
    let (v4, v6) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
    let mut opened = |address, kind| {
        let found = former.take(address, kind);
        found.map_or_else(|| bound(address, port, kind), Ok)
    };
    let mut made = Listeners {
        udp: vec![opened(v4, Type::DGRAM)?.into()],
        tcp: vec![listening(opened(v4, Type::STREAM)?, BACKLOG)?],
        tracking: nfnetlink::Socket::open().map_err(io::Error::other)?,
    };
    match opened(v6, Type::DGRAM) {
        Ok(socket) => {
            made.udp.push(socket.into());
            made.tcp
                .push(listening(opened(v6, Type::STREAM)?, BACKLOG)?);
        }
        Err(error) if error.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32) => {}
        Err(error) => return Err(error),
    }
    Ok(made)
}

fn shared(port: u16, count: usize, mut former: Former) -> io::Result<Vec<std::net::TcpListener>> {
    let mut listeners = Vec::new();
    for address in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        let mut of_family = Vec::new();
        while let Some(socket) = former.take(address, Type::STREAM) {
            of_family.push(listening(socket, SHARED_BACKLOG)?);
        }
        while of_family.len() < count {
            let socket = match unbound(address, Type::STREAM) {
                Err(error) if error.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32) => break,
                made => made?,
            };
            socket.set_reuse_port(true)?;
            socket.bind(&SockAddr::from(SocketAddr::new(address, port)))?;
            of_family.push(listening(socket, SHARED_BACKLOG)?);
        }
        listeners.extend(of_family);
    }
    Ok(listeners)
}

/// One that listens already, too: the backlog is then this one.
fn listening(socket: Socket, backlog: i32) -> io::Result<std::net::TcpListener> {
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// Also where the address is not there: an engine may turn IPv6 on later.
fn bound(address: IpAddr, port: u16, kind: Type) -> io::Result<Socket> {
    let socket = unbound(address, kind)?;
    socket.bind(&SockAddr::from(SocketAddr::new(address, port)))?;
    Ok(socket)
}

fn unbound(address: IpAddr, kind: Type) -> io::Result<Socket> {
    let domain = Domain::for_address(SocketAddr::new(address, 0));
    let socket = Socket::new(domain, kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    }
    // Connections of a resolver that has ended may still be closing. Datagrams have none, and for
    // them it would mean to share the port.
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}
