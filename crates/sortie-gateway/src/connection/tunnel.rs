//! A tunnel: bytes both ways until both sides have ended, each as fast as the other takes them.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::buffer::Buffer;
use crate::deadline::Deadline;
use crate::flight::{Flight, Stay};
use crate::pump::{Body, Broken, Pump};
use crate::serve::Core;
use crate::stream::Stream;
use crate::upstream::Upstream;

/// One direction: it flows, then its end is passed on.
struct Way {
    pump: Pump,
    ended: bool,
}

impl Way {
    fn new() -> Self {
        Self {
            pump: Pump::new(Body::UntilClose),
            ended: false,
        }
    }

    fn poll<R, W>(
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
        if !self.ended {
            ready!(self.pump.poll(cx, from, buffer, to))?;
            ready!(Pin::new(to).poll_shutdown(cx)).map_err(|_| Broken::Taker)?;
            self.ended = true;
        }
        Poll::Ready(Ok(()))
    }
}

/// What a tunnel has carried.
pub(super) struct Carried {
    /// Bytes from the client.
    pub(super) sent: u64,
    /// Bytes to the client.
    pub(super) received: u64,
    /// Whether it ended because policies are others now.
    pub(super) changed: bool,
}

/// Carries bytes until both sides have ended, one has broken, nothing moved for the limit, or it may
/// not go on, which `now` is asked when policies have changed. What the buffers hold goes first.
pub(super) async fn run(
    core: &Core,
    (stream, buffer): (&mut Stream, &mut Buffer),
    (upstream, answer): (&mut Upstream, &mut Buffer),
    deadline: &mut Deadline,
    flight: &mut Flight<'_>,
    now: impl Fn() -> Stay,
) -> Carried {
    let (mut there, mut back) = (Way::new(), Way::new());
    let mut changed = false;
    deadline.set(core.config.tunnel);
    poll_fn(|cx| {
        let moved = there.pump.written + back.pump.written;
        let one = there.poll(cx, stream, buffer, upstream);
        let other = back.poll(cx, upstream, answer, stream);
        if there.pump.written + back.pump.written > moved {
            deadline.set(core.config.tunnel);
        }
        match (one, other) {
            (Poll::Ready(Err(_)), _)
            | (_, Poll::Ready(Err(_)))
            | (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(()),
            _ => {
                changed = flight.poll_ended(cx, &now).is_ready();
                if changed {
                    return Poll::Ready(());
                }
                deadline.poll(cx)
            }
        }
    })
    .await;
    Carried {
        sent: there.pump.written,
        received: back.pump.written,
        changed,
    }
}
