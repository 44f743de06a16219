//! What is wrong behind the uplinks that egress addresses leave by.

use std::collections::BTreeSet;

use sortie_kernel::reach::trouble;
use sortie_plan::environment::NextHop;
use sortie_plan::resolve::Addresses;

use super::Core;
use crate::api::Problem;

impl Core {
    /// Nothing arrives by them, and nothing leaves by another one instead.
    pub(super) fn uplink_problems(&mut self) -> Vec<Problem> {
        let environment = self.planner.environment();
        let used: BTreeSet<_> = self
            .planner
            .egress_addresses()
            .filter_map(|address| {
                let (uplink, v6) = (self.planner.uplink(address)?, address.is_ipv6());
                let gateway = match environment.next_hop(uplink, v6) {
                    Some(NextHop::Via(gateway)) => Some(gateway),
                    Some(NextHop::OnLink) | None => None,
                };
                Some((environment.name_of(uplink), gateway))
            })
            .collect();
        let mut problems = Vec::new();
        for (device, gateway) in used {
            match trouble(self.kernel.rtnetlink(), &device, gateway) {
                Ok(None) => {}
                Ok(Some(trouble)) => {
                    let problem = Problem {
                        object: format!("uplink {device}"),
                        message: format!(
                            "{trouble}: what has an egress address there reaches nobody beyond it, and leaves by no other uplink"
                        ),
                    };
                    // Of both families.
                    if !problems.contains(&problem) {
                        problems.push(problem);
                    }
                }
                Err(error) => tracing::warn!(%error, device, "an uplink cannot be looked at"),
            }
        }
        problems
    }
}
