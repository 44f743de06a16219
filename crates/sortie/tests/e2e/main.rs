//! End to end over the built binary: real engines in lab hosts, and what the other side saw.

#[macro_use]
mod stage;
mod sender;

mod address;
mod agent;
mod alone;
mod article;
mod audit;
mod boot;
mod bypass;
mod change;
mod compose;
mod containers;
mod destinations;
mod direct;
mod doctor;
mod down;
mod every_step;
mod faults;
mod host_network;
mod inbound;
mod leak;
mod lifecycle;
mod matrix;
mod metrics;
mod odd;
mod plain;
mod podman;
mod ports;
mod proof;
mod protocols;
mod recycled;
mod refusals;
mod run;
mod source_ports;
mod swarm;
mod systemd;
mod upgrade;
mod uplinks;
mod wire;
mod wrapper;
