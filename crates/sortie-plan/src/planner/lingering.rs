//! Addresses that no policy names any more, for as long as the gateway may still carry what began
//! with them. The kernel keeps its packets to addresses that it knows, and to their uplinks.

use std::net::IpAddr;
use std::time::Duration;

use sortie_api::policy::EgressPolicy;

use super::Planner;
use super::facts::egress_addresses;
use crate::steps::Steps;

/// How long the gateway lets a request that is on its way reach its end, and a little for what then
/// closes.
const FINISHES: Duration = Duration::from_secs(35);

impl Planner {
    /// Policies go. While anybody needs or asks the gateway, their addresses stay for a while: to be called
    /// before they are released.
    pub(super) fn linger(&mut self, gone: &EgressPolicy, steps: &mut Steps) {
        if !self.topology.by_gateway {
            return;
        }
        let drains = self.policies.values().filter_map(|it| it.on_change.drain());
        let until = self.now + drains.max().unwrap_or_default().max(FINISHES);
        for address in egress_addresses(gone) {
            if self.lingering.insert(address, until).is_none() {
                self.hold_address(address, steps);
            }
        }
    }

    /// Those whose time is over.
    pub(super) fn end_lingering(&mut self, steps: &mut Steps) {
        let now = self.now;
        let over = self.lingering.iter().filter(|(_, until)| **until <= now);
        for address in over.map(|(address, _)| *address).collect::<Vec<_>>() {
            self.lingering.remove(&address);
            self.release_address(address, steps);
        }
    }

    /// When the next one's is.
    pub(super) fn next_lingering(&self) -> Option<Duration> {
        self.lingering.values().min().copied()
    }

    /// Whether only the gateway may have it still.
    pub(super) fn only_lingers(&self, address: &IpAddr) -> bool {
        self.lingering.contains_key(address) && self.egress.holders(address) == 1
    }
}
