//! Tests against the real kernel, each in a network namespace of its own. They need root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "netns/batches.rs"]
mod batches;
#[path = "netns/conntrack.rs"]
mod conntrack;
#[path = "netns/log.rs"]
mod log;
#[path = "netns/monitor.rs"]
mod monitor;
#[path = "netns/namespace.rs"]
mod namespace;
#[path = "netns/objects.rs"]
mod objects;
#[path = "netns/oracle.rs"]
mod oracle;
#[path = "netns/ownership.rs"]
mod ownership;
#[path = "netns/roundtrip.rs"]
mod roundtrip;
#[path = "netns/rules.rs"]
mod rules;
