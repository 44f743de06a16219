//! End to end over the built binary: real engines in lab hosts, and what the other side saw.

mod stage;

mod article;
mod containers;
mod down;
mod odd;
mod proof;
mod refusals;
mod run;
