//! What is on its way when policies change: whether it may go on, and for how long.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sortie_api::workload::WorkloadId;

use crate::deadline::Deadline;
use crate::decide::{Target, Verdict, Way};
use crate::meter::Left;
use crate::serve::Core;

/// Whether something on its way may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stay {
    /// As before.
    On,
    /// For so long.
    For(Duration),
    /// Not any more.
    Ended,
}

/// What the flights of one core are told.
#[derive(Default)]
pub(crate) struct Changes {
    flights: RefCell<HashMap<WorkloadId, HashMap<u64, Rc<Told>>>>,
    next: Cell<u64>,
}

/// What one flight is told.
#[derive(Default)]
struct Told {
    /// Policies are others since it looked last, and since it began.
    changed: Cell<bool>,
    former: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Changes {
    /// What policies say of a workload may be something else now.
    pub(crate) fn happened(&self, workload: &WorkloadId) {
        for told in self
            .flights
            .borrow()
            .get(workload)
            .into_iter()
            .flat_map(HashMap::values)
        {
            told.changed.set(true);
            told.former.set(true);
            if let Some(waker) = told.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }
}

/// A request, tunnel or stream on its way; the requests of one connection are one after the other.
pub(crate) struct Flight<'c> {
    core: &'c Core,
    workload: WorkloadId,
    number: u64,
    told: Rc<Told>,
    /// Until when it may go on, once it is a former one.
    until: Option<Deadline>,
}

impl<'c> Flight<'c> {
    pub(crate) fn begin(core: &'c Core, workload: &WorkloadId) -> Self {
        let (changes, told) = (&core.changes, Rc::<Told>::default());
        let number = changes.next.get();
        changes.next.set(number + 1);
        let mut flights = changes.flights.borrow_mut();
        let its = flights.entry(workload.clone()).or_default();
        its.insert(number, Rc::clone(&told));
        drop(flights);
        Self {
            core,
            workload: workload.clone(),
            number,
            told,
            until: None,
        }
    }

    /// The next request begins, before it is decided.
    pub(crate) fn again(&mut self) {
        self.told.changed.set(false);
        self.told.former.set(false);
        self.until = None;
    }

    /// Whether policies have changed since it began: its connection is not used again then.
    pub(crate) fn is_former(&self) -> bool {
        self.told.former.get()
    }

    /// Ready when it may not go on. `now` is asked once for each change.
    pub(crate) fn poll_ended(
        &mut self,
        cx: &mut Context<'_>,
        now: impl FnOnce() -> Stay,
    ) -> Poll<()> {
        if self.told.changed.take() {
            match now() {
                Stay::On => self.until = None,
                // A further change gives no further time.
                Stay::For(time) => _ = self.until.get_or_insert_with(|| Deadline::after(time)),
                Stay::Ended => return Poll::Ready(()),
            }
        }
        let mut waker = self.told.waker.borrow_mut();
        if !waker
            .as_ref()
            .is_some_and(|known| known.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
        match &mut self.until {
            Some(until) => until.poll(cx),
            None => Poll::Pending,
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut flights = self.core.changes.flights.borrow_mut();
        if let Some(its) = flights.get_mut(&self.workload) {
            its.remove(&self.number);
            if its.is_empty() {
                flights.remove(&self.workload);
            }
        }
    }
}

/// How something left, and what it is.
pub(crate) struct Leaving<'a> {
    pub(crate) workload: &'a WorkloadId,
    pub(crate) verdict: &'a Verdict,
    pub(crate) peer: SocketAddr,
    /// A request has an end, which it may reach; a tunnel has none that anybody knows.
    pub(crate) is_tunnel: bool,
}

impl Leaving<'_> {
    /// What becomes of it, given what policies say of it now.
    ///
    /// 1. What would be refused ends at once, as it does in the kernel.
    /// 2. What would leave with the same source goes on.
    /// 3. From one egress address to another the policy that decides now drains or does not.
    /// 4. Where nothing drains, tunnels end at once; a request may reach its end, within a limit.
    pub(crate) fn now(&self, core: &Core, target: &Target<'_>) -> Stay {
        let decide = &*core.outside.decide;
        let finish = if self.is_tunnel {
            Stay::Ended
        } else {
            Stay::For(core.config.finish)
        };
        if !decide.knows(self.workload) {
            return finish;
        }
        let now = decide.decide(self.workload, target);
        if matches!(now.way, Way::Refused(_))
            || decide.address(self.workload, &now, self.peer).is_err()
        {
            return Stay::Ended;
        }
        let to = self.peer.ip();
        match (self.verdict.left(to), now.left(to), now.drains) {
            (before, after, _) if before == after => Stay::On,
            (_, Left::Nowhere, _) => Stay::Ended,
            (Left::With(_), Left::With(_), Some(time)) if self.is_tunnel => Stay::For(time),
            (Left::With(_), Left::With(_), Some(time)) => Stay::For(time.max(core.config.finish)),
            _ => finish,
        }
    }
}
