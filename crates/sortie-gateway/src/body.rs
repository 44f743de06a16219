//! The body of an HTTP/2 request on its way to an origin, and how far both bodies have come.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use crate::deadline::Deadline;

/// How far a request and its response have come.
pub(crate) struct Progress {
    /// Bytes of the request's body.
    pub(crate) sent: Cell<u64>,
    /// Bytes of the response's body.
    pub(crate) received: Cell<u64>,
    /// Whether the request's body has ended.
    is_sent: Cell<bool>,
    /// Whether the response has begun.
    has_answer: Cell<bool>,
    moved: Cell<Instant>,
}

impl Progress {
    pub(crate) fn begin() -> Rc<Self> {
        Rc::new(Self {
            sent: Cell::new(0),
            received: Cell::new(0),
            is_sent: Cell::new(false),
            has_answer: Cell::new(false),
            moved: Cell::new(Instant::now()),
        })
    }

    /// The response's head has come.
    pub(crate) fn answered(&self) {
        self.has_answer.set(true);
        self.moves();
    }

    /// So many bytes of the response's body have gone on.
    pub(crate) fn receives(&self, length: usize) {
        self.received.set(self.received.get() + length as u64);
        self.moves();
    }

    fn moves(&self) {
        self.moved.set(Instant::now());
    }

    /// Until nothing has moved for too long. `response` is the limit while only the origin's answer
    /// is waited for, `idle` while a body is on its way.
    pub(crate) fn poll_stalled(
        &self,
        cx: &mut Context<'_>,
        deadline: &mut Deadline,
        (response, idle): (Duration, Duration),
    ) -> Poll<()> {
        loop {
            let is_waiting = self.is_sent.get() && !self.has_answer.get();
            let limit = if is_waiting { response } else { idle };
            let left = (self.moved.get() + limit).saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Poll::Ready(());
            }
            deadline.set(left);
            ready!(deadline.poll(cx));
        }
    }
}

/// The body of a request. The client may send more of it only when the origin takes what came.
pub(crate) struct Sent {
    /// `None` of a request that is sent again, which has none.
    stream: Option<RecvStream>,
    progress: Rc<Progress>,
}

impl Sent {
    pub(crate) fn new(stream: RecvStream, progress: &Rc<Progress>) -> Self {
        progress.is_sent.set(stream.is_end_stream());
        Self {
            stream: Some(stream),
            progress: Rc::clone(progress),
        }
    }

    /// No body.
    pub(crate) fn empty(progress: &Rc<Progress>) -> Self {
        Self {
            stream: None,
            progress: Rc::clone(progress),
        }
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = self.get_mut();
        let Some(stream) = &mut this.stream else {
            return Poll::Ready(None);
        };
        if let Some(data) = ready!(stream.poll_data(cx)) {
            let data = data?;
            stream.flow_control().release_capacity(data.len())?;
            let sent = &this.progress.sent;
            sent.set(sent.get() + data.len() as u64);
            this.progress.moves();
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let trailers = ready!(stream.poll_trailers(cx))?;
        this.progress.is_sent.set(true);
        this.progress.moves();
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.as_ref().is_none_or(RecvStream::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() {
            SizeHint::with_exact(0)
        } else {
            SizeHint::new()
        }
    }
}
