//! What the plan asks of the Linux kernel: observe it, apply it, tell what changed.
//!
//! - [`kernel`]: the one writer of a network namespace: [`Kernel::apply`] does a plan's steps,
//!   [`Kernel::observe`](Kernel::observe) reads what is there of ours.
//! - [`facts`]: links, addresses, routes; [`watch`]: their changes; [`sysctl`]: settings.
//! - [`reach`]: whether uplinks lead anywhere.
//! - [`tables`]: what others do to our tables, where they can.
//! - [`link`]: the veth pairs of `run` and `attach`; [`netns`]: network namespaces.
//! - `own`: addresses that containers have themselves; `redirect`: what leads a workload's lookups
//!   and connections elsewhere, inside its namespace; `notes`: files that say what was changed.
//! - [`senders`]: which cgroup made the socket that the host itself sent a packet from.
//! - [`survey`]: what `sortie doctor` looks at, read and never changed.
//! - [`probe`]: which features the kernel has; [`failpoint`]: where tests make steps fail.
//!
//! Inside, [`rtnl`] is the routing socket, [`lower`] the plan's ruleset in nf_tables' terms.
//! Connection events and dropped packets come straight from `nfnetlink`.
//!
//! Everything works in the network namespace of the thread that opened it, and waits: callers with
//! an event loop give it a thread.

mod announce;
pub mod error;
pub mod facts;
pub mod failpoint;
pub mod flows;
mod forwarded;
mod gate;
pub mod kernel;
pub mod link;
pub mod lower;
pub mod netns;
mod network;
mod notes;
pub mod observe;
mod own;
pub mod probe;
pub mod reach;
mod redirect;
pub mod rtnl;
pub mod senders;
pub mod survey;
pub mod sysctl;
pub mod tables;
mod waiting;
pub mod watch;

#[cfg(test)]
mod testing;

pub use error::Error;
pub use kernel::Kernel;
pub use own::Look;
