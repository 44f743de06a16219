//! The policy language: what users write, and the workloads it selects.
//!
//! - [`policy`]: [`EgressPolicy`](policy::EgressPolicy) as written in YAML, with every field's meaning.
//! - [`workload`]: what an engine tells about a container or process, and the selectors over it.
#![forbid(unsafe_code)]

pub mod policy;
pub mod workload;
