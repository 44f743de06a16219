//! What closes the way out of `sortie run` when its process is killed.
//!
//! Without an agent the guard's tables end with the process, in the middle of anything. This table
//! does not: behind every source NAT and the guard, it drops what comes from the command's
//! interface and was not let through by that guard. So there is no moment in which the interface is
//! there and its packets are not looked at. Whoever comes next takes it away behind the interface.

#[cfg(test)]
mod tests;

use nfnetlink::chain::{ChainType, HookPoint};
use nfnetlink::expr::{CmpOp, Exprs, selectors};
use nfnetlink::{Batch, Chain, Family, Rule, Table};
use sortie_plan::environment::Priorities;
use sortie_plan::mark::Mark;

use crate::error::{Error, netfilter};
use crate::failpoint::Step;
use crate::kernel::Kernel;

/// A table of its own: it must outlive the others, and is not owned.
const TABLE: &str = "sortie-gate";
const CHAIN: &str = "gate";

impl Kernel {
    /// From now on only what the guard marks leaves from this interface, and nothing without it.
    pub fn close_behind(&mut self, interface: &str) -> Result<(), Error> {
        let object = || interface.to_owned();
        self.step(Step::AddGate, object, |kernel| {
            let mut batch = Batch::new();
            batch.add_table(&Table::new(Family::Inet, TABLE));
            batch.add_chain(&Chain::base(
                Family::Inet,
                TABLE,
                CHAIN,
                ChainType::Filter,
                HookPoint::POSTROUTING,
                Priorities::default().guard + 1,
            ));
            let from = || Exprs::new(Family::Inet).eq(selectors::META_IIFNAME, interface);
            let (mask, pass) = (Mark::PASS.mask(), Mark::PASS.value());
            let marked = from().masked(selectors::META_MARK, mask, CmpOp::EQ, pass);
            for rule in [marked.accept(), from().drop()] {
                batch.add_rule(&Rule::new(Family::Inet, TABLE, CHAIN, rule));
            }
            kernel
                .nft
                .commit(&batch)
                .map_err(netfilter("make the gate of `sortie run`"))
        })
    }

    /// Takes every gate away; whether there was one.
    pub fn remove_gate(&mut self) -> Result<bool, Error> {
        let found = self
            .nft
            .table(Family::Inet, TABLE)
            .map_err(netfilter("look for a gate of `sortie run`"))?;
        if found.is_none() {
            return Ok(false);
        }
        self.step(
            Step::DeleteGate,
            || TABLE.to_owned(),
            |kernel| {
                let mut batch = Batch::new();
                batch.destroy_table(Family::Inet, TABLE);
                kernel
                    .nft
                    .commit(&batch)
                    .map_err(netfilter("remove the gate of `sortie run`"))
            },
        )?;
        Ok(true)
    }
}
