//! Pure decisions: who leaves with which address, what the kernel must hold for it, what changes.
//!
//! - [`nft`]: a ruleset as data: tables, chains, rules, sets, elements; [`nft::text`] prints it.
//! - [`state`]: all that Sortie wants of, or has found on, one host.
//! - [`doctor`]: what on a host is in the way, found from facts.
//! - [`redirect`]: what leads a workload's lookups and connections to the resolver and the gateway.
//! - [`op`]: the steps from one state to another.
#![forbid(unsafe_code)]

pub mod compile;
pub mod counted;
pub mod diff;
pub mod doctor;
pub mod environment;
pub mod explain;
#[cfg(test)]
mod fake;
pub mod flow;
mod interned;
pub mod mark;
pub mod named;
pub mod nft;
pub mod op;
pub mod planner;
pub mod precedence;
pub mod ranges;
pub mod reason;
pub mod redirect;
pub mod resolve;
pub mod state;
pub mod steps;
