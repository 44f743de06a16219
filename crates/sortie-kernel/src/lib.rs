//! What the plan asks of the Linux kernel: observe it, apply it, tell what changed.
//!
//! - [`netns`]: network namespaces.
//! - [`rtnl`]: the routing socket; [`facts`]: links, addresses, routes; [`watch`]: their changes.
//!
//! Everything works in the network namespace of the thread that opened it, and waits: callers with
//! an event loop give it a thread.

pub mod error;
pub mod facts;
pub mod netns;
pub mod rtnl;
pub mod watch;

#[cfg(test)]
mod testing;

pub use error::Error;
