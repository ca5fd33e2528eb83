//! The external containerizer as a slave uses it: the real binary, real frames, real Docker.

#![allow(clippy::unwrap_used, reason = "tests")]

mod agent;
mod checks;
mod disks;
mod executors;
mod faults;
mod fetches;
#[path = "../harness/mod.rs"]
mod harness;
mod input;
mod many;
mod operator;
mod pulls;
mod recorded;
mod recovery;
mod registry;
mod slave;
mod spec;
mod tasks;
mod verbs;
