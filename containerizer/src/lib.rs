//! What runs on an agent: the external containerizer's verbs, and the executor that owns a task's container.
//!
//! ```text
//! slave -> commands/{launch,update,usage,wait,destroy,containers,recover} -> store (state directories, locks)
//!              launch --ready pipe--> supervisor (detached) -> docker (the only file that talks bollard)
//!                 spec (PURE): message -> create options  `-> executor (PURE core) <-> its wires <-> agent
//! operator's hands -> operator/{doctor,ps,inspect,gc} -> what store and engine remember
//! ```

mod commands;
pub mod docker;
pub mod docker_executor;
pub mod docker_executor_flags;
pub mod environment;
pub mod executor;
pub mod lifecycle;
mod memory_events;
pub mod operator;
pub mod process;
pub mod spec;
pub mod store;
pub mod supervisor;
pub mod usage;

pub use commands::{Error, Problem, Verb, run};
pub use environment::Environment;
pub use supervisor::supervise;
