//! One table of scenarios, three masters: what holds on our own cluster holds on real Apache Mesos 1.8.1 and 1.11.0.
//!
//! Each test is one master: it starts a cluster of two agents, runs every scenario of the table on it, and prints a line
//! for each. Differences between the masters that remain are in `docs/masters.md`.

#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::print_stdout, reason = "the table is what these tests show")]

mod authentication;
mod cluster;
mod custom;
mod faults;
mod flags;
mod framework;
#[path = "../harness/mod.rs"]
mod harness;
mod input;
mod pymesos;
mod restart;
mod run;
mod scenario;
mod table;
mod tls;
mod transcript;

use cluster::{Cluster, Master};

#[test]
fn the_table_holds_on_the_embedded_master() {
    run::all(&Cluster::start(Master::Local, &[]));
}

#[test]
fn the_table_holds_on_mesos_1_8_1() {
    run::all(&Cluster::start(Master::Mesos("1.8.1"), &[]));
}

#[test]
fn the_table_holds_on_mesos_1_11_0() {
    run::all(&Cluster::start(Master::Mesos("1.11.0"), &[]));
}
