//! The resolver in the path: a workload's lookups pass through it on their way to the server that
//! the workload asked, and the kernel knows each answer's addresses before the client does.
//!
//! It is no resolver of its own: search lists, split DNS, Docker's names and the choice of servers
//! stay the workload's.
//!
//! - [`judge`] reads a client's message; [`Query`] is one lookup.
//! - [`Names`] says what policies want of a name ([`Interest`]).
//! - [`Answer`] reads the server's message, and writes what the client is told.
//! - [`Learn`] puts addresses into the kernel; [`settle`] decides when nobody can.
//! - [`Query::refuse`] answers without records, and says why ([`Code`]).
//! - `memory` is what clients were told. Which address means which decision, and what stands in
//!   where names share one, is the writer's to know (`sortie-plan`, `planner/names.rs`).
//!
//! All of that is pure: bytes in, bytes out. Inside, `wire` finds places in a message without
//! decoding it, `svcb` treats records that carry addresses as hints, and `cache` keeps answers.
//!
//! - [`serve`] does it all for the workloads that it is told of ([`Change`]). Their lookups are
//!   redirected to [`Listeners`] inside their network namespaces, which [`Inside`] opens; the
//!   servers are asked from inside too, so that the kernel decides those flows like any other's.
//! - [`Stub`] looks names up for the gateway, of the workload's servers and from inside too.
//! - [`Secure`] knows servers that are asked over TLS instead.
//! - [`Metrics`] counts.
#![forbid(unsafe_code)]

mod answer;
mod cache;
mod learn;
mod memory;
mod metrics;
mod name;
mod names;
mod question;
mod refusal;
mod secure;
mod server;
mod svcb;
mod wire;

pub use answer::{Answer, Told, Unreadable, fit};
pub use learn::{Answered, Learn, NotLearned, Settled, settle};
pub use metrics::{Metrics, Outcome};
pub use name::DnsName;
pub use names::{Interest, Learning, Names, Wanted};
pub use question::{Judged, Query, judge};
pub use refusal::Code;
pub use secure::{Connection, Opening, Secure, Way};
pub use server::{Change, Former, Found, Inside, Listeners, Settings, Stub, serve};
