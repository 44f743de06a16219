//! One workload's sockets: what comes in, and what goes back.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sortie_api::workload::WorkloadId;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::lookup::{Asked, Ended, Lookups};
use super::original::{self, Tracking};
use super::upstream::{Asker, Failure, Open, Upstream, read_framed, write_framed};
use crate::answer::fit;
use crate::learn::Learn;
use crate::metrics::Outcome;
use crate::names::Names;
use crate::question::{Judged, judge};
use crate::wire::{Header, flag};

/// Largest lookup over UDP, in bytes; a longer one is cut, and then malformed.
const LOOKUP_MAX: usize = 4096;
/// How long a connection may say nothing (RFC 7766 §6.2.3 wants seconds).
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// Connections of one workload at once.
const CONNECTIONS: usize = 64;

/// What is the same for all workloads.
#[derive(Debug)]
pub(super) struct Shared<N, L> {
    pub(super) lookups: Lookups<N, L>,
    pub(super) upstream: Upstream,
    /// Lookups of all workloads at once.
    pub(super) all: Arc<Semaphore>,
    /// Lookups of one workload at once.
    pub(super) of_one: usize,
}

/// One workload's.
#[derive(Debug)]
pub(super) struct Desk<N, L> {
    shared: Arc<Shared<N, L>>,
    workload: WorkloadId,
    namespace: Arc<File>,
    tracking: Tracking,
    lookups: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    closing: watch::Receiver<bool>,
}

impl<N: Names, L: Learn> Desk<N, L> {
    pub(super) fn new(
        shared: Arc<Shared<N, L>>,
        workload: WorkloadId,
        namespace: Arc<File>,
        tracking: nfnetlink::Socket,
        closing: watch::Receiver<bool>,
    ) -> Self {
        Self {
            lookups: Arc::new(Semaphore::new(shared.of_one)),
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
            tracking: Tracking::new(tracking),
            shared,
            workload,
            namespace,
            closing,
        }
    }

    /// Answers datagrams until the resolver closes; then those that are being answered.
    pub(super) async fn datagrams(self: Arc<Self>, socket: UdpSocket) {
        let socket = Arc::new(socket);
        let mut running = JoinSet::new();
        let mut closing = self.closing.clone();
        loop {
            let received = tokio::select! {
                received = receive(&socket) => received,
                _ = closing.wait_for(|closing| *closing) => break,
            };
            while running.try_join_next().is_some() {}
            let (message, client) = match received {
                Ok(received) => received,
                // What the kernel tells of an answer that did not arrive.
                Err(error) => {
                    tracing::debug!(workload = self.workload.as_str(), %error, "receiving lookups");
                    continue;
                }
            };
            let permits = (
                Arc::clone(&self.lookups).try_acquire_owned(),
                Arc::clone(&self.shared.all).try_acquire_owned(),
            );
            let (Ok(of_one), Ok(of_all)) = permits else {
                self.shared.lookups.metrics.ended(Outcome::Overload);
                continue;
            };
            let (desk, socket) = (Arc::clone(&self), Arc::clone(&socket));
            running.spawn(async move {
                let _permits = (of_one, of_all);
                if let Some(answer) = desk.datagram(&message, client, &socket).await
                    // The client may have gone.
                    && let Err(error) = socket.send_to(&answer, client).await
                {
                    tracing::debug!(workload = desk.workload.as_str(), %error, "answering a lookup");
                }
            });
        }
        while running.join_next().await.is_some() {}
    }

    async fn datagram(
        &self,
        message: &[u8],
        client: SocketAddr,
        socket: &UdpSocket,
    ) -> Option<Vec<u8>> {
        let here = socket.local_addr().ok()?;
        let server = match self.tracking.of_datagram(client, here) {
            Ok(server) => server,
            Err(error) => {
                tracing::warn!(workload = self.workload.as_str(), %error, "which server a lookup was for cannot be told");
                None
            }
        };
        let Some(server) = server else {
            self.shared.lookups.metrics.ended(Outcome::Malformed);
            return None;
        };
        let upstream = &self.shared.upstream;
        let (answer, outcome) = match judge(message) {
            Judged::Query(query) => {
                let is_answer = |id, answer: &[u8]| query.is_answered_by(id, answer);
                let ask = upstream.ask(self.asker(), server, message, is_answer);
                let (answer, outcome) = self.lookup(server, &query, ask).await;
                (answer.map(|answer| fit(answer, query.udp_limit())), outcome)
            }
            Judged::Opaque | Judged::Transfer => {
                let ask = upstream.ask(self.asker(), server, message, is_numbered);
                passed(ask.await)
            }
            Judged::Malformed(answer) => (Some(answer), Outcome::Malformed),
            Judged::Ignored => (None, Outcome::Malformed),
        };
        self.shared.lookups.metrics.ended(outcome);
        answer
    }

    async fn lookup(
        &self,
        server: SocketAddr,
        query: &crate::Query,
        ask: impl Future<Output = Result<Vec<u8>, Failure>>,
    ) -> Ended {
        let asked = Asked {
            workload: &self.workload,
            server,
        };
        let (answer, outcome) = self.shared.lookups.answer(asked, query, ask).await;
        tracing::debug!(
            workload = self.workload.as_str(), name = %query.name, kind = query.kind, %server, ?outcome,
            "lookup"
        );
        (answer, outcome)
    }

    /// Serves connections until the resolver closes; then those that are being answered.
    pub(super) async fn connections(self: Arc<Self>, listener: TcpListener) {
        let mut running = JoinSet::new();
        let mut closing = self.closing.clone();
        loop {
            let accepted = tokio::select! {
                accepted = accept(&listener, &self.connections) => accepted,
                _ = closing.wait_for(|closing| *closing) => break,
            };
            while running.try_join_next().is_some() {}
            let (stream, permit) = match accepted {
                Ok(accepted) => accepted,
                // Out of descriptors, or a client that has gone: others may still be served.
                Err(error) => {
                    tracing::warn!(workload = self.workload.as_str(), %error, "accepting a connection for lookups");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let desk = Arc::clone(&self);
            running.spawn(async move {
                let _permit = permit;
                if let Err(error) = desk.connection(stream).await {
                    tracing::debug!(workload = desk.workload.as_str(), %error, "a connection for lookups");
                }
            });
        }
        while running.join_next().await.is_some() {}
    }

    /// One message after the other, over one connection to the server, opened when it is needed.
    async fn connection(&self, mut client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let here = client.local_addr()?;
        let Some(server) = original::of_connection(&client, here)? else {
            self.shared.lookups.metrics.ended(Outcome::Malformed);
            return Ok(());
        };
        let mut connection = None;
        let mut closing = self.closing.clone();
        loop {
            let read = tokio::select! {
                read = timeout(IDLE_LIMIT, read_framed(&mut client)) => read,
                _ = closing.wait_for(|closing| *closing) => return Ok(()),
            };
            let Ok(Some(message)) = read.unwrap_or(Ok(None)) else {
                return Ok(());
            };
            let (answer, outcome) = match judge(&message) {
                Judged::Query(query) => {
                    let is_answer = |id, answer: &[u8]| query.is_answered_by(id, answer);
                    let ask = self.ask_over(&mut connection, server, &message, is_answer);
                    self.lookup(server, &query, ask).await
                }
                Judged::Opaque => {
                    let ask = self.ask_over(&mut connection, server, &message, is_numbered);
                    passed(ask.await)
                }
                Judged::Transfer => {
                    self.shared.lookups.metrics.ended(Outcome::Unchanged);
                    return self.transfer(client, server, &message).await;
                }
                Judged::Malformed(answer) => (Some(answer), Outcome::Malformed),
                Judged::Ignored => (None, Outcome::Malformed),
            };
            self.shared.lookups.metrics.ended(outcome);
            match answer {
                Some(answer) => write_framed(&mut client, &answer).await?,
                // What the server does not answer ends the connection, as the server would.
                None => return Ok(()),
            }
        }
    }

    /// Asks over the connection that is open. A server may close it at any time; then, once, over a
    /// new one.
    async fn ask_over(
        &self,
        connection: &mut Option<Open>,
        server: SocketAddr,
        message: &[u8],
        is_answer: impl Fn(u16, &[u8]) -> bool,
    ) -> Result<Vec<u8>, Failure> {
        let upstream = &self.shared.upstream;
        if let Some(mut open) = connection.take()
            && upstream.is_current(&open, &self.workload, server)
            && let Ok(answer) = upstream
                .ask_over(&mut open.stream, message, &is_answer)
                .await
        {
            *connection = Some(open);
            return Ok(answer);
        }
        let mut open = upstream.connect(self.asker(), server).await?;
        let answer = upstream
            .ask_over(&mut open.stream, message, is_answer)
            .await?;
        *connection = Some(open);
        Ok(answer)
    }

    /// From here on the connection is the client's and the server's. Addresses in it are never
    /// learned: a zone is no lookup.
    async fn transfer(
        &self,
        mut client: TcpStream,
        server: SocketAddr,
        message: &[u8],
    ) -> io::Result<()> {
        let upstream = &self.shared.upstream;
        let Ok(mut open) = upstream.connect(self.asker(), server).await else {
            return Ok(());
        };
        write_framed(&mut open.stream, message).await?;
        copy_bidirectional(&mut client, &mut open.stream).await?;
        Ok(())
    }

    fn asker(&self) -> Asker<'_> {
        Asker {
            workload: &self.workload,
            namespace: &self.namespace,
        }
    }
}

/// As the server answers; where it does not, the client is not answered.
fn passed(answer: Result<Vec<u8>, Failure>) -> Ended {
    match answer {
        Ok(answer) => (Some(answer), Outcome::Unchanged),
        Err(Failure::Timeout) => (None, Outcome::Timeout),
        Err(Failure::Unreachable(_)) => (None, Outcome::Unreachable),
    }
}

/// An answer to what is not read.
fn is_numbered(id: u16, message: &[u8]) -> bool {
    Header::read(message).is_some_and(|header| header.id == id && header.has(flag::RESPONSE))
}

/// Waits for room before it accepts, so that the kernel's queue holds what is too many.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let room = Arc::clone(room).acquire_owned().await;
    let room = room.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, room))
}

/// The buffer is on the stack: ten thousand idle workloads have none.
async fn receive(socket: &UdpSocket) -> io::Result<(Vec<u8>, SocketAddr)> {
    loop {
        socket.readable().await?;
        let mut buffer = [0; LOOKUP_MAX];
        match socket.try_recv_from(&mut buffer) {
            Ok((length, client)) => {
                return Ok((buffer.get(..length).unwrap_or_default().to_vec(), client));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
