//! What the kernel must hold for given policies, workloads and host: never a rule per workload,
//! only elements.
//!
//! - [`base`]: the tables that are always there: chains, empty sets.
//! - `bridge`: of these, the one of bridges.
//! - [`policy_set`]: chains and maps for one list of policies, shared by all workloads with it.
//! - [`treatment`]: what one list of policies means for one family.
//! - [`workload`]: the elements of one workload.
//! - `inbound`: addresses that nobody may connect to from outside.
//! - `gateway`: what the gateway sends itself.
//! - [`steering`]: leaving by an uplink that the host's routes would not take.
//! - [`sockets`]: workloads in the host's network namespace, known by their cgroup.
//! - `statement`: statements and chains in few words.
//! - [`shared`]: the elements that workloads share, and what is outside nftables.

pub mod base;
mod bridge;
mod gateway;
mod inbound;
pub mod policy_set;
pub mod shared;
pub mod sockets;
pub(crate) mod statement;
pub mod steering;
pub mod treatment;
pub mod workload;
