//! The data path, in network namespaces: a workload whose connections are redirected to the gateway,
//! a host with two egress addresses, and origins outside that tell who called them. Every test
//! asserts the source that the origin saw. Needs root.
#![expect(clippy::unwrap_used, reason = "a test's own steps")]

mod http;
mod http2;
mod http2_client;
mod http2_origin;

mod inspect;
mod memory;
mod origin;
mod originate;
mod peers;
mod pki;
mod proxy;
mod refused;
mod tls;
mod world;
