//! Where workloads come from: container engines and local processes.
//!
//! - [`docker`]: an engine's containers and networks as one stream of
//!   [`Change`](sortie_api::workload::Change)s. Events tell when to look, the engine tells
//!   what a container is, and its network namespace tells which port of the host it is behind.
//! - [`simulated`]: any number of made-up workloads, for benches.
//!
//! Inside: `netns` enters a namespace on a thread of its own, `rtnetlink` asks the kernel there,
//! `interfaces` puts the two ends of each virtual cable together, `ports` tells of new ones, and
//! `cgroup` knows those that have none; `bolt` reads Podman's database.
#![forbid(unsafe_code)]

mod bolt;
pub mod cgroup;
pub mod docker;
mod error;
mod interfaces;
mod netns;
mod ports;
mod rtnetlink;
pub mod simulated;

pub use error::Error;
