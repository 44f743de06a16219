//! End to end over the built binary: real engines in lab hosts, and what the other side saw.

#[macro_use]
mod stage;
mod sender;

mod address;
mod agent;
mod containers;
mod destinations;
mod lifecycle;
mod ports;
mod recycled;
