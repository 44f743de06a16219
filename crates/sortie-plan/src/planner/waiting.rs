//! What has passed the rules as they were, and has not left the host.
//!
//! While a next hop does not answer, the kernel keeps up to `unres_qlen_bytes` of packets for it,
//! behind every hook that a rule could be at, and sends them when it does (`neigh_event_send` in
//! net/core/neighbour.c): seconds later, with a source that its sender may have lost meanwhile.

use super::Planner;
use crate::op::Op;
use crate::steps::Steps;

impl Planner {
    /// The steps in their order, and behind them what those need that end flows.
    pub(super) fn ordered(&self, steps: Steps) -> Vec<Op> {
        self.and_waiting(steps.into_ops(|source| self.keep(source)))
    }

    /// Where flows end, so does what waits at any uplink.
    pub(super) fn and_waiting(&self, mut ops: Vec<Op>) -> Vec<Op> {
        let ends = |op: &Op| matches!(op, Op::ForgetFlows { .. });
        if ops.iter().any(ends) {
            ops.extend(self.drop_waiting());
        }
        ops
    }

    /// At each uplink.
    pub(super) fn drop_waiting(&self) -> impl Iterator<Item = Op> {
        let names = self.topology.uplinks.iter().filter_map(|uplink| {
            let interface = self.environment.interfaces.get(uplink)?;
            Some(interface.name.clone())
        });
        names.map(Op::DropWaiting)
    }
}
