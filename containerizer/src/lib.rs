//! What runs on an agent: the external containerizer's verbs, and the executor that owns a task's container.
//!
//! ```text
//! slave -> commands/{launch,update,usage,wait,destroy,containers,recover} -> store (state directories, locks)
//!              launch --ready pipe--> supervisor (detached) -> docker (alone talks bollard)
//!                 spec (PURE): message -> create options  |-> executor (PURE core) <-> its wires <-> agent
//!                 config: what the operator decides       |-> fetcher: URIs -> sandbox, by a process of the task's user
//!                                                         |-> pull: image, credentials, one pull per host
//!                                                         `-> hooks: the operator's programs
//! operator's hands -> operator/{doctor,ps,inspect,gc} -> what store and engine remember
//! ```

mod commands;
pub mod config;
pub mod container_dns;
mod credentials;
pub mod docker;
pub mod docker_executor;
pub mod docker_executor_flags;
pub mod environment;
pub mod executor;
pub mod fetcher;
mod hooks;
mod inside;
pub mod lifecycle;
mod memory_events;
pub mod operator;
pub mod process;
mod pull;
pub mod spec;
pub mod store;
pub mod supervisor;
pub mod usage;

pub use commands::{Error, Problem, Verb, run};
pub use environment::Environment;
pub use supervisor::supervise;
