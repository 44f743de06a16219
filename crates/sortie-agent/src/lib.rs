//! The loop from sources to kernel to proof, and its admin API.
//!
//! - [`holder`]: the small parent process whose socket owns the tables, and that restarts the rest.
//! - [`agent`]: starts the sources, the core and the server of one host.
//! - [`foreground`]: the same core for one `sortie run`, on a host without an agent.
//! - [`core`]: the one thread that decides and acts: facts in, plan, steps to the kernel.
//! - [`host`]: what the plan must know of the host, from the kernel's facts.
//! - [`policies`]: the policy folder, and the last good copy of it.
//! - [`standing`]: what still stands while the agent is away.
//! - [`runtime`]: the OCI runtime that holds a container's start until its decision is in force.
//! - [`gateway`]: the resolver for workloads whose policies speak of names, a process of its own.
//! - [`proof`]: flows and drops as the kernel reports them, with the workload each belongs to.
//! - [`source_ports`]: how many of an egress address's source ports are used.
//! - [`server`]: the admin API; [`api`] has its shapes, [`client`] is its caller's side.
//! - [`doctor`]: what on the host is in the way, with or without an agent.
//! - [`metrics`]: the same for Prometheus.
//! - [`verify`]: connections from inside workloads, by [`probe`], to an observer such as [`observe`].

pub mod agent;
pub mod api;
pub mod client;
pub mod core;
pub mod doctor;
pub mod error;
pub mod foreground;
pub mod gateway;
pub mod holder;
pub mod host;
mod lock;
pub mod metrics;
pub mod observe;
mod overheard;
pub mod policies;
pub mod probe;
mod process;
pub mod proof;
pub mod runtime;
pub mod server;
pub mod source_ports;
pub mod standing;
mod systemd;
pub mod verify;

pub use agent::{Options, down, down_by_force, run};
pub use error::Error;
