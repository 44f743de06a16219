//! The policy language: what users write, and the workloads it selects.
//!
//! - [`policy`]: [`EgressPolicy`](policy::EgressPolicy) as written in YAML, with every field's
//!   meaning; [`policy::parse`], and [`PolicySet`](policy::PolicySet) for a folder of files.
//! - [`label`]: the shortcuts, as labels of containers and networks.
//! - [`labels`]: a workload's labels, in little memory.
//! - [`config`]: the agent's own file.
//! - [`workload`]: what an engine tells about a container or process, and the selectors over it.
//! - [`subject`]: the subject of a certificate, as policies name it.
//! - [`problem`]: what is wrong in a file, with its place and what to write instead.
//!
//! A file's text becomes a tree with places (`yaml`), from which typed fields are read
//! (`reader`) and checked (`name`, `address`); all that is wrong is gathered on the way.
#![forbid(unsafe_code)]

pub mod config;
pub mod label;
pub mod labels;
pub mod mark_mask;
pub mod policy;
pub mod problem;
pub mod subject;
pub mod workload;

mod address;
mod name;
mod reader;
mod suggest;
mod yaml;
