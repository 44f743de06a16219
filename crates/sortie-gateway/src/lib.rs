//! The L7 gateway: a workload's source address by host name and by HTTP path.
//!
//! ```text
//! workload ─► redirected to a listener in its own namespace ─► first bytes ─┬ HTTP: each request ─┐
//!                                                                           ├ TLS: its name       ├► decide
//!                                                                           └ else: its address   ┘    │
//! origin ◄─ bound to the source, with the mark ◄─ addresses that may be called ◄─ resolve ◄────────────┘
//! ```
//!
//! HTTP is HTTP/1.1 and HTTP/2 (so gRPC), the latter where a client speaks it without asking; it goes
//! on as what it came as.
//!
//! TLS of names for which a policy says so is looked into: taken off with a certificate of the
//! operator's CA ([`tls::Inspection`]), and begun anew with the origin.
//!
//! A client may also ask the gateway as a proxy (whole URLs, CONNECT, SOCKS5): the decisions are the
//! same, but it must prove who it is.
//!
//! - [`Gateway`]: starts the threads, takes listeners, drains. [`Config`]: its limits.
//! - [`decide`]: what it asks: how a request leaves, which addresses a name has.
//! - [`meter`]: what it counts.
//! - [`refusal`]: what a client is told when its request does not go on.
//! - [`Outgoing`]: a connection over TLS for the gateway itself, with a decided source.
//! - [`private`]: addresses that a public name must not lead to.
//!
//! Pure, without sockets:
//! - [`http1`]: a strict HTTP/1 codec. What two programs could read in two ways is refused.
//! - [`tls::client_hello`]: the name that a TLS client asks for.
//!
//! One thread for each core accepts, decides and carries; nothing is shared between cores. Pure
//! decisions are the caller's, so that the kernel, the resolver and the gateway answer alike.
#![forbid(unsafe_code)]

pub mod decide;
pub mod http1;
pub mod meter;
pub mod private;
pub mod refusal;
pub mod tls;

mod body;
mod buffer;
mod carrier;
mod connection;
mod deadline;
mod flight;
mod log;
mod pool;
mod pump;
mod secured;
mod serve;
mod socket;
mod stream;
mod token;
mod upstream;

pub use log::AccessLog;
pub use secured::Outgoing;
pub use serve::{Config, Gateway, Outside, SeenSource};
pub use token::TokenHash;
