//! Bodies on their way: from one side to the other, no faster than the other takes them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::buffer::Buffer;
use crate::http1::chunked::Chunked;
use crate::http1::{Framing, Refused};

/// How much of a body is still to come.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

impl Body {
    pub(crate) fn new(framing: Framing) -> Self {
        match framing {
            Framing::None => Self::Length(0),
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunked::new()),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.is_done(),
            Self::UntilClose => false,
        }
    }

    /// How many of these bytes belong to it.
    pub(crate) fn read(&mut self, input: &[u8]) -> Result<usize, Refused> {
        match self {
            Self::Length(left) => {
                let taken = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(input.len());
                *left -= taken as u64;
                Ok(taken)
            }
            Self::Chunked(chunked) => chunked.read(input),
            Self::UntilClose => Ok(input.len()),
        }
    }
}

/// Why a body did not come whole.
#[derive(Debug)]
pub(crate) enum Broken {
    /// Who sends it went, or sent what is no body.
    Sender,
    /// Who takes it went.
    Taker,
}

/// One body on its way.
pub(crate) struct Pump {
    pub(crate) body: Body,
    /// Bytes at the front of the buffer that belong to the body and are not written yet.
    ready: usize,
    /// Whether something was written that the taker's side may still hold back.
    unflushed: bool,
    /// Bytes that were written.
    pub(crate) written: u64,
}

impl Pump {
    pub(crate) fn new(body: Body) -> Self {
        Self {
            body,
            ready: 0,
            unflushed: false,
            written: 0,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.ready == 0 && !self.unflushed && self.body.is_done()
    }

    /// Goes on until the body has ended, or one side must be waited for. What was read and does not
    /// belong to the body stays in the buffer.
    pub(crate) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        buffer: &mut Buffer,
        to: &mut W,
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            while self.ready > 0 {
                let bytes = &buffer.filled()[..self.ready];
                match ready!(Pin::new(&mut *to).poll_write(cx, bytes)) {
                    Ok(0) | Err(_) => return Poll::Ready(Err(Broken::Taker)),
                    Ok(written) => {
                        buffer.consume(written);
                        self.ready -= written;
                        self.written += written as u64;
                        self.unflushed = true;
                    }
                }
            }
            if !self.body.is_done() {
                if buffer.is_empty() {
                    match buffer.poll_fill(cx, from) {
                        Poll::Ready(Ok(0)) if matches!(self.body, Body::UntilClose) => {
                            self.body = Body::Length(0);
                            continue;
                        }
                        Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Broken::Sender)),
                        Poll::Ready(Ok(_)) => {}
                        Poll::Pending => {
                            ready!(self.poll_flush(cx, to))?;
                            return Poll::Pending;
                        }
                    }
                }
                let read = self.body.read(buffer.filled());
                self.ready = read.map_err(|_| Broken::Sender)?;
                continue;
            }
            ready!(self.poll_flush(cx, to))?;
            return Poll::Ready(Ok(()));
        }
    }

    fn poll_flush<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<Result<(), Broken>> {
        if self.unflushed {
            let flushed: io::Result<()> = ready!(Pin::new(to).poll_flush(cx));
            flushed.map_err(|_| Broken::Taker)?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}
