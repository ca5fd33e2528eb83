//! What runs on an agent: the external containerizer's verbs, and the executor that owns a task's container.
//!
//! ```text
//! slave -> commands/{launch,update,usage,wait,destroy,containers,recover} -> store (state directories, locks)
//!              launch --ready pipe--> supervisor (detached) -> docker (the only file that talks bollard)
//!                                        `-> executor (PURE core) <-> its wires <-> agent
//! ```

pub mod docker_executor_flags;
pub mod executor;
pub mod lifecycle;
