//! Connections to origins for the requests of HTTP/2's clients: one carries many at once, or, where
//! the origin speaks HTTP/1 only, one after the other.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::TokioIo;
use sortie_api::workload::WorkloadId;
use tokio::time::Instant;

use crate::body::Sent;
use crate::pool::Key;
use crate::upstream::Upstream;

/// Requests that one connection carries at once, where the origin allows as many: the usual number
/// of servers.
const STREAMS: usize = 100;

/// Bytes that the origin may send of one response before the client takes them.
const STREAM_WINDOW: u32 = 256 * 1024;

/// The same of all responses together: clients that stall must be many before others wait for them.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// A connection to an origin.
pub(crate) struct Carrier {
    /// Whom it calls.
    pub(crate) peer: SocketAddr,
    /// The source it is seen with, as the kernel's flow has it.
    pub(crate) source: Option<IpAddr>,
    sender: RefCell<Sender>,
    /// Requests on their way, and how many there may be.
    carried: Cell<usize>,
    most: Rc<Cell<usize>>,
    since: Cell<Instant>,
    retired: Cell<bool>,
}

enum Sender {
    Http1(http1::SendRequest<Sent>),
    Http2(http2::SendRequest<Sent>),
}

impl Carrier {
    /// Begins to speak HTTP on a connection: HTTP/2 where TLS has agreed on it, and, without TLS,
    /// because the client did so too.
    ///
    /// # Errors
    /// When the origin ends the connection at once.
    pub(crate) async fn begin(upstream: Upstream, heads: u32) -> io::Result<Self> {
        let (peer, source) = (upstream.peer, upstream.source);
        let is_http2 = upstream.takes_http2();
        let most = Rc::new(Cell::new(if is_http2 { STREAMS } else { 1 }));
        let stream = TokioIo::new(upstream);
        let sender = if is_http2 {
            let begun = http2::Builder::new(Local)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_header_list_size(heads)
                .max_send_buf_size(STREAM_WINDOW as usize)
                .handshake(stream)
                .await;
            let (sender, mut connection) = begun.map_err(io::Error::other)?;
            let allowed = Rc::clone(&most);
            // It ends with its last sender, or with the origin; who waits learns why.
            tokio::task::spawn_local(poll_fn(move |cx| {
                let ended = Pin::new(&mut connection).poll(cx);
                allowed.set(connection.current_max_send_streams().min(STREAMS));
                ended
            }));
            Sender::Http2(sender)
        } else {
            let begun = http1::Builder::new()
                .max_buf_size(heads as usize)
                .handshake(stream)
                .await;
            let (sender, connection) = begun.map_err(io::Error::other)?;
            tokio::task::spawn_local(connection);
            Sender::Http1(sender)
        };
        Ok(Self {
            peer,
            source,
            sender: RefCell::new(sender),
            carried: Cell::new(0),
            most,
            since: Cell::new(Instant::now()),
            retired: Cell::new(false),
        })
    }

    /// Whether requests are written as HTTP/2 has them.
    pub(crate) fn is_http2(&self) -> bool {
        matches!(*self.sender.borrow(), Sender::Http2(_))
    }

    /// Sends a request. One that was not sent comes back with the error.
    pub(crate) fn send(
        &self,
        request: Request<Sent>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Sent>>>> + use<> {
        use futures_util::future::Either;
        match &mut *self.sender.borrow_mut() {
            Sender::Http1(sender) => Either::Left(sender.try_send_request(request)),
            Sender::Http2(sender) => Either::Right(sender.try_send_request(request)),
        }
    }

    /// It gets no further requests.
    pub(crate) fn retire(&self) {
        self.retired.set(true);
    }

    fn is_over(&self) -> bool {
        self.retired.get()
            || match &*self.sender.borrow() {
                Sender::Http1(sender) => sender.is_closed(),
                Sender::Http2(sender) => sender.is_closed(),
            }
    }

    fn has_room(&self) -> bool {
        let is_ready = match &*self.sender.borrow() {
            Sender::Http1(sender) => sender.is_ready(),
            Sender::Http2(sender) => sender.is_ready(),
        };
        is_ready && !self.retired.get() && self.carried.get() < self.most.get()
    }
}

/// A place for one request on a connection.
pub(crate) struct Place(Rc<Carrier>);

impl Place {
    fn on(carrier: &Rc<Carrier>) -> Self {
        carrier.carried.set(carrier.carried.get() + 1);
        Self(Rc::clone(carrier))
    }

    pub(crate) fn carrier(&self) -> &Carrier {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.carried.set(self.0.carried.get() - 1);
        self.0.since.set(Instant::now());
    }
}

/// The connections of one core, found again only by all that makes them alike.
#[derive(Default)]
pub(crate) struct Carriers(RefCell<HashMap<Key, Vec<Rc<Carrier>>>>);

impl Carriers {
    /// A place on a connection that has one.
    pub(crate) fn take(&self, key: &Key) -> Option<Place> {
        let carriers = self.0.borrow();
        let mut alike = carriers.get(key)?.iter();
        alike.find(|carrier| carrier.has_room()).map(Place::on)
    }

    /// Keeps a new connection, and takes the first place on it.
    pub(crate) fn put(&self, key: Key, carrier: Carrier) -> Place {
        let carrier = Rc::new(carrier);
        let place = Place::on(&carrier);
        self.0.borrow_mut().entry(key).or_default().push(carrier);
        place
    }

    /// Ends those that carried nothing for longer than the limit.
    pub(crate) fn sweep(&self, limit: Duration) {
        let now = Instant::now();
        self.0.borrow_mut().retain(|_, alike| {
            alike.retain(|carrier| {
                let is_busy = carrier.carried.get() > 0;
                !carrier.is_over() && (is_busy || now.duration_since(carrier.since.get()) < limit)
            });
            !alike.is_empty()
        });
    }

    /// Forgets those of a workload; they end with their last request.
    pub(crate) fn forget(&self, workload: &WorkloadId) {
        let mut carriers = self.0.borrow_mut();
        carriers.retain(|key, _| key.workload != *workload);
    }
}

/// Tasks of a connection run on the core that it is of.
#[derive(Clone, Copy)]
struct Local;

impl<F> hyper::rt::Executor<F> for Local
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}
