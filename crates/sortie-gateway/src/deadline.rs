//! One time limit for a connection, moved along as it goes. Moving it further away costs no timer:
//! the timer that fires too early is set again.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// The limit has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Late;

impl From<Late> for io::Error {
    fn from(_: Late) -> Self {
        Self::new(io::ErrorKind::TimedOut, "no answer in time")
    }
}

pub(crate) struct Deadline {
    at: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Deadline {
    pub(crate) fn after(limit: Duration) -> Self {
        let at = Instant::now() + limit;
        Self {
            at,
            timer: Box::pin(sleep_until(at)),
        }
    }

    /// Begins anew.
    pub(crate) fn set(&mut self, limit: Duration) {
        self.at = Instant::now() + limit;
        if self.at < self.timer.deadline() {
            self.timer.as_mut().reset(self.at);
        }
    }

    /// Whether it has passed; else the task is woken when it may have.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= self.at {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.at);
        }
        Poll::Pending
    }

    /// What `work` comes to, unless the limit passes before.
    pub(crate) async fn within<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Late> {
        let mut work = pin!(work);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self.poll(cx).map(|()| Err(Late)),
        })
        .await
    }
}
