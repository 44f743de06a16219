//! Flows of before a policy, of workloads in the host's network namespace: nobody knew whose they
//! were when they began.

use nfnetlink::conntrack::Tuple;

use super::Core;

impl Core {
    /// Such a workload goes on with one, and its packet was dropped: the flow ends, so that the next
    /// packet begins another.
    pub(crate) fn end_earlier(&mut self, flow: &Tuple) {
        if let Err(error) = self.kernel.forget_earlier(flow) {
            tracing::warn!(%error, "a flow of before a policy goes on, and its packets are dropped");
        }
    }
}
