//! The loop from sources to kernel to proof, and its admin API.
//!
//! - [`api`]: what the agent and its clients say to each other.
//! - [`client`]: the admin API from the caller's side.
//! - [`observe`]: tells callers the address they are seen with.
//! - [`probe`]: asks an observer from inside a workload's network namespace.

pub mod api;
pub mod client;
pub mod observe;
pub mod probe;
