//! The Mesos executor of a command task: tells the agent how the container fares, and the container what the agent wants.
//!
//! ```text
//!            commands                     effects                   calls
//! container <---------                  <---------                <---------
//!   owner              run (one select!)           core (PURE)                wire: http, or    agent
//!            --------->                  --------->                --------->       libprocess
//!             events                      inputs                    events
//! ```
//!
//! `wire` chooses how to speak: `http` from Mesos 0.28 on, `libprocess` with every version and as `mesos-docker-executor`.
//! `core` decides, with `updates` (what the agent is owed), `status` (how an end reads), `stdin` (the task's input, in order) and
//! `checks` (when to look whether the task is well) as its PURE parts; `probe` looks; `environment` is what the agent says at the start. The container belongs to its owner, behind the channels of [`crate::lifecycle`].

pub mod checks;
pub mod core;
pub mod environment;
pub mod http;
pub mod libprocess;
pub mod probe;
#[cfg(test)]
mod rig;
pub mod run;
mod status;
mod stdin;
mod updates;
pub mod wire;
