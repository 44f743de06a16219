//! Hosts, engines, uplinks and an observing internet in network namespaces.

mod capture;
mod checksum;
mod engine;
mod error;
pub mod frame;
mod host;
mod internet;
mod lab;
mod netns;
mod observer;
mod odd;
pub mod pki;
mod place;
mod process;
mod proof;
mod raw;
mod sctp;
mod snapshot;
mod space;
mod traffic;
mod wait;
mod whole;

pub use capture::{Capture, Direction, Frame};
pub use engine::{
    Container, ContainerSpec, DOCKER_SOCKET, Engine, EngineKind, EngineSpec, Executed, Firewall,
    NetworkSpec, PODMAN_SOCKET, built_program,
};
pub use error::{LabError, Result};
pub use host::{Host, HostSpec, Uplink, UplinkSpec};
pub use internet::Internet;
pub use lab::{Destination, Lab};
pub use netns::Netns;
pub use observer::{Lookup, Names, Observation, Observer, Protocol, Requested};
pub use odd::OddPackets;
pub use place::Place;
pub use process::{Outcome, Process};
pub use proof::Mark;
pub use raw::RawSocket;
pub use sctp::Association;
pub use snapshot::Snapshot;
pub use traffic::{ALL_TRAFFIC, Call, Traffic, greeted};
pub use wait::{SOON, eventually, eventually_true};
pub use whole::send_whole;
