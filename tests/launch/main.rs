//! The real binary, end to end on real Docker: exit code, exact bytes, nothing left behind.

#![allow(clippy::unwrap_used, reason = "tests")]

mod cluster;
mod container;
mod exit;
mod failover;
mod failures;
#[path = "../harness/mod.rs"]
mod harness;
mod input;
mod manners;
mod messages;
mod output;
mod runs;
mod signals;
mod terminal;
mod transcripts;
