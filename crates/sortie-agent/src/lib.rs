//! The loop from sources to kernel to proof, and its admin API.
//!
//! - [`api`]: what the agent and its clients say to each other.

pub mod api;
